//! Each test has its own database.
//!
//! In the hostile profile the sequences of a Postgres database give each session a hundred values
//! in advance, the role's default isolation is SERIALIZABLE, and the URL leads through a proxy
//! that lets one of [`CONFLICTS`] units of work fail with 40001.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use diesel::{
    Connection as _, RunQueryDsl as _, SqliteConnection, connection::SimpleConnection as _,
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tokio_postgres::NoTls;

use super::{Conflicts, skip};

const CONFLICTS: usize = 5;

/// Each new table of the database gets the sequence that YugabyteDB would give it.
const CACHE_SEQUENCES: &str = "
    CREATE FUNCTION cache_sequences() RETURNS event_trigger LANGUAGE plpgsql AS $$
    DECLARE found record;
    BEGIN
        FOR found IN SELECT * FROM pg_sequences WHERE cache_size < 100 LOOP
            EXECUTE format('ALTER SEQUENCE %I.%I CACHE 100', found.schemaname, found.sequencename);
        END LOOP;
    END $$;
    CREATE EVENT TRIGGER cache_sequences ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
        EXECUTE FUNCTION cache_sequences()";

/// The kind of database that a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    /// The server of `TEST_DATABASE_URL`.
    Postgres,
}

/// An empty database. It is deleted with its last clone.
#[derive(Clone)]
pub struct TestDatabase(Arc<Inner>);

enum Inner {
    Sqlite(Folder),
    Postgres {
        server: Box<tokio_postgres::Config>,
        url: String,
        name: String,
        server_outlives_it: bool,
        /// In the hostile profile.
        conflicts: Option<Conflicts>,
    },
}

