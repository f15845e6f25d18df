//! The roll-out on a database of the release before. Replicas of that release cannot read what
//! is made with `DATA_KEY`: the tests play them with its formulas, which are written out here.

use auth_service::proto;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::harness::{TokenParts, assert_invalid_token, bytes_of, hex_of, hmac, insert_sessions};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const SECOND: Duration = Duration::from_secs(1);

/// Makes the database one of the release before: no replica of this one has ever started.
async fn make_old(database: &TestDatabase) {
    database.execute("DELETE FROM transitions").await;
}

/// A database of the release before, with one account and one of its sessions.
async fn old_database(database: TestDatabase) -> (TestDatabase, TokenParts) {
    let service = Service::start(database, &[]).await;
    service
        .client()
        .register(register("ana@example.com"))
        .await
        .unwrap();
    let (_, database) = service.stop().await;
    unseal(&database, &["ana@example.com"]).await;
    let token = TokenParts::random();
    let id = uuid::Uuid::now_v7().simple().to_string();
    let (ends_at, far) = (START + 1000 * DAY, START + 1000 * DAY);
    insert_sessions(&database, [(id.as_str(), &token)], ends_at, far).await;
    make_old(&database).await;
    (database, token)
}

/// The current secret of the session, as the release before reads it from the row.
async fn unsealed(database: &TestDatabase, token: &TokenParts) -> Option<Vec<u8>> {
    let column = database.hex("sealed_successor");
    let sealed = database
        .texts(&format!("SELECT {column} FROM sessions"))
        .await;
    let pad = hmac(&token.secret, b"refresh successor");
    let secrets = sealed.into_iter().flatten().map(|sealed| {
        let sealed = bytes_of(&sealed).into_iter();
        sealed
            .zip(pad)
            .map(|(byte, pad)| byte ^ pad)
            .collect::<Vec<_>>()
    });
    let hashes = database
        .texts(&format!(
            "SELECT {} FROM sessions",
            database.hex("token_hash")
        ))
        .await;
    let is_current = |secret: &Vec<u8>| hashes.contains(&Some(hex_of(&Sha256::digest(secret))));
    secrets.into_iter().find(is_current)
}

fn is_old(tokens: &proto::TokenPair) -> bool {
    tokens.refresh_token.len() == 4 + 70
}

/// Whether the release before can read a stored hash.
async fn is_bare(database: &TestDatabase, email: &str) -> bool {
    database.stored_hash(email).await.starts_with("$2b$")
}

