//! Password hashes are stored sealed with `DATA_KEY`, and the key can be replaced.

mod rotation;
mod transition;
mod unusable;
mod wrong_key;

use std::{fs, sync::Arc, time::Duration};

use auth_service::{
    app::password_seals::{self, Metrics, Sealing},
    db::{Db, Resealed},
    model::{Clock as _, Form, StoredHash, Transition},
};
use prometheus_client::{encoding::text::encode, registry::Registry};

use crate::harness::{
    DATA_KEY, ManualClock, PASSWORD, START, Service, Session, TestDatabase, both, build,
    change_password, change_password_from, config, db, error_line, login, open_seal, reason,
    refused, register, retry_after,
};

const NEW_PASSWORD: &str = "wasp ember 417 tulip";
const OTHER_KEY: &str = "another-data-key-of-the-tests-32-by";

/// What seals password hashes in a replica with these options.
struct Replica {
    db: Db,
    sealing: Sealing,
    metrics: Metrics,
    registry: Registry,
}

impl Replica {
    fn new(database: &TestDatabase, options: &[&str]) -> Self {
        let mut registry = Registry::default();
        Self {
            db: db(database, Duration::from_secs(30)),
            sealing: Sealing {
                keys: config(database, options).auth.data_keys,
                transition: Transition::default(),
                clock: Arc::new(ManualClock::new(START)),
            },
            metrics: Metrics::register(&mut registry),
            registry,
        }
    }

    /// One pass. Returns the time until the next one.
    async fn tick(&self) -> Duration {
        let done = password_seals::tick(&self.db, &self.sealing, &self.metrics).await;
        done.expect("the database answers")
    }

    /// `auth_password_seals` of `current`, `previous`, `none` and `unknown`.
    fn counts(&self) -> [String; 4] {
        ["current", "previous", "none", "unknown"]
            .map(|key| self.metric(&format!("auth_password_seals{{key=\"{key}\"}}")))
    }

    fn metric(&self, series: &str) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let value = lines.find_map(|(name, value)| (name == series).then_some(value));
        value.expect("it is there from the start").to_owned()
    }
}

/// Each column of each table.
async fn dump(database: &TestDatabase) -> String {
    let tables = database.dialect(
        "SELECT name FROM sqlite_schema WHERE type = 'table'",
        "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'",
    );
    let mut rows = Vec::new();
    for table in database.texts(tables).await.into_iter().flatten() {
        rows.extend(database.dump(&table).await);
    }
    rows.join("\n")
}

/// Replaces each seal by its hash, as the release before wrote it.
async fn unseal(database: &TestDatabase, emails: &[&str]) {
    for email in emails {
        let hash = database.password_hash(email).await;
        let sql = format!("UPDATE users SET password_hash = '{hash}' WHERE email = '{email}'");
        database.execute(&sql).await;
    }
}

/// The blocks of SQL in a section of the runbook.
fn runbook_sql(section: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/runbook.md");
    let runbook = fs::read_to_string(path).unwrap();
    let heading = format!("### {section}\n");
    let (_, section) = runbook.split_once(&heading).expect("the section");
    let section = section.split("\n##").next().unwrap();
    let blocks = section.split("```sql\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    blocks.map(str::to_owned).collect()
}

/// Adds users with any text as stored hash.
async fn add_users(database: &TestDatabase, count: u32, stored: &str) {
    let id = database.dialect("randomblob(16)", "gen_random_uuid()");
    add_users_with_ids(database, id, count, stored).await;
}

async fn add_users_with_ids(database: &TestDatabase, id: &str, count: u32, stored: &str) {
    let now = database.time(START);
    let letter = stored.len();
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO users (id, email, password_hash, event_version, created_at, password_changed_at)
         SELECT {id}, 'user-{letter}-' || i || '@example.com', '{stored}', 1, {now}, {now} FROM n"
    );
    database.execute(&sql).await;
}

/// Changes the password of the session's account.
async fn change(service: &Service, session: &Session) {
    let mut account = service.account(session);
    let changed = account.change_password(change_password(NEW_PASSWORD));
    changed.await.unwrap();
}

const HASH: &str = "$2b$12$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";

