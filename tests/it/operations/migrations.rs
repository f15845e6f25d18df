//! The schema: made once even if many processes start, the same on both databases, and refused if
//! it is newer than the binary.

use std::{env, fs, sync::Arc, time::Duration};

use futures::future::join_all;

use crate::harness::{
    Backend, DATA_KEY, Ended, JWT_SECRET, ManualClock, Process, START, TestDatabase, both, build,
    db, login, register,
};

const APPLIED: &str = "SELECT count(*) FROM __diesel_schema_migrations";

/// The folder of the migrations.
fn folder(backend: Backend) -> String {
    let folder = match backend {
        Backend::Sqlite => "migrations/sqlite",
        Backend::Postgres => "migrations/postgres",
    };
    format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"))
}

/// The number of migrations.
fn known(backend: Backend) -> i64 {
    let migrations = fs::read_dir(folder(backend)).unwrap();
    migrations.count().try_into().unwrap()
}

async fn migrate(database: &TestDatabase) -> Ended {
    let url = database.url();
    Process::run(&env::temp_dir(), &["migrate"], &[("DATABASE_URL", &url)]).await
}

/// All tables with their columns, in order.
async fn columns(database: &TestDatabase) -> Vec<String> {
    let sql = database.dialect(
        "SELECT t.name || '.' || c.name FROM sqlite_schema t, pragma_table_info(t.name) c
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name NOT LIKE '__diesel%'",
        "SELECT table_name || '.' || column_name FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name NOT LIKE '__diesel%'",
    );
    let mut columns: Vec<_> = database.texts(sql).await.into_iter().flatten().collect();
    columns.sort();
    columns
}

