//! A start with a `DATA_KEY` that is not the one of the database, and what to do if it is lost.

use std::env;

use super::*;
use crate::harness::{Ended, Process, assert_wrong_password, settings};

/// The id of a key in the seals of the tests' database.
async fn key_id(database: &TestDatabase, email: &str) -> String {
    let stored = database.stored_hash(email).await;
    stored.split(':').nth(2).unwrap().to_owned()
}

/// The error of a start that must fail.
async fn refused_start(database: &TestDatabase, options: &[&str]) -> String {
    let clock = Arc::new(ManualClock::new(START));
    let refused = build(database, clock, options).await.err();
    refused.expect("the start is refused").to_string()
}

async fn check_config(database: &TestDatabase, keys: &[(&str, &str)]) -> Ended {
    let url = database.url();
    Process::run(&env::temp_dir(), &["check-config"], &settings(&url, keys)).await
}

/// A database with the accounts of these users.
async fn with_accounts(database: TestDatabase, emails: &[&str]) -> TestDatabase {
    let service = Service::start(database, &[]).await;
    for email in emails {
        // The ids are in the order of time.
        service.clock.advance(Duration::from_millis(1));
        service.client().register(register(email)).await.unwrap();
    }
    service.stop().await.1
}

/// Gives the account a seal that names a key that nobody has.
async fn seal_with_unknown_key(database: &TestDatabase, email: &str) {
    let stored = database.stored_hash(email).await;
    let stored = stored.replace(&stored[9..21], "000000000000");
    let sql = format!("UPDATE users SET password_hash = '{stored}' WHERE email = '{email}'");
    database.execute(&sql).await;
}

const NEW_KEY: &str = "the-third-data-key-of-the-tests-32-b";
const OTHER: [(&str, &str); 1] = [("DATA_KEY", OTHER_KEY)];
const BOTH_KEYS: [&str; 4] = ["--data-key", OTHER_KEY, "--data-previous-keys", DATA_KEY];

