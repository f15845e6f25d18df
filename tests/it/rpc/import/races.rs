//! Imports beside registrations, changes of addresses and other imports.

use std::collections::BTreeSet;

use auth_service::proto;
use futures::future::join_all;
use tonic::Code;

use super::{ANA, ID, OTHER_ID, named};
use crate::{
    harness::{both, import, login, outcome, outcomes, reason, refresh, register, row, rows},
    rpc::recovery::{Mailing, mailing},
};

const ROUNDS: usize = 6;

/// Another one on the same database: a replica writes one batch at a time.
async fn replica(of: &Mailing) -> Mailing {
    mailing(of.0.database.clone(), &[]).await
}

both! {
    async fn an_import_beside_registrations_makes_each_account_once(mailing: Mailing) {
        for round in 0..ROUNDS {
            let emails: Vec<_> = (0..8).map(|n| format!("user-{round}-{n}@example.com")).collect();
            let rows = emails.iter().map(|email| row(email)).collect();
            let registrations = emails.iter().step_by(2).map(|email| {
                let mut client = mailing.0.client();
                async move { client.register(register(email)).await }
            });
            let held = mailing.hold().await;
            let ((results, ended), registered, ()) = tokio::join!(
                import(mailing.importer(), rows),
                join_all(registrations),
                mailing.release(held, 5),
            );
            ended.expect("a race is no error");
            for (n, registered) in registered.into_iter().enumerate() {
                let result = &results[2 * n];
                match registered {
                    Ok(user) => {
                        assert_eq!(outcome(result), "UNCHANGED");
                        assert_eq!(result.user_id, user.into_inner().user_id);
                    }
                    Err(status) => {
                        assert_eq!(reason(&status), (Code::AlreadyExists, "EMAIL_TAKEN".to_owned()));
                        assert_eq!(outcome(result), "CREATED");
                    }
                }
            }
            mailing.assert_each_announced_once(8 * (round + 1)).await;
        }
    }

    async fn two_imports_of_the_same_rows_make_each_account_once(mailing: Mailing) {
        let replica = replica(&mailing).await;
        let rows = rows(100);
        let reversed: Vec<_> = rows.iter().rev().cloned().collect();
        let held = mailing.hold().await;
        let ((one, ended), (other, also_ended), ()) = tokio::join!(
            import(mailing.importer(), rows),
            import(replica.importer(), reversed),
            mailing.release(held, 2),
        );
        ended.and(also_ended).expect("a race is no error");
        for (result, twin) in one.iter().zip(other.iter().rev()) {
            let outcomes = BTreeSet::from([outcome(result), outcome(twin)]);
            assert!(outcomes.into_iter().eq(["CREATED", "UNCHANGED"]));
            assert_eq!(result.user_id, twin.user_id);
        }
        mailing.assert_each_announced_once(100).await;
    }

    /// Each waits for a row of the other, in whatever order their rows are written.
    async fn two_imports_with_the_ids_of_the_other_make_each_account_once(mailing: Mailing) {
        let replica = replica(&mailing).await;
        let created = |outcomes: &[String]| outcomes.iter().filter(|it| *it == "CREATED").count();
        for round in 0..ROUNDS {
            let id = |id: &str| format!("{round}{}", &id[1..]);
            let (first, second) = (id(ID), id(OTHER_ID));
            let row = |n: u8, id: &str| named(&format!("user-{round}-{n}@example.com"), id);
            let held = mailing.hold().await;
            let ((one, ended), (other, also_ended), ()) = tokio::join!(
                import(mailing.importer(), vec![row(0, &first), row(3, &second)]),
                import(replica.importer(), vec![row(1, &second), row(2, &first)]),
                mailing.release(held, 2),
            );
            ended.and(also_ended).expect("a race is no error");
            let (one, other) = (outcomes(&one), outcomes(&other));
            assert_eq!(created(&one) + created(&other), 2, "{one:?} {other:?}");
            mailing.assert_each_announced_once(2 * (round + 1)).await;
        }
    }

    async fn an_import_of_the_old_address_beside_its_change_never_has_it(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let mail = mailing.asked(&ana, "ana@example.org").await;
        let mut recovery = mailing.recovery();
        let confirm = proto::ConfirmEmailRequest { token: mail.token.clone() };
        let held = mailing.hold().await;
        let (changed, (results, ended), ()) = tokio::join!(
            recovery.confirm_email(confirm),
            import(mailing.importer(), vec![named(ANA, ID), named("ben@example.com", OTHER_ID)]),
            mailing.release(held, 2),
        );
        changed.expect("the new address is free");
        ended.expect("a race is no error");
        assert_eq!(outcomes(&results), ["REJECTED EMAIL_TAKEN", "CREATED"]);
    }

    async fn users_log_in_and_refresh_during_an_import(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let mut token = ana.tokens.refresh_token;
        let mut importing = std::pin::pin!(import(mailing.importer(), rows(3000)));
        let mut calls = 0;
        let results = loop {
            let call = async {
                let mut client = mailing.0.client();
                client.login(login(ANA)).await.expect("logs in");
                client.refresh(refresh(&token)).await.expect("refreshes").into_inner()
            };
            tokio::select! {
                refreshed = call => {
                    token = refreshed.tokens.expect("tokens").refresh_token;
                    calls += 1;
                }
                (results, ended) = &mut importing => {
                    ended.expect("no error");
                    break results;
                }
            }
        };
        assert!(calls > 0);
        assert_eq!(results.len(), 3000);
    }
}
