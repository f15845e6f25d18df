//! PgBouncer between the replicas and Postgres, in each mode that the installed version can serve.

use std::{
    fs,
    path::Path,
    process::{Command as StdCommand, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    process::Child,
    time::{sleep, timeout},
};

use super::{
    Server, Tables,
    connections::{Idle, POOL, REPLICAS, Replica, report},
    server::{folder, unprivileged},
};
use crate::{
    Result, footprint,
    postgres::{Postgres, medians},
    table::Table,
    world::{client, free_port},
};

const ROUNDS: usize = 4;

pub async fn measure(
    table: &mut Table,
    server: &Server,
    postgres: &Postgres,
    tables: &Tables,
) -> Result<()> {
    let Ok(output) = StdCommand::new("pgbouncer").arg("--version").output() else {
        eprintln!("NOT MEASURED: PgBouncer, for there is no `pgbouncer` in PATH");
        return Ok(());
    };
    let text = String::from_utf8(output.stdout)?;
    let version = text.split_whitespace().nth(1).ok_or("PgBouncer 1.x.y")?;
    let minor: u32 = version
        .split('.')
        .nth(1)
        .ok_or("PgBouncer 1.x.y")?
        .parse()?;
    // In session mode a client keeps its connection to the server.
    let session = PgBouncer::start(server, version, "session", REPLICAS * POOL);
    through(table, postgres, tables, session.await?).await?;
    if minor < 21 {
        eprintln!(
            "NOT MEASURED: transaction mode, for PgBouncer {version} knows no prepared statements"
        );
        return Ok(());
    }
    let transaction = PgBouncer::start(server, version, "transaction", POOL);
    through(table, postgres, tables, transaction.await?).await
}

/// One replica through PgBouncer, beside the connections of the others, which were used.
async fn through(
    table: &mut Table,
    postgres: &Postgres,
    tables: &Tables,
    bouncer: PgBouncer,
) -> Result<()> {
    let name = &bouncer.name;
    let url = bouncer.url(tables)?;
    let empty = bouncer.memory()?;
    let others = (REPLICAS - 1) * POOL;
    let idle = Idle::open(&url, others).await?;
    idle.use_all().await?;
    let memory = bouncer.memory()?;
    let mut through = Replica::start(&url, tables, POOL).await?;
    through.refresh(postgres).await?;
    let mut direct = Replica::start(&tables.database.url, tables, POOL).await?;
    let mut rounds = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        rounds[0].push(direct.refresh(postgres).await?);
        rounds[1].push(through.refresh(postgres).await?);
    }
    let [direct, through] = rounds.map(|rounds| medians(&rounds));
    let figure = format!("through {name}, beside {others} idle connections");
    report(table, &figure, &through, "without PgBouncer", &direct);
    let [memory, empty] = [memory, empty].map(footprint::megabytes);
    let figure = format!("memory of {name} with them");
    table.row(&figure, &memory, &format!("{empty} without"), "", "");
    Ok(())
}

/// It is killed when it is dropped.
struct PgBouncer {
    name: String,
    port: u16,
    process: Child,
    _folder: TempDir,
}

impl PgBouncer {
    async fn start(server: &Server, version: &str, mode: &str, servers: usize) -> Result<Self> {
        let folder = folder()?;
        let port = free_port()?;
        let to: tokio_postgres::Config = server.url.parse()?;
        let to = to.get_ports()[0];
        let prepared = match mode {
            "transaction" => "max_prepared_statements = 200\n",
            _ => "",
        };
        let config = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={to} user=postgres\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\nmax_client_conn = 1100\n\
             {prepared}default_pool_size = {servers}\n"
        );
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, config)?;
        let process = unprivileged(Path::new("pgbouncer"), folder.path())?
            .arg("-q")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        let answers = async {
            while client(&url).await.is_err() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_secs(20), answers).await?;
        Ok(Self {
            name: format!("PgBouncer {version} in {mode} mode"),
            port,
            process,
            _folder: folder,
        })
    }

    fn url(&self, tables: &Tables) -> Result<String> {
        let (_, name) = tables.database.url.rsplit_once('/').ok_or("a URL")?;
        Ok(format!(
            "postgres://postgres@127.0.0.1:{}/{name}",
            self.port
        ))
    }

    fn memory(&self) -> Result<u64> {
        footprint::own(self.process.id().ok_or("it runs")?)
    }
}
