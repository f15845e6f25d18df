//! What imported users can do.

use auth_service::proto;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use bcrypt::Version;
use tonic::Code;

use super::{ANA, ID, named};
use crate::{
    harness::{PASSWORD, TestDatabase, both, login, reason, refused, row},
    rpc::recovery::{Mailing, NEW_PASSWORD, mailing},
};

fn hash(version: Version) -> String {
    let hash = bcrypt::hash_with_result(PASSWORD, 4).expect("a cost of bcrypt");
    hash.format_for_version(version)
}

fn with_hash(email: &str, password_hash: String) -> proto::ImportUser {
    proto::ImportUser {
        password_hash,
        ..row(email)
    }
}

/// The claims of an access token.
fn claims(tokens: Option<proto::TokenPair>) -> serde_json::Value {
    let token = tokens.expect("tokens").access_token;
    let claims = token.split('.').nth(1).expect("a JWT");
    serde_json::from_slice(&BASE64URL.decode(claims).expect("base64url")).expect("JSON")
}

both! {
    async fn users_log_in_with_their_passwords(mailing: Mailing) {
        let hashes = [
            hash(Version::TwoA),
            hash(Version::TwoB),
            hash(Version::TwoY),
            format!("{{bcrypt}}{}", hash(Version::TwoA)),
        ];
        let emails = ["a@example.com", "b@example.com", "c@example.com", "d@example.com"];
        let rows = emails.into_iter().zip(hashes).map(|(email, hash)| with_hash(email, hash));
        assert_eq!(mailing.outcomes(rows.collect()).await, ["CREATED"; 4]);
        for email in emails {
            let wrong = mailing.log_in(email, "a wrong horse battery staple").await;
            let expected = (Code::Unauthenticated, "INVALID_CREDENTIALS".to_owned());
            assert_eq!(reason(&refused(wrong)), expected);
            mailing.log_in(email, PASSWORD).await.expect("the right password");
        }
    }

    async fn the_first_token_has_the_roles(mailing: Mailing) {
        let roles = vec!["moderator".to_owned(), "vip".to_owned()];
        let ana = proto::ImportUser { roles, ..with_hash(ANA, hash(Version::TwoB)) };
        mailing.import(vec![ana]).await;
        let session = mailing.log_in(ANA, PASSWORD).await.expect("the right password");
        let roles = &claims(session.tokens)["roles"];
        assert_eq!(roles, &serde_json::json!(["moderator", "vip"]));
    }

    async fn a_user_without_a_hash_resets_the_password(mailing: Mailing) {
        mailing.import(vec![named(ANA, ID)]).await;
        let status = refused(mailing.log_in(ANA, PASSWORD).await);
        assert_eq!(reason(&status).1, "INVALID_CREDENTIALS");
        let token = mailing.reset_token(ANA).await;
        mailing.reset(&token, NEW_PASSWORD).await.expect("the token is new");
        let session = mailing.log_in(ANA, NEW_PASSWORD).await.expect("the new password");
        assert_eq!(session.user_id, ID);
    }

    async fn an_address_counts_as_verified_as_the_row_says(database: TestDatabase) {
        let mailing = mailing(database, &["--email-verification", "required"]).await;
        let verified = proto::ImportUser {
            email_verified_at: Some(prost_types::Timestamp::default()),
            ..with_hash(ANA, hash(Version::TwoB))
        };
        mailing.import(vec![verified, with_hash("ben@example.com", hash(Version::TwoB))]).await;
        let session = mailing.log_in(ANA, PASSWORD).await.expect("verified");
        assert_eq!(claims(session.tokens)["email_verified"], true);
        let status = refused(mailing.log_in("ben@example.com", PASSWORD).await);
        assert_eq!(reason(&status).1, "EMAIL_NOT_VERIFIED");
    }

    async fn no_hash_is_stored_without_a_seal(mailing: Mailing) {
        let (imported, other) = (hash(Version::TwoY), hash(Version::TwoA));
        mailing.import(vec![with_hash(ANA, imported.clone()), with_hash("ben@example.com", other)]).await;
        let database = &mailing.0.database;
        assert_eq!(database.password_hash(ANA).await, imported);
        for table in ["users", "outbox_events"] {
            let rows = database.dump(table).await.join("\n");
            assert!(!rows.contains("$2") && !rows.contains("2432792430"), "{table}");
        }
        if let Some(file) = database.sqlite_file() {
            for file in [file.clone(), file.with_extension("db-wal")] {
                let bytes = std::fs::read(file).expect("a file of the database");
                assert!(!bytes.windows(7).any(|part| [b"$2y$04$", b"$2a$04$"].contains(&part.try_into().unwrap())));
            }
        }
        mailing.0.client().login(login(ANA)).await.expect("it opens");
    }
}
