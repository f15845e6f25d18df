//! The database holds hashes and sealed successors, and no token.

use sha2::{Digest as _, Sha256};

use super::{column, sha256};
use crate::harness::{
    Backend, Service, TestDatabase, TokenParts, both, bytes_of, data_subkey, hex_of, hmac,
};

both! {
    async fn the_database_holds_hashes_and_a_sealed_successor(service: Service) {
        let database = &service.database;
        let session = service.sign_up("ana@example.com").await;
        let old = TokenParts::of(&session.tokens.refresh_token);
        let [handle_hash, token_hash, previous, sealed] =
            ["handle_hash", "token_hash", "previous_token_hash", "sealed_successor"]
                .map(|column| database.hex(column));
        let column = async |name: &str| column(database, &session, name).await;
        assert_eq!(column(&handle_hash).await, Some(sha256(&old.handle)));
        assert_eq!(column(&token_hash).await, Some(sha256(&old.secret)));
        assert_eq!(column("device_name").await, None);

        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();
        let new = TokenParts::of(&next.refresh_token);
        assert_eq!(column(&handle_hash).await, Some(sha256(&old.handle)));
        assert_eq!(column(&token_hash).await, Some(sha256(&new.secret)));
        assert_eq!(column(&previous).await, Some(sha256(&old.secret)));

        let pad = hmac(&old.secret, &data_subkey("refresh successor"));
        let sealed = bytes_of(&column(&sealed).await.unwrap());
        assert_eq!(sealed.len(), 32);
        let unsealed: Vec<_> = sealed.iter().zip(pad).map(|(byte, pad)| byte ^ pad).collect();
        assert_eq!(unsealed, new.secret);
    }

    async fn the_database_holds_no_usable_token(service: Service) {
        let database = &service.database;
        let session = service.sign_up("ana@example.com").await;
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();
        let other = service.sign_in("ana@example.com").await;

        let mut rows = Vec::new();
        for table in ["users", "sessions", "outbox_events", "outbox_lease"] {
            rows.extend(database.dump(table).await);
        }
        let rows = rows.join("\n");
        // The dump contains the hashes ..
        let hash = sha256(&TokenParts::of(&next.refresh_token).secret);
        assert!(rows.contains(&hash));
        let pairs = [&session.tokens, &next, &other.tokens];
        for token in pairs.map(|pair| &pair.refresh_token) {
            // .. but neither a token nor a part of one.
            let parts = TokenParts::of(token);
            let (text, body) = (token.to_lowercase(), token[4..].to_lowercase());
            for secret in [&text, &body, &hex_of(text.as_bytes()), &hex_of(body.as_bytes())] {
                assert!(!rows.to_lowercase().contains(secret.as_str()));
            }
            assert!(!rows.contains(&hex_of(&parts.handle)));
            assert!(!rows.contains(&hex_of(&parts.secret)));
        }
        // It contains no access token either.
        for pair in pairs {
            assert!(!rows.contains(&pair.access_token.to_lowercase()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_sqlite_hold_no_byte_of_a_token() {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let service = Service::start(database, &[]).await;
    let session = service.sign_up("ana@example.com").await;
    let next = service
        .refresh(&session.tokens.refresh_token)
        .await
        .unwrap();

    let file = service.database.sqlite_file().unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend(std::fs::read(file.with_extension("db-wal")).unwrap());
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    for token in [&session.tokens.refresh_token, &next.refresh_token] {
        let parts = TokenParts::of(token);
        assert!(
            holds(&Sha256::digest(&parts.secret)),
            "the hashes are found"
        );
        assert!(!holds(&parts.secret));
        assert!(!holds(&parts.handle));
        assert!(!holds(&token.as_bytes()[4..]));
    }
}