impl TestDatabase {
    /// `None` if there is no Postgres; then the test was skipped.
    pub async fn create(backend: Backend) -> Option<Self> {
        match backend {
            Backend::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                Some(Self(Arc::new(Inner::Sqlite(Folder::Ours(folder)))))
            }
            Backend::Postgres => Self::create_with("").await,
        }
    }

    /// On Postgres, with these clauses of `CREATE DATABASE`.
    pub async fn create_with(clauses: &str) -> Option<Self> {
        let Ok(server_url) = env::var("TEST_DATABASE_URL") else {
            skip("no Postgres: TEST_DATABASE_URL is not set");
            return None;
        };
        let inner = create_on(&server_url, clauses, true).await;
        Some(Self(Arc::new(inner)))
    }

    /// For a server that the test may break. `clauses` are added to `CREATE DATABASE`. The
    /// database is not deleted before the server is.
    pub async fn create_at(server_url: &str, clauses: &str) -> Self {
        Self(Arc::new(create_on(server_url, clauses, false).await))
    }

    /// A SQLite database in a folder that exists.
    pub fn in_folder(folder: &Path) -> Self {
        Self(Arc::new(Inner::Sqlite(Folder::Given(folder.to_owned()))))
    }

    /// The same database on another server, to which it was replicated.
    pub fn moved_to(&self, server_url: &str) -> Self {
        let Inner::Postgres { name, .. } = &*self.0 else {
            panic!("a file has no server")
        };
        let (base, _) = server_url.rsplit_once('/').expect("a URL with a database");
        Self(Arc::new(Inner::Postgres {
            server: Box::new(server_url.parse().expect("a Postgres URL")),
            url: format!("{base}/{name}"),
            name: name.clone(),
            server_outlives_it: false,
            conflicts: None,
        }))
    }

    pub fn backend(&self) -> Backend {
        match *self.0 {
            Inner::Sqlite(_) => Backend::Sqlite,
            Inner::Postgres { .. } => Backend::Postgres,
        }
    }

    /// For `DATABASE_URL`.
    pub fn url(&self) -> String {
        match &*self.0 {
            Inner::Postgres {
                conflicts: Some(conflicts),
                ..
            } => self.url_through(conflicts),
            _ => self.direct_url(),
        }
    }

    pub fn url_through(&self, conflicts: &Conflicts) -> String {
        let url = self.direct_url();
        url.replacen(server_of(&url), &conflicts.addr, 1)
    }

    /// Starts a proxy in front of the server of this database.
    pub async fn conflicts(&self) -> Conflicts {
        Conflicts::start(server_of(&self.direct_url())).await
    }

    /// The URL without a proxy.
    pub fn direct_url(&self) -> String {
        match &*self.0 {
            Inner::Sqlite(folder) => format!("sqlite://{}", file(folder).display()),
            Inner::Postgres { url, .. } => url.clone(),
        }
    }

    pub async fn execute(&self, sql: &str) {
        match &*self.0 {
            Inner::Sqlite(folder) => {
                sqlite(folder)
                    .batch_execute(sql)
                    .expect("the statements run");
            }
            Inner::Postgres { server, name, .. } => {
                execute_on(server.clone().dbname(name), sql).await;
            }
        }
    }

    /// The one number that a query returns.
    pub async fn count(&self, sql: &str) -> i64 {
        self.text(&format!("SELECT CAST(({sql}) AS TEXT)"))
            .await
            .expect("a number")
            .parse()
            .expect("a number")
    }

    /// Waits, for at most a minute, until a query returns this number.
    pub async fn wait_for(&self, sql: &str, number: i64) {
        let reached = async {
            while self.count(sql).await != number {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = timeout(Duration::from_mins(1), reached).await.is_ok();
        assert!(in_time, "{sql} is not {number}");
    }

    /// The one of two pieces of SQL that this database understands.
    pub fn dialect<'a>(&self, sqlite: &'a str, postgres: &'a str) -> &'a str {
        match self.backend() {
            Backend::Sqlite => sqlite,
            Backend::Postgres => postgres,
        }
    }

    /// The text that a query returns (cast it to TEXT). `None` for NULL and for no row.
    pub async fn text(&self, sql: &str) -> Option<String> {
        self.texts(sql).await.into_iter().next().flatten()
    }

    /// The column of texts that a query returns.
    pub async fn texts(&self, sql: &str) -> Vec<Option<String>> {
        match &*self.0 {
            Inner::Sqlite(folder) => {
                #[derive(diesel::QueryableByName)]
                struct Row {
                    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Text>)]
                    value: Option<String>,
                }
                let sql =
                    format!("SELECT value FROM (SELECT NULL AS value WHERE false UNION ALL {sql})");
                let rows: Vec<Row> = diesel::sql_query(sql)
                    .load(&mut sqlite(folder))
                    .expect("the query runs");
                rows.into_iter().map(|row| row.value).collect()
            }
            Inner::Postgres { server, name, .. } => {
                let client = connect(server.clone().dbname(name)).await;
                let rows = client.query(sql, &[]).await.expect("the query runs");
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }

    /// The file of SQLite.
    pub fn sqlite_file(&self) -> Option<PathBuf> {
        match &*self.0 {
            Inner::Sqlite(folder) => Some(file(folder)),
            Inner::Postgres { .. } => None,
        }
    }
}

async fn create_on(server_url: &str, clauses: &str, server_outlives_it: bool) -> Inner {
    let server: tokio_postgres::Config = server_url.parse().expect("a Postgres URL");
    let name = format!("test_{}", uuid::Uuid::now_v7().simple());
    execute_on(&server, &format!("CREATE DATABASE {name} {clauses}")).await;
    let (base, parameters) = server_url.split_once('?').unwrap_or((server_url, ""));
    let (base, _) = base.rsplit_once('/').expect("a URL with a database");
    let url = format!("{base}/{name}?{parameters}");
    let conflicts = match env::var_os("TEST_HOSTILE") {
        Some(_) => Some(make_hostile(&server, &name, server_of(&url)).await),
        None => None,
    };
    Inner::Postgres {
        server: Box::new(server),
        url,
        name,
        server_outlives_it,
        conflicts,
    }
}

async fn make_hostile(server: &tokio_postgres::Config, name: &str, addr: &str) -> Conflicts {
    let isolation = format!(
        "ALTER ROLE CURRENT_USER IN DATABASE {name} SET default_transaction_isolation = 'serializable'"
    );
    execute_on(server.clone().dbname(name), CACHE_SEQUENCES).await;
    execute_on(server, &isolation).await;
    let conflicts = Conflicts::start(addr).await;
    conflicts.be_hostile(CONFLICTS);
    conflicts
}

/// Host and port.
fn server_of(url: &str) -> &str {
    let (_, rest) = url.split_once("://").expect("a URL");
    let (authority, _) = rest.split_once('/').expect("a URL with a database");
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, server)| server)
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Self::Postgres {
            server,
            name,
            server_outlives_it: true,
            ..
        } = self
        {
            let (server, name) = (server.clone(), name.clone());
            // The runtime of the test may have ended.
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                let sql = format!("DROP DATABASE {name} WITH (FORCE)");
                runtime.block_on(execute_on(&server, &sql));
            })
            .join()
            .ok();
        }
    }
}

enum Folder {
    Ours(TempDir),
    Given(PathBuf),
}

fn file(folder: &Folder) -> PathBuf {
    match folder {
        Folder::Ours(folder) => folder.path().join("auth.db"),
        Folder::Given(folder) => folder.join("auth.db"),
    }
}

fn sqlite(folder: &Folder) -> SqliteConnection {
    let file = file(folder);
    let mut conn = SqliteConnection::establish(file.to_str().expect("UTF-8")).expect("opens");
    conn.batch_execute("PRAGMA busy_timeout = 5000")
        .expect("a pragma");
    conn
}

/// The harness itself works in READ COMMITTED, whatever the role's default is.
async fn connect(server: &tokio_postgres::Config) -> tokio_postgres::Client {
    let mut server = server.clone();
    server.options("-c default_transaction_isolation=read\\ committed");
    let (client, connection) = server.connect(NoTls).await.expect("Postgres answers");
    tokio::spawn(connection);
    client
}

async fn execute_on(server: &tokio_postgres::Config, sql: &str) {
    let client = connect(server).await;
    client.batch_execute(sql).await.expect("the statements run");
}