both! {
    async fn while_replicas_of_both_releases_run_each_reads_what_the_other_writes(database: TestDatabase) {
        let (database, token) = old_database(database).await;
        let service = Service::start(database.clone(), &[]).await;
        // The account and the token of the release before.
        service.sign_in("ana@example.com").await;
        let next = service.refresh(&token.old_text()).await.unwrap();
        assert!(is_old(&next));
        // The release before unseals the successor for a retry.
        let secret = TokenParts::of_old(&next.refresh_token).secret;
        assert_eq!(unsealed(&database, &token).await, Some(secret));
        let retried = service.refresh(&token.old_text()).await.unwrap();
        assert_eq!(retried.refresh_token, next.refresh_token);

        let ben = service.sign_up("ben@example.com").await;
        assert!(is_old(&ben.tokens));
        assert!(is_old(&service.sign_in("ana@example.com").await.tokens));
        change(&service, &ben).await;
        let (_, database) = service.stop().await;
        let service = Service::start(database, &["--bcrypt-cost", "11"]).await;
        service.sign_in("ana@example.com").await;
        for email in ["ana@example.com", "ben@example.com"] {
            assert!(is_bare(&service.database, email).await, "{email}");
        }
        // The hour is not over just because a replica starts again.
        service.clock.set(START + HOUR - Duration::from_mins(5));
        service.sign_up("eve@example.com").await;
        assert!(is_bare(&service.database, "eve@example.com").await);
    }

    async fn after_an_hour_everything_new_needs_the_key(database: TestDatabase) {
        let (database, token) = old_database(database).await;
        let service = Service::start(database, &[]).await;
        service.clock.set(START + HOUR - SECOND);
        let before = service.refresh(&token.old_text()).await.unwrap();
        assert!(is_old(&before));
        service.clock.advance(2 * SECOND);
        // A retry across the end: the same successor.
        let retried = service.refresh(&token.old_text()).await.unwrap();
        assert_eq!(retried.refresh_token, before.refresh_token);
        let next = service.refresh(&before.refresh_token).await.unwrap();
        let retried = service.refresh(&before.refresh_token).await.unwrap();
        assert!(!is_old(&next));
        assert_eq!(retried.refresh_token, next.refresh_token);
        let before = TokenParts::of_old(&before.refresh_token);
        assert_eq!(unsealed(&service.database, &before).await, None);

        let ben = service.sign_up("ben@example.com").await;
        assert!(!is_old(&ben.tokens) && !is_bare(&service.database, "ben@example.com").await);
        service.sign_in("ana@example.com").await;
        assert!(is_bare(&service.database, "ana@example.com").await, "housekeeping seals it");
    }

    async fn a_token_without_tag_is_accepted_for_as_long_as_it_can_live(database: TestDatabase) {
        let (database, token) = old_database(database).await;
        let service = Service::start(database, &[]).await;
        service.clock.set(START + HOUR + DAY - SECOND);
        service.refresh(&token.old_text()).await.expect("its session lives");
        service.clock.advance(2 * SECOND);
        assert_invalid_token(&refused(service.refresh(&token.old_text()).await));
        let random = TokenParts::random().old_text();
        assert_invalid_token(&refused(service.refresh(&random).await));
        let database = &service.database;
        assert_eq!(database.count("SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL").await, 0);
    }

    async fn a_replica_that_starts_later_knows_when_the_roll_out_ended(database: TestDatabase) {
        let (database, token) = old_database(database).await;
        let (_, database) = Service::start(database, &[]).await.stop().await;
        let ago = |hours: u32| match database.dialect("s", "p") {
            "s" => format!("ends_at - {hours} * 3600000000"),
            _ => format!("ends_at - interval '{hours} hours'"),
        };
        database.execute(&format!("UPDATE transitions SET ends_at = {}", ago(11))).await;
        let service = Service::start(database.clone(), &[]).await;
        let next = service.refresh(&token.old_text()).await.expect("its session lives");
        assert!(!is_old(&next));
        let (_, database) = service.stop().await;
        database.execute(&format!("UPDATE transitions SET ends_at = {}", ago(24))).await;
        let service = Service::start(database, &[]).await;
        assert_invalid_token(&refused(service.refresh(&token.old_text()).await));
        service.refresh(&next.refresh_token).await.expect("it has a tag");
    }

    async fn a_start_that_fails_does_not_begin_the_roll_out(database: TestDatabase) {
        let (database, _) = old_database(database).await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap().to_string();
        for option in ["--grpc-addr", "--admin-addr"] {
            let clock = Arc::new(ManualClock::new(START));
            let failed = build(&database, clock, &[option, &taken]).await;
            assert!(failed.is_err(), "{option}");
            assert_eq!(database.count("SELECT count(*) FROM transitions").await, 0, "{option}");
        }
    }

    async fn a_roll_out_that_was_given_up_can_begin_again(database: TestDatabase) {
        let (database, _) = old_database(database).await;
        let (_, database) = Service::start(database, &[]).await.stop().await;
        let a_day_ago = database.dialect("ends_at - 86400000000", "ends_at - interval '1 day'");
        database.execute(&format!("UPDATE transitions SET ends_at = {a_day_ago}")).await;
        let [forget] = &runbook_sql("Upgrade to the first version with `DATA_KEY`")[..] else {
            panic!("one statement")
        };
        database.execute(forget).await;
        let service = Service::start(database, &[]).await;
        let ben = service.sign_up("ben@example.com").await;
        assert!(is_old(&ben.tokens) && is_bare(&service.database, "ben@example.com").await);
        service.clock.advance(HOUR);
        assert!(!is_old(&service.sign_in("ben@example.com").await.tokens), "the hour is new");
    }

    async fn replicas_that_disagree_about_the_end_accept_what_the_other_writes(database: TestDatabase) {
        let (database, token) = old_database(database).await;
        let one = Service::start(database.clone(), &[]).await;
        // Its clock is an hour behind when it starts, and is then set right.
        let clock = Arc::new(ManualClock::new(START - HOUR));
        let other = Service::start_at(database.clone(), clock, &[]).await;
        other.clock.set(START);
        let mut token = token.old_text();
        for replica in [&other, &one, &other, &one, &one] {
            let next = replica.refresh(&token).await.unwrap();
            let retried = one.refresh(&token).await.unwrap();
            assert_eq!(retried.refresh_token[..68], next.refresh_token[..68]);
            token = next.refresh_token;
        }
        other.sign_up("ben@example.com").await;
        one.sign_in("ben@example.com").await;
    }

    async fn a_new_database_never_accepts_a_token_without_tag(service: Service) {
        service.client().register(register("ana@example.com")).await.unwrap();
        let token = TokenParts::random();
        let id = uuid::Uuid::now_v7().simple().to_string();
        insert_sessions(&service.database, [(id.as_str(), &token)], START + DAY, START + DAY).await;
        assert_invalid_token(&refused(service.refresh(&token.old_text()).await));
        service.refresh(&token.text()).await.expect("the session lives");
        // A second start, now with accounts, changes nothing.
        let (_, database) = service.stop().await;
        let service = Service::start(database, &[]).await;
        let ben = service.sign_up("ben@example.com").await;
        assert!(!is_old(&ben.tokens) && !is_bare(&service.database, "ben@example.com").await);
    }

    async fn nothing_is_sealed_before_the_roll_out_ends(database: TestDatabase) {
        let (database, _) = old_database(database).await;
        let mut replica = Replica::new(&database, &[]);
        let clock = Arc::new(ManualClock::new(START));
        replica.sealing.clock = Arc::clone(&clock) as _;
        replica.sealing.transition = Transition::new(START + HOUR, DAY);
        replica.tick().await;
        assert_eq!(replica.counts(), ["0.0", "0.0", "1.0", "0.0"]);
        assert!(is_bare(&database, "ana@example.com").await);
        clock.advance(HOUR);
        replica.tick().await;
        assert_eq!(replica.counts(), ["1.0", "0.0", "0.0", "0.0"]);
        assert!(!is_bare(&database, "ana@example.com").await);
    }
}
