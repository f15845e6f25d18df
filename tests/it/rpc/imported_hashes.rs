//! Password hashes that another system wrote log in, and the first login replaces them.

use auth_service::proto;
use bcrypt::Version;
use tonic::Code;

use crate::harness::{PASSWORD, Service, TestDatabase, both, login, reason, refused, register};

const COST: u32 = 11;
const NFC: &str = "sch\u{f6}ne gr\u{fc}\u{df}e vK3";
const NFD: &str = "scho\u{308}ne gru\u{308}\u{df}e vK3";

/// A hash of exactly these bytes.
fn hash(password: &str, cost: u32, version: Version) -> String {
    let hash = bcrypt::hash_with_result(password, cost).expect("a cost of bcrypt");
    hash.format_for_version(version)
}

async fn start(database: TestDatabase) -> Service {
    Service::start(database, &["--bcrypt-cost", &COST.to_string()]).await
}

/// An account whose row has this hash.
async fn account(service: &Service, email: &str, hash: &str) {
    let registered = service.client().register(register(email)).await;
    registered.expect("registers");
    service.database.set_password_hash(email, hash).await;
}

async fn logs_in(service: &Service, email: &str, password: &str) {
    let request = proto::LoginRequest {
        password: password.to_owned(),
        ..login(email)
    };
    service.client().login(request).await.expect("logs in");
}

/// A wrong password replaces nothing.
async fn is_refused(service: &Service, email: &str, password: &str) {
    let before = service.database.stored_hash(email).await;
    let request = proto::LoginRequest {
        password: password.to_owned(),
        ..login(email)
    };
    let status = refused(service.client().login(request).await);
    let expected = (Code::Unauthenticated, "INVALID_CREDENTIALS".to_owned());
    assert_eq!(reason(&status), expected, "{email}");
    assert_eq!(service.database.stored_hash(email).await, before);
}

/// The hash in the row is one of this text, as the service itself makes it.
async fn assert_own_hash_of(service: &Service, email: &str, password: &str) -> String {
    let hash = service.database.password_hash(email).await;
    assert!(hash.starts_with(&format!("$2b${COST}$")), "{email}: {hash}");
    assert!(bcrypt::verify(password, &hash).expect("a hash"), "{email}");
    hash
}

both! {
    async fn the_first_login_brings_an_imported_hash_to_the_configured_cost(database: TestDatabase) {
        let service = start(database).await;
        for (cost, version) in [
            (4, Version::TwoA),
            (4, Version::TwoY),
            (10, Version::TwoY),
            (13, Version::TwoA),
            (13, Version::TwoB),
        ] {
            let email = format!("user-{cost}-{version}@example.com");
            account(&service, &email, &hash(PASSWORD, cost, version)).await;
            is_refused(&service, &email, "wrong").await;
            logs_in(&service, &email, PASSWORD).await;
            let new = assert_own_hash_of(&service, &email, PASSWORD).await;
            logs_in(&service, &email, PASSWORD).await;
            assert_eq!(service.database.password_hash(&email).await, new, "{email}");
            is_refused(&service, &email, "wrong").await;
        }
    }

    async fn an_imported_hash_of_the_configured_cost_stays(database: TestDatabase) {
        let service = start(database).await;
        let imported = hash(PASSWORD, COST, Version::TwoY);
        account(&service, "ana@example.com", &imported).await;
        logs_in(&service, "ana@example.com", PASSWORD).await;
        assert_eq!(service.database.password_hash("ana@example.com").await, imported);
    }

    async fn a_hash_of_the_decomposed_form_logs_in_and_is_replaced(database: TestDatabase) {
        let service = start(database).await;
        for (cost, form) in [(4, NFC), (4, NFD), (COST, NFC), (COST, NFD), (13, NFC)] {
            let email = format!("user-{cost}-{}@example.com", form.len());
            account(&service, &email, &hash(NFD, cost, Version::TwoA)).await;
            is_refused(&service, &email, "schone gru\u{df}e vK3").await;
            is_refused(&service, &email, "scho\u{308}ne gru\u{308}\u{df}e").await;
            logs_in(&service, &email, form).await;
            let new = assert_own_hash_of(&service, &email, NFC).await;
            for form in [NFC, NFD] {
                logs_in(&service, &email, form).await;
            }
            assert_eq!(service.database.password_hash(&email).await, new, "{email}");
        }
    }

    async fn a_hash_of_a_form_that_was_cut_does_not_log_in(database: TestDatabase) {
        let service = start(database).await;
        let nfd = format!("{}a\u{308}e", &PASSWORD.repeat(3)[..69]);
        account(&service, "ana@example.com", &hash(&nfd, 4, Version::TwoB)).await;
        is_refused(&service, "ana@example.com", &nfd).await;
    }
}