both! {
    async fn ten_replicas_can_start_at_once_on_an_empty_database(database: TestDatabase) {
        let starts = (0..10).map(|_| {
            let database = database.clone();
            tokio::spawn(async move {
                let clock = Arc::new(ManualClock::new(START));
                build(&database, clock, &["--password-threads", "1"])
                    .await
                    .map(drop)
            })
        });
        for started in join_all(starts).await {
            started.unwrap().unwrap();
        }
        assert_eq!(database.count(APPLIED).await, known(database.backend()));
        assert_eq!(database.count("SELECT count(*) FROM outbox_lease").await, 1);
    }

    async fn ten_processes_can_migrate_at_once_and_again(database: TestDatabase) {
        for _ in 0..2 {
            for output in join_all((0..10).map(|_| migrate(&database))).await {
                assert_eq!(output.code, Some(0), "{}", output.stderr);
            }
            assert_eq!(database.count(APPLIED).await, known(database.backend()));
            assert_eq!(database.count("SELECT count(*) FROM outbox_lease").await, 1);
        }
    }

    async fn a_schema_that_is_newer_than_the_binary_is_refused(database: TestDatabase) {
        assert_eq!(migrate(&database).await.code, Some(0));
        database
            .execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231000001')")
            .await;
        let output = migrate(&database).await;
        assert_eq!(output.code, Some(1));
        let stderr = output.stderr;
        assert!(
            stderr.contains("20991231000001") && stderr.lines().count() == 1,
            "{stderr}"
        );

        let clock = Arc::new(ManualClock::new(START));
        let refused = build(&database, clock, &[])
            .await
            .err()
            .expect("the start is refused");
        assert!(refused.to_string().contains("20991231000001"), "{refused}");
        let mut process = Process::serve(&database, &[]);
        assert_eq!(process.exit_code().await, Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_have_the_same_tables_and_columns() {
    let mut schemas = Vec::new();
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let Some(database) = TestDatabase::create(backend).await else {
            return;
        };
        assert_eq!(migrate(&database).await.code, Some(0));
        schemas.push(columns(&database).await);
    }
    assert!(schemas[0].contains(&"outbox_events.payload".to_owned()));
    assert_eq!(schemas[0], schemas[1]);
}

/// A step of a migration, in order: a statement, or the row that records it.
fn steps(backend: Backend) -> Vec<String> {
    let folder = match backend {
        Backend::Sqlite => "migrations/sqlite",
        Backend::Postgres => "migrations/postgres",
    };
    let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut steps = Vec::new();
    for name in names {
        let sql = fs::read_to_string(format!("{folder}/{name}/up.sql")).unwrap();
        let lines = sql.lines().map(|line| line.split("--").next().unwrap());
        let sql = lines.collect::<Vec<_>>().join("\n");
        let statements = sql.split(';').map(str::trim);
        // Outside a transaction, `SET LOCAL` does nothing.
        let statements = statements.filter(|sql| !sql.is_empty() && !sql.starts_with("SET LOCAL"));
        steps.extend(statements.map(str::to_owned));
        let (version, _) = name.split_once('_').unwrap();
        let version = version.replace('-', "");
        steps.push(format!(
            "INSERT INTO __diesel_schema_migrations (version) VALUES ('{version}')"
        ));
    }
    steps
}

/// As Diesel creates it.
const VERSIONS: &str = "CREATE TABLE __diesel_schema_migrations (
    version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)";

/// The columns and indexes of the tables.
async fn schema(database: &TestDatabase) -> Vec<String> {
    let sql = database.dialect(
        "SELECT tbl_name || ' ' || name FROM sqlite_schema WHERE type = 'index'",
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
    );
    let indexes = database.texts(sql).await.into_iter().flatten();
    let mut schema = columns(database).await;
    schema.extend(indexes);
    schema.sort();
    schema
}

/// On Postgres each statement commits by itself, as on a database without transactions for the
/// schema. SQLite always has them, and no `ADD COLUMN IF NOT EXISTS`.
async fn a_start_goes_on_after_a_crash_between_any_two_statements(backend: Backend) {
    let steps = steps(backend);
    let mut expected = None;
    for cut in 0..=steps.len() {
        let is_between = cut == 0 || steps[cut - 1].contains("__diesel_schema_migrations");
        if backend == Backend::Sqlite && !is_between {
            continue;
        }
        let Some(database) = TestDatabase::create(backend).await else {
            return;
        };
        database.execute(VERSIONS).await;
        for step in &steps[..cut] {
            database.execute(step).await;
        }
        let db = db(&database, Duration::from_secs(10));
        let starts = (0..2).map(|_| {
            let db = db.clone();
            tokio::spawn(async move { db.migrate().await })
        });
        let after = &steps[..cut].last();
        for started in join_all(starts).await {
            started
                .unwrap()
                .unwrap_or_else(|error| panic!("{error:?} after {after:?}"));
        }
        assert_eq!(database.count(APPLIED).await, known(backend));
        assert_eq!(database.count("SELECT count(*) FROM outbox_lease").await, 1);
        let schema = schema(&database).await;
        let expected = expected.get_or_insert_with(|| schema.clone());
        assert_eq!(schema, *expected, "after {after:?}");
        if backend == Backend::Postgres {
            let tuned =
                "SELECT count(*) FROM pg_class WHERE relname IN ('outbox_events', 'outbox_lease')
                AND array_to_string(reloptions, ',') LIKE '%autovacuum_vacuum_threshold%'";
            assert_eq!(database.count(tuned).await, 2, "after {after:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_goes_on_after_a_crash_between_any_two_statements_on_sqlite() {
    a_start_goes_on_after_a_crash_between_any_two_statements(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_goes_on_after_a_crash_between_any_two_statements_on_postgres() {
    a_start_goes_on_after_a_crash_between_any_two_statements(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_database_that_cannot_hold_all_text_is_refused() {
    let clauses = "ENCODING 'LATIN1' TEMPLATE template0";
    let Some(database) = TestDatabase::create_with(clauses).await else {
        return;
    };
    let said = "the database has the encoding LATIN1";
    let migrated = migrate(&database).await;
    assert_eq!(migrated.code, Some(1));
    assert!(migrated.stderr.contains(said), "{}", migrated.stderr);
    let clock = Arc::new(ManualClock::new(START));
    let refused = build(&database, clock, &[]).await.err();
    let refused = refused.expect("the start is refused").to_string();
    assert!(refused.contains(said), "{refused}");
    let variables = [
        ("DATABASE_URL", &*database.url()),
        ("JWT_SECRET", JWT_SECRET),
        ("DATA_KEY", DATA_KEY),
    ];
    let checked = Process::run(&env::temp_dir(), &["check-config"], &variables).await;
    let said = format!("FAILED  DATABASE_URL: {said}");
    assert!(checked.stdout.contains(&said), "{}", checked.stdout);
    assert_eq!(
        database
            .count("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            .await,
        0
    );
}

/// Replicas of the previous version go on while a new one migrates. A changed column breaks
/// their prepared statements ("cached plan must not change result type").
#[test]
fn a_migration_only_adds() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let migrations = fs::read_dir(folder(backend)).unwrap();
        for migration in migrations.map(|entry| entry.unwrap().path()) {
            let sql = fs::read_to_string(migration.join("up.sql")).unwrap();
            let lines = sql.lines().filter(|line| !line.starts_with("--"));
            let sql = lines.collect::<Vec<_>>().join(" ").to_uppercase();
            for change in [" ALTER COLUMN ", " TYPE ", "DROP ", " RENAME "] {
                assert!(!sql.contains(change), "{}: {change}", migration.display());
            }
        }
    }
}

/// An upgrade of the operating system can change the order of any other collation.
#[tokio::test(flavor = "multi_thread")]
async fn text_is_compared_byte_by_byte_on_postgres() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    assert_eq!(migrate(&database).await.code, Some(0));
    let others = "SELECT relname || '.' || attname FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid
        WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE '__diesel%'
        AND attcollation NOT IN (0, '\"C\"'::regcollation)";
    assert_eq!(database.texts(others).await, []);
    let of_email = "SELECT count(*) FROM pg_index WHERE indrelid = 'users'::regclass
        AND indcollation[0] = '\"C\"'::regcollation";
    assert_eq!(database.count(of_email).await, 1);
}

/// The tables belong to another role. The service may use them, but not create or change any.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_change_the_schema_serves_once_it_is_migrated() {
    const FORGET: &str = "ALTER TABLE __diesel_schema_migrations RENAME TO forgotten;
        CREATE VIEW __diesel_schema_migrations AS SELECT * FROM forgotten ORDER BY version LIMIT 1;
        GRANT SELECT ON __diesel_schema_migrations TO PUBLIC";
    const REMEMBER: &str = "DROP VIEW __diesel_schema_migrations;
        ALTER TABLE forgotten RENAME TO __diesel_schema_migrations";
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    assert_eq!(migrate(&database).await.code, Some(0));
    let role = format!("service_{}", uuid::Uuid::now_v7().simple());
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'secret';
         REVOKE ALL ON SCHEMA public FROM PUBLIC;
         GRANT USAGE ON SCHEMA public TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
    );
    database.execute(&grants).await;
    let url = database.url();
    let (_, server) = url.split_once('@').unwrap();
    let url = format!("postgres://{role}:secret@{server}");

    let due = known(Backend::Postgres) - 1;
    let due =
        format!("FAILED  DATABASE_URL: this role may not run the {due} migrations that are due");
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("JWT_SECRET", JWT_SECRET),
        ("DATA_KEY", DATA_KEY),
    ];
    for (change, said) in [
        (
            String::new(),
            "ok      DATABASE_URL: answers, is up to date",
        ),
        (
            format!("REVOKE INSERT ON outbox_events FROM {role}"),
            "FAILED  DATABASE_URL: this role lacks a right on the tables",
        ),
        (
            format!("GRANT INSERT ON outbox_events TO {role}; {FORGET}"),
            &*due,
        ),
        (
            REMEMBER.to_owned(),
            "ok      DATABASE_URL: answers, is up to date",
        ),
    ] {
        database.execute(&change).await;
        let checked = Process::run(&env::temp_dir(), &["check-config"], &variables).await;
        assert!(checked.stdout.contains(said), "{}", checked.stdout);
    }
    let service = Process::serve(&database, &variables);
    let mut client = service.client().await;
    client.register(register("ana@example.com")).await.unwrap();
    client.login(login("ana@example.com")).await.unwrap();
    drop((client, service));

    let role = format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}");
    database.execute(&role).await;
}