both! {
    async fn no_column_holds_a_bare_hash(database: TestDatabase) {
        let service = Service::start(database, &[]).await;
        let ana = service.sign_up("ana@example.com").await;
        service.sign_up("ben@example.com").await;
        assert!(!dump(&service.database).await.contains("$2"), "registered");
        service.sign_in("ana@example.com").await;
        change(&service, &ana).await;
        assert!(!dump(&service.database).await.contains("$2"), "changed");

        let (_, database) = service.stop().await;
        let service = Service::start(database, &["--bcrypt-cost", "11"]).await;
        let before = service.database.stored_hash("ben@example.com").await;
        service.sign_in("ben@example.com").await;
        let database = &service.database;
        assert_ne!(database.stored_hash("ben@example.com").await, before);
        assert!(database.password_hash("ben@example.com").await.starts_with("$2b$11$"));
        let all = dump(database).await;
        assert!(!all.contains("$2") && all.contains("sealed:1:"), "upgraded");
        // The search works.
        unseal(database, &["ben@example.com"]).await;
        assert!(dump(database).await.contains("$2"));
    }

    async fn a_dump_of_the_database_gives_no_hash_to_crack(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let database = &service.database;
        let stored = database.stored_hash("ana@example.com").await;
        let user_id = *uuid::Uuid::parse_str(&ana.user_id).unwrap().as_bytes();
        // What a thief has or knows in place of the key, and other rows in place of the user's.
        let zeros = "\0".repeat(32);
        for key in ["", "password seal", "ana@example.com", &ana.user_id, &stored, &zeros] {
            assert!(open_seal(&stored, &user_id, key).is_none(), "{key}");
        }
        assert!(open_seal(&stored, &[0; 16], DATA_KEY).is_none());
        // The search works: with the key there is a hash to try passwords on.
        let hash = open_seal(&stored, &user_id, DATA_KEY).expect("it opens");
        assert!(bcrypt::verify(PASSWORD, &hash).unwrap());
    }

    async fn a_seal_that_does_not_open_is_a_fault_and_no_wrong_password(service: Service) {
        service.sign_up("ana@example.com").await;
        service.sign_up("ben@example.com").await;
        let database = &service.database;
        let stored = database.stored_hash("ana@example.com").await;
        let other = if &stored[40..41] == "A" { "B" } else { "A" };
        let damaged = format!("{}{other}{}", &stored[..40], &stored[41..]);
        let of_another_key = stored.replace(&stored[9..21], "000000000000");
        for (email, stored) in [
            ("ben@example.com", stored.as_str()),
            ("ana@example.com", &damaged),
            ("ana@example.com", &of_another_key),
            ("ana@example.com", "sealed:2:whatever"),
        ] {
            let sql = format!("UPDATE users SET password_hash = '{stored}' WHERE email = '{email}'");
            database.execute(&sql).await;
            let status = refused(service.client().login(login(email)).await);
            assert_eq!(error_line(&status), "Internal INTERNAL: internal error");
            assert_eq!(retry_after(&status), None);
        }
    }

    async fn a_bare_hash_of_an_older_version_logs_in_and_is_sealed(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let database = &service.database;
        unseal(database, &["ana@example.com"]).await;
        service.sign_in("ana@example.com").await;
        let replica = Replica::new(database, &[]);
        replica.tick().await;
        assert_eq!(replica.counts(), ["1", "0", "0", "0"].map(|n| format!("{n}.0")));
        assert!(database.password_hash("ana@example.com").await.starts_with("$2b$10$"));
        service.sign_in("ana@example.com").await;
        change(&service, &ana).await;
    }

    async fn a_pass_seals_all_steps_with_the_current_key_and_counts_the_rest(service: Service) {
        service.sign_up("ana@example.com").await;
        let database = &service.database;
        // Three steps and a half.
        add_users(database, 1800, HASH).await;
        add_users(database, 7, "sealed:1:000000000000:whatever").await;
        let old = Replica::new(database, &[]);
        assert_eq!(old.counts(), ["NaN"; 4]);
        old.tick().await;
        assert_eq!(old.counts(), ["1801.0", "0.0", "0.0", "7.0"]);
        assert_eq!(database.count("SELECT count(*) FROM users WHERE password_hash LIKE '$2%'").await, 0);

        let new = Replica::new(database, &["--data-key", OTHER_KEY, "--data-previous-keys", DATA_KEY]);
        new.tick().await;
        assert_eq!(new.counts(), ["1801.0", "0.0", "0.0", "7.0"]);
        old.tick().await;
        assert_eq!(old.counts(), ["0.0", "0.0", "0.0", "1808.0"], "none opens without the new key");
    }

    async fn the_start_of_the_last_complete_pass_shows(service: Service) {
        service.sign_up("ana@example.com").await;
        let began = "auth_password_seals_pass_start_timestamp_seconds";
        let clock = Arc::new(ManualClock::new(START));
        let mut replica = Replica::new(&service.database, &[]);
        replica.sealing.clock = Arc::clone(&clock) as _;
        assert_eq!(replica.metric(began), "NaN");
        for _ in 0..2 {
            clock.advance(Duration::from_hours(1));
            replica.tick().await;
            assert_eq!(replica.metric(began), format!("{}.0", clock.now().as_secs()));
        }
        // A pass that fails changes nothing.
        let last = replica.metric(began);
        clock.advance(Duration::from_hours(1));
        service.database.execute("ALTER TABLE users RENAME TO people").await;
        let failed = password_seals::tick(&replica.db, &replica.sealing, &replica.metrics).await;
        assert!(failed.is_err());
        assert_eq!(replica.metric(began), last);
        service.database.execute("ALTER TABLE people RENAME TO users").await;
    }

    async fn after_a_pass_that_found_nothing_to_do_the_next_is_a_day_later(service: Service) {
        const HOUR: Duration = Duration::from_hours(1);
        const DAY: Duration = Duration::from_hours(24);
        let database = &service.database;
        let old = Replica::new(database, &[]);
        assert_eq!(old.tick().await, DAY, "no account");
        service.sign_up("ana@example.com").await;
        assert_eq!(old.tick().await, DAY);
        let new = Replica::new(database, &["--data-key", OTHER_KEY, "--data-previous-keys", DATA_KEY]);
        assert_eq!(new.tick().await, HOUR, "another replica may seal with the old key meanwhile");
        assert_eq!(new.tick().await, DAY);
        assert_eq!(old.tick().await, HOUR, "it cannot open the seal");
        add_users(database, 1, HASH).await;
        assert_eq!(new.tick().await, HOUR, "a hash without a seal");
        assert_eq!(new.tick().await, DAY);
    }

    async fn replicas_seal_at_the_same_time_while_users_act(service: Service) {
        let database = &service.database;
        let emails: Vec<_> = (0..6).map(|n| format!("user{n}@example.com")).collect();
        let mut sessions = Vec::new();
        for email in &emails {
            sessions.push(service.sign_up(email).await);
        }
        unseal(database, &emails.iter().map(String::as_str).collect::<Vec<_>>()).await;
        add_users(database, 700, HASH).await;
        let replicas = [(); 3].map(|()| Replica::new(database, &[]));
        let passes = futures::future::join_all(replicas.iter().map(Replica::tick));
        let acts = async {
            for session in &sessions {
                change(&service, session).await;
            }
        };
        tokio::join!(passes, acts);
        replicas[0].tick().await;
        assert_eq!(replicas[0].counts(), ["706.0", "0.0", "0.0", "0.0"]);
        for session in &sessions {
            let mut account = service.account(session);
            let again = account.change_password(change_password_from(NEW_PASSWORD, PASSWORD));
            again.await.expect("the new password won");
        }
    }

    async fn a_password_that_was_changed_meanwhile_stays(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let database = &service.database;
        unseal(database, &["ana@example.com"]).await;
        let replica = Replica::new(database, &[]);
        let keys = &replica.sealing.keys;
        let step = replica.db.stale_hashes(None, "sealed:").await.unwrap();
        let resealed = step.stale.into_iter().map(|(user_id, old)| {
            let new = StoredHash::new(&old, user_id, Form::Keyed(keys.current())).unwrap();
            Resealed { user_id, old, new }
        });
        let resealed: Vec<_> = resealed.collect();
        assert_eq!(resealed.len(), 1);
        change(&service, &ana).await;
        let stored = database.stored_hash("ana@example.com").await;
        replica.db.reseal(&resealed).await.unwrap();
        assert_eq!(database.stored_hash("ana@example.com").await, stored);
    }

    async fn a_login_whose_seal_does_not_open_counts_and_costs_a_hash(database: TestDatabase) {
        let service = Service::start(database, &["--throttle-free-per-account", "3"]).await;
        service.client().register(register("ana@example.com")).await.unwrap();
        let sql = "UPDATE users SET password_hash = 'sealed:1:000000000000:whatever'";
        service.database.execute(sql).await;
        let login = async || refused(service.client().login(login("ana@example.com")).await);
        for _ in 0..3 {
            assert_eq!(reason(&login().await).1, "INTERNAL");
        }
        assert_eq!(reason(&login().await).1, "TOO_MANY_ATTEMPTS");
        let (_, page) = service.probe("/metrics").await;
        // The first one is that of the registration.
        let hashes = r#"auth_password_hashes_total{outcome="done",priority="other"} 4"#;
        assert!(page.lines().any(|line| line == hashes), "{page}");
    }
}
