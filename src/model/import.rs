//! The import of accounts from another system: what a row says, and what becomes of it.

mod plan;

use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

use zeroize::Zeroizing;

use super::{Email, Roles, Timestamp, UserId};

pub use self::plan::{ImportClaim, KnownAccounts, plan_import};

/// How far the clock of the other system may be ahead.
const CLOCK_SKEW: Duration = Duration::from_mins(1);
/// 0001-01-01T00:00:00Z, the first moment of `google.protobuf.Timestamp`.
const FIRST: Timestamp = Timestamp::from_micros(-62_135_596_800_000_000);

/// A row of an import, as it was sent. Empty texts are absent values.
#[derive(Clone)]
pub struct ImportRow {
    pub user_id: String,
    pub email: String,
    pub password_hash: Zeroizing<String>,
    pub email_verified_at: Option<Timestamp>,
    pub created_at: Option<Timestamp>,
    pub roles: Vec<String>,
}

/// The account that a row describes. Its password hash is not parsed.
pub struct ImportedAccount {
    /// `None`: the account gets a new id.
    pub user_id: Option<UserId>,
    pub email: Email,
    /// Empty: the account has no usable password.
    pub password_hash: Zeroizing<String>,
    pub email_verified_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub roles: Roles,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imported {
    Created(UserId),
    /// The account with this address. Nothing of it has changed.
    Unchanged(UserId),
    Rejected(Rejection),
}

/// Why a row changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Another account has the address, or can still take it back.
    EmailTaken,
    /// An account with another address has the id.
    UserIdTaken,
    Invalid {
        field: &'static str,
        /// Never contains the value.
        problem: String,
    },
}

impl Rejection {
    pub fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::Invalid { field, problem }
    }
}

/// The `reason` of a result.
impl Display for Rejection {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmailTaken => f.write_str("EMAIL_TAKEN"),
            Self::UserIdTaken => f.write_str("USER_ID_TAKEN"),
            Self::Invalid { field, problem } => write!(f, "{field}: {problem}"),
        }
    }
}

impl ImportRow {
    pub fn parse(self, now: Timestamp) -> Result<ImportedAccount, Rejection> {
        let past = |field, time: Option<Timestamp>| match time {
            Some(time) if time > now + CLOCK_SKEW => {
                Err(Rejection::invalid(field, "must not be in the future"))
            }
            Some(time) if time < FIRST => {
                Err(Rejection::invalid(field, "must not be before the year 1"))
            }
            time => Ok(time),
        };
        Ok(ImportedAccount {
            user_id: parse_user_id(&self.user_id)?,
            email: parse_email(&self.email)?,
            password_hash: self.password_hash,
            email_verified_at: past("email_verified_at", self.email_verified_at)?,
            created_at: past("created_at", self.created_at)?.unwrap_or(now),
            roles: Roles::parse(&self.roles)
                .map_err(|problem| Rejection::invalid("roles", problem))?,
        })
    }
}

/// A UUID of any version. The nil UUID stands for none in other systems.
fn parse_user_id(text: &str) -> Result<Option<UserId>, Rejection> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = |problem| Rejection::invalid("user_id", problem);
    let id = UserId::parse(text).ok_or_else(|| invalid("must be a UUID"))?;
    if id.as_bytes() == &[0; 16] {
        return Err(invalid("must not be the nil UUID"));
    }
    Ok(Some(id))
}

fn parse_email(text: &str) -> Result<Email, Rejection> {
    let parsed = if text.is_empty() {
        Err("must not be empty")
    } else {
        Email::parse(text)
    };
    parsed.map_err(|problem| Rejection::invalid("email", problem))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_764_024_172_000_001);
    const ID: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

    fn row() -> ImportRow {
        ImportRow {
            user_id: ID.to_owned(),
            email: " Ana@Example.com".to_owned(),
            password_hash: Zeroizing::default(),
            email_verified_at: None,
            created_at: None,
            roles: Vec::new(),
        }
    }

    fn reason(row: ImportRow) -> Option<String> {
        row.parse(NOW).err().map(|rejection| rejection.to_string())
    }

    #[test]
    fn a_row_describes_an_account() {
        let account = row().parse(NOW).ok().unwrap();
        assert_eq!(account.user_id, UserId::parse(ID));
        assert_eq!(account.email.as_str(), "ana@example.com");
        assert_eq!((account.created_at, account.email_verified_at), (NOW, None));
        assert!(account.password_hash.is_empty() && account.roles.is_empty());
    }

    #[test]
    fn an_id_is_any_uuid_but_the_nil_one() {
        let reason = |id: &str| {
            let user_id = id.to_owned();
            reason(ImportRow { user_id, ..row() })
        };
        let fresh = UserId::new(NOW).to_string();
        for id in ["", ID, &ID.to_uppercase(), &fresh] {
            assert_eq!(reason(id), None, "{id}");
        }
        for id in ["7", &ID[1..], &ID.replace('-', "")] {
            assert_eq!(reason(id).unwrap(), "user_id: must be a UUID");
        }
        let nil = "00000000-0000-0000-0000-000000000000";
        assert_eq!(reason(nil).unwrap(), "user_id: must not be the nil UUID");
    }

    #[test]
    fn an_address_is_required() {
        let reason = |email: &str| {
            let email = email.to_owned();
            reason(ImportRow { email, ..row() })
        };
        assert_eq!(reason("").unwrap(), "email: must not be empty");
        assert!(reason("ana").unwrap().starts_with("email: must be"));
    }

    #[test]
    fn times_are_in_the_past_but_clocks_may_differ() {
        for (time, problem) in [
            (
                FIRST - Duration::from_micros(1),
                Some("must not be before the year 1"),
            ),
            (FIRST, None),
            (NOW + CLOCK_SKEW, None),
            (
                NOW + CLOCK_SKEW + Duration::from_micros(1),
                Some("must not be in the future"),
            ),
        ] {
            let time = Some(time);
            let expected = |field: &str| problem.map(|problem| format!("{field}: {problem}"));
            let verified = ImportRow {
                email_verified_at: time,
                ..row()
            };
            assert_eq!(reason(verified), expected("email_verified_at"));
            let created = ImportRow {
                created_at: time,
                ..row()
            };
            assert_eq!(reason(created), expected("created_at"));
        }
    }

    #[test]
    fn a_reason_has_no_value() {
        let roles = vec!["Secret-Role".to_owned()];
        let reason = reason(ImportRow { roles, ..row() }).unwrap();
        assert!(reason.starts_with("roles: must") && !reason.contains("Secret"));
    }

    proptest! {
        #[test]
        fn no_row_makes_the_parser_panic(
            user_id in ".{0,40}", email in ".{0,40}", roles in prop::collection::vec(".{0,5}", 0..25),
            created_at: Option<i64>, email_verified_at: Option<i64>,
        ) {
            let time = |micros: Option<i64>| micros.map(Timestamp::from_micros);
            let row = ImportRow {
                user_id, email, roles,
                password_hash: Zeroizing::default(),
                created_at: time(created_at),
                email_verified_at: time(email_verified_at),
            };
            if let Ok(account) = row.parse(NOW) {
                prop_assert!(account.created_at <= NOW + CLOCK_SKEW);
            }
        }
    }
}
