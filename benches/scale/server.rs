//! A Postgres with the settings of a server for large tables.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command as StdCommand, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{
    Result, footprint,
    world::{client, free_port},
};

/// Connections for 64 replicas with 16 each, and those of the benches. A checkpoint comes only
/// when a bench asks for it, and pages in the log are compressed, as deploy/capacity.md advises.
const SETTINGS: [&str; 6] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=1100",
    "max_wal_size=4GB",
    "checkpoint_timeout=1h",
    "wal_compression=on",
];

/// It is killed when it is dropped.
pub struct Server {
    /// For the databases of this server.
    pub url: String,
    process: Child,
    _folder: TempDir,
}

impl Server {
    /// `gigabytes` is the room that it needs.
    pub async fn start(gigabytes: u64) -> Result<Self> {
        let binaries = env::var_os("TEST_POSTGRES_BIN")
            .ok_or("TEST_POSTGRES_BIN is not set: this group starts a Postgres of its own")?;
        require_room(gigabytes)?;
        let binaries = PathBuf::from(binaries);
        let folder = folder()?;
        let data = folder.path().join("data");
        let initialised = unprivileged(&binaries.join("initdb"), folder.path())?
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .await?;
        if !initialised.success() {
            return Err("initdb failed".into());
        }
        let port = free_port()?;
        let process = unprivileged(&binaries.join("postgres"), folder.path())?
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string()])
            .args(SETTINGS.iter().flat_map(|setting| ["-c", setting]))
            .args(["-c", &format!("shared_buffers={}MB", memory()? / 4)])
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log"))?)
            .kill_on_drop(true)
            .spawn()?;
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        let answers = async {
            while client(&url).await.is_err() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_mins(1), answers).await?;
        Ok(Self {
            url,
            process,
            _folder: folder,
        })
    }

    pub async fn checkpoint(&self) -> Result<()> {
        let postgres = client(&self.url).await?;
        Ok(postgres.batch_execute("CHECKPOINT").await?)
    }

    /// Changes a setting for all connections.
    pub async fn set(&self, name: &str, value: &str) -> Result<()> {
        let postgres = client(&self.url).await?;
        let sql = format!("ALTER SYSTEM SET {name} = {value}");
        postgres.batch_execute(&sql).await?;
        postgres.batch_execute("SELECT pg_reload_conf()").await?;
        sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    /// The mean memory of the processes that serve the connections of an application.
    pub async fn memory_of(&self, application: &str) -> Result<u64> {
        let postgres = client(&self.url).await?;
        let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = $1";
        let rows = postgres.query(sql, &[&application]).await?;
        let mut bytes = 0;
        for row in &rows {
            let process: i32 = row.get(0);
            bytes += footprint::own(process.try_into()?)?;
        }
        Ok(bytes / u64::try_from(rows.len())?)
    }

    /// In order: a killed server leaves shared memory behind.
    pub async fn stop(mut self) -> Result<()> {
        let process = self.process.id().ok_or("it runs")?.to_string();
        Command::new("kill")
            .args(["-INT", &process])
            .status()
            .await?;
        self.process.wait().await?;
        Ok(())
    }
}

/// The memory of the machine in megabytes. A quarter of it is what Postgres's documentation advises
/// for its cache.
fn memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kilobytes = text.split_whitespace().nth(1).ok_or("MemTotal: N kB")?;
    Ok(kilobytes.parse::<u64>()? / 1024)
}

fn require_room(gigabytes: u64) -> Result<()> {
    let df = StdCommand::new("df")
        .args(["--output=avail", "-B1000000000", "/tmp"])
        .output()?;
    let text = String::from_utf8(df.stdout)?;
    let free: u64 = text.lines().last().ok_or("df")?.trim().parse()?;
    if free < gigabytes {
        return Err(format!("this needs {gigabytes} GB below /tmp, and {free} are free").into());
    }
    Ok(())
}

/// A new folder for the files of a server, which is `nobody` if this process is root.
pub fn folder() -> Result<TempDir> {
    let folder = tempfile::Builder::new()
        .prefix("auth-scale.")
        .tempdir_in("/tmp")?;
    if let Some((user, group)) = nobody()? {
        chown(folder.path(), Some(user), Some(group))?;
    }
    Ok(folder)
}

/// A command that ends with this process. Postgres and PgBouncer refuse to run as root.
pub fn unprivileged(program: &Path, folder: &Path) -> Result<Command> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some((user, group)) = nobody()? {
        let (user, group) = (user.to_string(), group.to_string());
        command.args(["--reuid", &user, "--regid", &group, "--clear-groups"]);
    }
    command
        .arg(program)
        .current_dir(folder)
        .stdin(Stdio::null());
    Ok(command)
}

/// User and group of `nobody`, if this process is root.
fn nobody() -> Result<Option<(u32, u32)>> {
    let number = |arguments: &[&str]| -> Result<u32> {
        let output = StdCommand::new("id").args(arguments).output()?;
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    };
    Ok(match number(&["-u"])? {
        0 => Some((number(&["-u", "nobody"])?, number(&["-g", "nobody"])?)),
        _ => None,
    })
}