both! {
    async fn a_key_that_opens_none_of_the_passwords_ends_the_start(database: TestDatabase) {
        let database = with_accounts(database, &["ana@example.com", "ben@example.com"]).await;
        let key = key_id(&database, "ana@example.com").await;
        database.execute("DELETE FROM transitions").await;
        let error = refused_start(&database, &["--data-key", OTHER_KEY]).await;
        let expected = format!(
            "DATA_KEY: the passwords in the database have the seal of another key ({key}): set \
             that key, or add it to DATA_PREVIOUS_KEYS; if it is lost, see \"Lost data key\" in \
             the runbook"
        );
        assert_eq!(error, expected);
        assert_eq!(database.count("SELECT count(*) FROM transitions").await, 0, "it changes nothing");

        let mut process = Process::serve(&database, &OTHER);
        assert_eq!(process.exit_code().await, Some(1));
        process.wait_for("DATA_KEY: the passwords").await;
        let log = process.log();
        assert_eq!(log.iter().filter(|line| line.contains("ERROR")).count(), 1, "{log:?}");
        let checked = check_config(&database, &OTHER).await;
        assert_eq!(checked.code, Some(1));
        let failed = format!("FAILED  {expected}");
        assert!(checked.stdout.contains(&failed), "{}", checked.stdout);

        let service = Service::start(database.clone(), &BOTH_KEYS).await;
        service.sign_in("ana@example.com").await;
        let keys = [("DATA_KEY", OTHER_KEY), ("DATA_PREVIOUS_KEYS", DATA_KEY)];
        let checked = check_config(&database, &keys).await;
        assert_eq!(checked.code, Some(0), "{}", checked.stdout);
        let is_set = "ok      DATA_KEY: is set, also accepted: 1 previous";
        assert!(checked.stdout.contains(is_set), "{}", checked.stdout);
    }

    async fn a_key_that_opens_some_of_the_passwords_is_warned_of(database: TestDatabase) {
        let database = with_accounts(database, &["ana@example.com"]).await;
        let service = Service::start(database, &BOTH_KEYS).await;
        service.client().register(register("ben@example.com")).await.unwrap();
        let (_, database) = service.stop().await;
        let other = key_id(&database, "ben@example.com").await;
        let warning = format!(
            "some passwords in the database have the seal of another key ({other}): add it to \
             DATA_PREVIOUS_KEYS"
        );
        let process = Process::serve(&database, &[]);
        let line = process.wait_for(&format!("DATA_KEY: {warning}")).await;
        assert!(line.contains("WARN"), "{line}");
        process.wait_for("\"listening\"").await;
        let checked = check_config(&database, &[]).await;
        assert_eq!(checked.code, Some(0), "{}", checked.stdout);
        let said = format!("ok      DATA_KEY: is set, but {warning}");
        assert!(checked.stdout.contains(&said), "{}", checked.stdout);
    }

    async fn ten_registrations_under_another_key_do_not_stop_the_right_replicas(database: TestDatabase) {
        let emails: Vec<_> = (0..11).map(|n| format!("user{n}@example.com")).collect();
        let emails: Vec<_> = emails.iter().map(String::as_str).collect();
        let database = with_accounts(database, &emails).await;
        for email in &emails[1..] {
            seal_with_unknown_key(&database, email).await;
        }
        drop(Service::start(database.clone(), &[]).await);
        let checked = check_config(&database, &[]).await;
        let said = "is set, but some passwords in the database have the seal of another key (000000000000)";
        assert!(checked.stdout.contains(said), "{}", checked.stdout);

        seal_with_unknown_key(&database, emails[0]).await;
        let error = refused_start(&database, &[]).await;
        assert!(error.contains("another key (000000000000)"), "{error}");
    }

    async fn passwords_without_a_seal_do_not_hide_the_others(database: TestDatabase) {
        let database = with_accounts(database, &["ana@example.com"]).await;
        for stored in ["", HASH] {
            add_users(&database, 50, stored).await;
        }
        let key = key_id(&database, "ana@example.com").await;
        let error = refused_start(&database, &["--data-key", OTHER_KEY]).await;
        assert!(error.contains(&format!("another key ({key})")), "{error}");
    }

    /// Their ids are below and above those of this service.
    async fn many_imported_users_without_a_password_do_not_hide_the_others(database: TestDatabase) {
        let database = with_accounts(database, &["ana@example.com"]).await;
        let low = database.dialect(
            "unhex('00' || hex(randomblob(15)))",
            "CAST('00000000' || right(CAST(gen_random_uuid() AS TEXT), 28) AS UUID)",
        );
        add_users_with_ids(&database, low, 1100, "").await;
        database.execute("UPDATE users SET email = 'low-' || email WHERE password_hash = ''").await;
        add_users(&database, 1100, "").await;
        let key = key_id(&database, "ana@example.com").await;
        let error = refused_start(&database, &["--data-key", OTHER_KEY]).await;
        assert!(error.contains(&format!("another key ({key})")), "{error}");
    }

    async fn without_the_lost_keys_the_sql_of_the_runbook_lets_the_service_start(database: TestDatabase) {
        let database = with_accounts(database, &["ana@example.com"]).await;
        let service = Service::start(database, &BOTH_KEYS).await;
        service.client().register(register("ben@example.com")).await.unwrap();
        let (_, database) = service.stop().await;
        let ana_key = key_id(&database, "ana@example.com").await;
        let ben_key = key_id(&database, "ben@example.com").await;
        let error = refused_start(&database, &["--data-key", NEW_KEY]).await;
        assert!(error.contains(&ana_key) && error.contains(&ben_key), "{error}");

        let blocks = runbook_sql("Lost data key");
        let [make_unusable, put_back] = &blocks[..] else { panic!("{blocks:?}") };
        assert!(make_unusable.contains("KEY_ID") && put_back.contains("KEY_ID"), "{blocks:?}");
        // Nobody knows whether it was done already.
        for key in [&ana_key, &ben_key, &ana_key, &ben_key] {
            database.execute(&make_unusable.replace("KEY_ID", key)).await;
        }
        let service = Service::start(database.clone(), &["--data-key", NEW_KEY]).await;
        for email in ["ana@example.com", "ben@example.com"] {
            assert_wrong_password(&refused(service.client().login(login(email)).await));
        }
        service.client().register(register("cem@example.com")).await.unwrap();
        let replica = Replica::new(&database, &["--data-key", NEW_KEY]);
        replica.tick().await;
        assert_eq!(replica.counts(), ["1.0", "0.0", "0.0", "0.0"], "no alarm for ever");
        let (_, database) = service.stop().await;

        // One key is found.
        database.execute(&put_back.replace("KEY_ID", &ana_key)).await;
        let found = ["--data-key", NEW_KEY, "--data-previous-keys", DATA_KEY];
        let service = Service::start(database, &found).await;
        service.sign_in("ana@example.com").await;
        assert_wrong_password(&refused(service.client().login(login("ben@example.com")).await));
        let (_, database) = service.stop().await;

        // The other one is found, and step 1 was followed once more before.
        database.execute(&make_unusable.replace("KEY_ID", &ben_key)).await;
        for _ in 0..2 {
            database.execute(&put_back.replace("KEY_ID", &ben_key)).await;
        }
        let both = format!("{DATA_KEY},{OTHER_KEY}");
        let found = ["--data-key", NEW_KEY, "--data-previous-keys", &both];
        let service = Service::start(database, &found).await;
        for email in ["ana@example.com", "ben@example.com", "cem@example.com"] {
            service.sign_in(email).await;
        }
        assert_eq!(service.database.count("SELECT count(*) FROM lost_passwords").await, 0);
    }
}

/// After a restore of `auth.db` alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_file_beside_an_existing_database_is_refused_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("data/data-key");
    let ports = crate::harness::FREE_PORTS;
    let start = || Process::start(folder.path(), &[], &ports);
    let mut process = start();
    let mut client = process.client().await;
    client.register(register("ana@example.com")).await.unwrap();
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));
    let right = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();

    let said = "DATA_KEY: there was no file data/data-key, and the passwords";
    for _ in 0..2 {
        let checked = Process::run(folder.path(), &["check-config"], &ports).await;
        assert_eq!(checked.code, Some(1));
        assert!(
            checked.stdout.contains("FAILED  DATA_KEY: "),
            "{}",
            checked.stdout
        );
        let mut process = start();
        assert_eq!(process.exit_code().await, Some(1));
        process.wait_for(said).await;
        assert!(!key.exists(), "it is not the key of this database");
    }
    // A wrong file that was there before is kept.
    fs::write(&key, OTHER_KEY).unwrap();
    let mut process = start();
    assert_eq!(process.exit_code().await, Some(1));
    process.wait_for("DATA_KEY: the passwords").await;
    assert_eq!(fs::read_to_string(&key).unwrap(), OTHER_KEY);

    fs::write(&key, right).unwrap();
    let process = start();
    let mut client = process.client().await;
    client.login(login("ana@example.com")).await.unwrap();
}
