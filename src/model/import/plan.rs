//! What becomes of the rows of a batch, as if they came one after the other.

use std::collections::{HashMap, HashSet};

use super::{Imported, Rejection};
use crate::model::UserId;

/// What a row asks for.
#[derive(Clone, Copy, Debug)]
pub struct ImportClaim<'a> {
    /// The normalised address.
    pub email: &'a str,
    /// The id that the account will have.
    pub id: UserId,
    /// Whether the row names it.
    pub is_given: bool,
}

/// The accounts that a batch can collide with.
#[derive(Clone, Debug, Default)]
pub struct KnownAccounts {
    /// By their addresses.
    pub accounts: HashMap<String, UserId>,
    /// Of all these accounts, and of those that have only the id of a row.
    pub ids: HashSet<UserId>,
    /// Addresses that an account had, and can still take back.
    pub reserved: HashSet<String>,
}

/// An account that is created counts as known for the rows after it.
pub fn plan_import<'a>(
    claims: impl IntoIterator<Item = ImportClaim<'a>>,
    mut known: KnownAccounts,
) -> Vec<Imported> {
    let plan = claims.into_iter().map(|claim| known.decide(claim));
    plan.collect()
}

impl KnownAccounts {
    fn decide(&mut self, claim: ImportClaim<'_>) -> Imported {
        let ImportClaim {
            email,
            id,
            is_given,
        } = claim;
        match self.accounts.get(email) {
            Some(owner) if !is_given || *owner == id => Imported::Unchanged(*owner),
            Some(_) => Imported::Rejected(Rejection::EmailTaken),
            None if self.ids.contains(&id) => Imported::Rejected(Rejection::UserIdTaken),
            None if self.reserved.contains(email) => Imported::Rejected(Rejection::EmailTaken),
            None => {
                self.ids.insert(id);
                self.accounts.insert(email.to_owned(), id);
                Imported::Created(id)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn id(number: u8) -> UserId {
        UserId::from_bytes([number; 16])
    }

    const fn named(email: &str, number: u8) -> ImportClaim<'_> {
        let id = id(number);
        ImportClaim {
            email,
            id,
            is_given: true,
        }
    }

    const fn unnamed(email: &str, number: u8) -> ImportClaim<'_> {
        ImportClaim {
            is_given: false,
            ..named(email, number)
        }
    }

    fn known(accounts: &[(&str, u8)]) -> KnownAccounts {
        let ids = accounts.iter().map(|(_, number)| id(*number));
        let accounts = accounts
            .iter()
            .map(|(email, number)| ((*email).to_owned(), id(*number)));
        KnownAccounts {
            ids: ids.collect(),
            accounts: accounts.collect(),
            reserved: HashSet::from(["reserved".to_owned()]),
        }
    }

    const EMAIL_TAKEN: Imported = Imported::Rejected(Rejection::EmailTaken);
    const USER_ID_TAKEN: Imported = Imported::Rejected(Rejection::UserIdTaken);

    #[test]
    fn a_known_address_is_unchanged_unless_the_row_names_another_id() {
        let claims = [named("ana", 1), unnamed("ana", 8), named("ana", 9)];
        let expected = [
            Imported::Unchanged(id(1)),
            Imported::Unchanged(id(1)),
            EMAIL_TAKEN,
        ];
        assert_eq!(plan_import(claims, known(&[("ana", 1)])), expected);
    }

    #[test]
    fn an_id_of_another_account_and_a_reserved_address_are_taken() {
        let claims = [named("ben", 1), unnamed("reserved", 8), named("ben", 2)];
        let expected = [USER_ID_TAKEN, EMAIL_TAKEN, Imported::Created(id(2))];
        assert_eq!(plan_import(claims, known(&[("ana", 1)])), expected);
    }

    #[test]
    fn the_rows_of_a_batch_collide_with_each_other() {
        let claims = [
            named("ana", 1),
            unnamed("ana", 7),
            named("ana", 2),
            named("ben", 1),
            // The rejected row has not taken the id.
            named("ben", 2),
        ];
        let expected = [
            Imported::Created(id(1)),
            Imported::Unchanged(id(1)),
            EMAIL_TAKEN,
            USER_ID_TAKEN,
            Imported::Created(id(2)),
        ];
        assert_eq!(plan_import(claims, known(&[])), expected);
    }

    proptest! {
        /// Against a list of accounts to which one row after the other is added.
        #[test]
        fn a_batch_is_its_rows_one_by_one(
            rows in prop::collection::vec(("[a-d]", 0..6_u8, any::<bool>()), 0..20),
            before in prop::collection::hash_map("[a-d]", 0..6_u8, 0..3),
        ) {
            let mut accounts: Vec<(&str, u8)> = Vec::new();
            for (email, number) in &before {
                if accounts.iter().all(|(_, other)| other != number) {
                    accounts.push((email, *number));
                }
            }
            let claims = rows.iter().zip(100..).map(|((email, number, is_given), fresh)| {
                if *is_given { named(email, *number) } else { unnamed(email, fresh) }
            });
            let planned = plan_import(claims.clone(), known(&accounts));
            for (claim, planned) in claims.zip(planned) {
                let number = claim.id.as_bytes()[0];
                let owner = accounts.iter().find(|(email, _)| *email == claim.email);
                let expected = match owner {
                    Some((_, owner)) if !claim.is_given || *owner == number => {
                        Imported::Unchanged(id(*owner))
                    }
                    Some(_) => EMAIL_TAKEN,
                    None if accounts.iter().any(|(_, other)| *other == number) => USER_ID_TAKEN,
                    None => {
                        accounts.push((claim.email, number));
                        Imported::Created(claim.id)
                    }
                };
                prop_assert_eq!(planned, expected);
            }
        }
    }
}
