//! What a row says, and what is wrong with a malformed one.

use std::time::Duration;

use auth_service::{
    model::{StoredHash, Timestamp},
    proto,
};
use tonic::Request;

use super::{ANA, ID, created, named};
use crate::{
    harness::{START, both, import, outcome, row},
    rpc::recovery::Mailing,
};

const HASH: &str = "$2y$04$qjU0gwiVoLUtA/vKS/y7JehSoX5LNTiVRPTJbCKt8dLZHuEUsz4FS";
const YEAR: Duration = Duration::from_hours(365 * 24);
const MINUTE: Duration = Duration::from_mins(1);

fn time(time: Timestamp) -> prost_types::Timestamp {
    time.into()
}

fn hashed(hash: &str) -> proto::ImportUser {
    proto::ImportUser {
        password_hash: hash.to_owned(),
        ..row(ANA)
    }
}

/// A row with all fields.
fn full() -> proto::ImportUser {
    proto::ImportUser {
        user_id: ID.to_uppercase(),
        email: " Ana@Example.COM".to_owned(),
        password_hash: HASH.to_owned(),
        email_verified_at: Some(time(START - YEAR)),
        created_at: Some(time(START - 2 * YEAR)),
        roles: vec!["moderator".to_owned(), "vip".to_owned()],
    }
}

both! {
    async fn a_row_becomes_an_account(mailing: Mailing) {
        let results = mailing.import(vec![full()]).await;
        assert_eq!((outcome(&results[0]).as_str(), &*results[0].user_id), ("CREATED", ID));
        let user = mailing.user(ID).await;
        assert_eq!((&*user.email, &user.roles[..]), (ANA, &["moderator".to_owned(), "vip".to_owned()][..]));
        assert_eq!((user.roles_version, user.event_version, user.sessions), (1, 1, 0));
        assert_eq!(user.created_at, Some(time(START - 2 * YEAR)));
        assert_eq!(user.password_changed_at, Some(time(START - 2 * YEAR)));
        assert_eq!(user.email_verified_at, Some(time(START - YEAR)));
        assert!(user.suspension.is_none());
    }

    async fn an_address_alone_is_an_account_without_a_password(mailing: Mailing) {
        let results = mailing.import(vec![row(ANA)]).await;
        let user = mailing.user(&results[0].user_id).await;
        assert_eq!(user.created_at, Some(time(START)));
        assert!(user.password_changed_at.is_none() && user.email_verified_at.is_none());
        assert!(user.roles.is_empty() && user.roles_version == 0);
        assert!(StoredHash::is_unusable(&mailing.0.database.stored_hash(ANA).await));
        assert_eq!(&results[0].user_id[14..15], "7", "a UUIDv7");
    }

    async fn each_account_is_announced_by_one_event(mailing: Mailing) {
        let mut request = Request::new(futures::stream::iter([full(), row("ben@example.com")]));
        request.metadata_mut().insert("x-actor", "mia".parse().unwrap());
        let mut results = mailing.importer().import_users(request).await.unwrap().into_inner();
        while results.message().await.unwrap().is_some() {}
        mailing.assert_each_announced_once(2).await;
        let expected = [(ANA, START - 2 * YEAR), ("ben@example.com", START)];
        let mut events = mailing.0.database.events().await;
        events.sort_by_key(|event| created(event.payload.clone()).email);
        for (event, (email, created_at)) in events.into_iter().zip(expected) {
            assert_eq!(event.actor, "admin:importer/mia");
            assert_eq!(event.occurred_at, Some(time(START)));
            let created = created(event.payload);
            assert_eq!((&*created.email, created.created_at), (email, Some(time(created_at))));
            assert!(created.imported);
        }
    }

    async fn a_malformed_row_is_rejected_with_its_field(mailing: Mailing) {
        let late = Some(time(START + MINUTE + Duration::from_micros(1)));
        let no_time = Some(prost_types::Timestamp { seconds: 0, nanos: -1 });
        let many = (0..21).map(|n| n.to_string()).collect();
        let malformed = [
            (named(ANA, "17"), "user_id: must be a UUID"),
            (named(ANA, "00000000-0000-0000-0000-000000000000"), "user_id: must not be the nil UUID"),
            (row(""), "email: must not be empty"),
            (row("ana"), "email: must be an e-mail address such as name@example.com"),
            (row(&"x".repeat(60_000)), "email: must be at most 254 bytes"),
            (hashed(&HASH.replace("$04$", "$31$")), "password_hash: the cost 31 is not between 4 and 16"),
            (
                hashed(&HASH.replace("$2y$", "$2x$")),
                "password_hash: the format is $2x$, a faulty variant of bcrypt; only bcrypt is supported",
            ),
            (
                hashed("$argon2id$v=19$m=1,t=1,p=1$c2FsdA$aGFzaA"),
                "password_hash: the format is argon2id; only bcrypt is supported",
            ),
            (hashed("hunter2"), "password_hash: an unknown format; only bcrypt is supported"),
            (
                proto::ImportUser { email_verified_at: late, ..row(ANA) },
                "email_verified_at: must not be in the future",
            ),
            (
                proto::ImportUser { email_verified_at: no_time, ..row(ANA) },
                "email_verified_at: is not a valid time",
            ),
            (proto::ImportUser { created_at: late, ..row(ANA) }, "created_at: must not be in the future"),
            (proto::ImportUser { created_at: no_time, ..row(ANA) }, "created_at: is not a valid time"),
            (
                proto::ImportUser { roles: vec!["Moderator".to_owned()], ..row(ANA) },
                "roles: must each have 1 to 64 characters a-z, 0-9, _ . : -, and begin with a letter or digit",
            ),
            (proto::ImportUser { roles: many, ..row(ANA) }, "roles: must be at most 20"),
        ];
        let (mut rows, reasons): (Vec<_>, Vec<_>) = malformed.into_iter().unzip();
        rows.push(row(ANA));
        let results = mailing.import(rows).await;
        for (result, reason) in results.iter().zip(&reasons) {
            assert_eq!(outcome(result), format!("REJECTED {reason}"));
            assert!(result.user_id.is_empty());
        }
        // The row after them is imported.
        assert_eq!(outcome(&results[reasons.len()]), "CREATED");
        assert!(results.iter().map(|result| result.index).eq(0..16));
        mailing.assert_each_announced_once(1).await;
    }

    async fn a_clock_that_is_a_minute_ahead_is_no_error(mailing: Mailing) {
        let ahead = Some(time(START + MINUTE));
        let ana = proto::ImportUser { created_at: ahead, email_verified_at: ahead, ..row(ANA) };
        assert_eq!(mailing.outcomes(vec![ana]).await, ["CREATED"]);
    }

    async fn no_rows_are_no_error(mailing: Mailing) {
        let (results, ended) = import(mailing.importer(), Vec::new()).await;
        ended.expect("nothing failed");
        assert!(results.is_empty());
    }
}
