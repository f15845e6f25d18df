//! The service as a process of its own, for what only a process has: arguments, signals,
//! exit codes, a log.

use std::{
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::{JWT_SECRET, TestDatabase};

/// A running `auth-service`, killed when it is dropped.
pub struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts it in `folder` with nothing but these variables in its environment.
    pub fn start(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let service = Path::new(env!("CARGO_BIN_EXE_auth-service"));
        Self::spawn(command(service, folder, arguments, variables))
    }

    /// Starts one test of this very binary, as a process that a test can spoil from within.
    pub fn start_test(folder: &Path, test: &str, variables: &[(&str, &str)]) -> Self {
        let tests = std::env::current_exe().expect("a path");
        let arguments = ["--exact", test, "--nocapture"];
        let mut command = command(&tests, folder, &arguments, variables);
        command.stdout(Stdio::null());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary runs");
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let writer = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                writer.lock().unwrap().push(line);
            }
        });
        Self { child, log }
    }

    /// Starts it on a database, on free ports, with these further variables (they win over
    /// the harness's own).
    pub fn serve(database: &TestDatabase, variables: &[(&str, &str)]) -> Self {
        let url = database.url();
        let defaults = [
            ("DATABASE_URL", url.as_str()),
            ("GRPC_ADDR", "127.0.0.1:0"),
            ("ADMIN_ADDR", "127.0.0.1:0"),
            ("JWT_SECRET", JWT_SECRET),
            ("BCRYPT_COST", "10"),
        ];
        let variables = [&defaults, variables].concat();
        Self::start(&std::env::temp_dir(), &[], &variables)
    }

    /// The same without the capabilities that root has: it is as powerless as any user.
    pub fn serve_without_capabilities(database: &TestDatabase) -> Self {
        let mut command = without_capabilities(env!("CARGO_BIN_EXE_auth-service").as_ref());
        let url = database.url();
        command
            .envs([("DATABASE_URL", url.as_str()), ("JWT_SECRET", JWT_SECRET)])
            .envs(["GRPC_ADDR", "ADMIN_ADDR"].map(|name| (name, "127.0.0.1:0")))
            .envs([("LOG_FORMAT", "json")])
            .stdin(Stdio::null());
        Self::spawn(command)
    }

    /// Runs it to its end, within a minute.
    pub async fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let service = Path::new(env!("CARGO_BIN_EXE_auth-service"));
        let output = command(service, folder, arguments, variables)
            .kill_on_drop(true)
            .output();
        timeout(Duration::from_mins(1), output)
            .await
            .expect("it ends")
            .expect("the binary runs")
    }

    /// Waits until a line of the log contains `text`, and returns that line.
    pub async fn wait_for(&self, text: &str) -> String {
        let found = async {
            loop {
                if let Some(line) = self.log().into_iter().find(|line| line.contains(text)) {
                    return line;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let Ok(line) = timeout(Duration::from_mins(1), found).await else {
            panic!("no {text:?} in the log: {:#?}", self.log())
        };
        line
    }

    /// Where it serves gRPC, once it does.
    pub async fn grpc_addr(&self) -> SocketAddr {
        self.addr("grpc").await
    }

    async fn addr(&self, field: &str) -> SocketAddr {
        let line = self.wait_for("\"listening\"").await;
        let (_, rest) = line
            .split_once(&format!("\"{field}\":\""))
            .expect("the log says where");
        rest.split_once('"')
            .expect("JSON")
            .0
            .parse()
            .expect("an address")
    }

    /// Its log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Sends a signal by its name, such as TERM.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = std::process::Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Waits for its end; the exit code.
    pub async fn exit_code(&mut self) -> Option<i32> {
        self.ended().await.code()
    }

    /// Waits for its end; the signal that ended it.
    pub async fn killed_by(&mut self) -> Option<i32> {
        self.ended().await.signal()
    }

    async fn ended(&mut self) -> ExitStatus {
        let ended = timeout(Duration::from_mins(1), self.child.wait()).await;
        ended.expect("it ends").expect("it can be waited for")
    }
}

/// A command without any capability, as only root has.
pub fn without_capabilities(program: &Path) -> Command {
    let root = rustix::process::geteuid().is_root();
    let mut command = Command::new(if root { "setpriv".as_ref() } else { program });
    if root {
        let none = ["--bounding-set=-all", "--inh-caps=-all"];
        command.args(none).arg(program);
    }
    command
}

fn command(
    program: &Path,
    folder: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    command
}
