//! The service as a process of its own, for tests of arguments, signals, exit codes and the log.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::{ffi::OsStrExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use auth_service::proto::auth_service_client::AuthServiceClient;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{sleep, timeout},
};
use tonic::transport::Channel;

use super::{TestDatabase, connect, eventually, settings};

/// A command of `auth-service` that has ended.
#[derive(Debug)]
pub struct Ended {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A running `auth-service`, killed when it is dropped.
pub struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts it in `folder` with only these variables in its environment.
    pub fn start(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let service = Path::new(env!("CARGO_BIN_EXE_auth-service"));
        Self::spawn(command(service, folder, arguments, variables))
    }

    /// Starts it as process 1 of a namespace of its own, as in a container.
    pub fn start_as_process_one(
        folder: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let unshare = ["--pid", "--fork", "--kill-child"];
        let user = ["--user", "--map-root-user"];
        let user = if rustix::process::geteuid().is_root() {
            &[][..]
        } else {
            &user
        };
        let service = [env!("CARGO_BIN_EXE_auth-service")];
        let arguments = [&unshare, user, &service, arguments].concat();
        Self::spawn(command(Path::new("unshare"), folder, &arguments, variables))
    }

    /// The process that this one started, by the number that it has outside its namespace.
    pub async fn child(&self) -> u32 {
        let pid = self.pid();
        let file = format!("/proc/{pid}/task/{pid}/children");
        let mut child = None;
        eventually(async || {
            child = std::fs::read_to_string(&file)
                .expect("it runs")
                .trim()
                .parse()
                .ok();
            // Before its `exec` it would still be a copy of `unshare`.
            child.is_some_and(|pid: u32| {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
                name.is_ok_and(|name| name.starts_with("auth-service"))
            })
        })
        .await;
        child.expect("found")
    }

    pub async fn signal_child(&self, name: &str) {
        assert!(send_signal(self.child().await, name));
    }

    /// Starts one test of this test binary as a process. Its code can use parts of the service.
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

    /// Starts it on a database with the [`settings`] of all tests, and `more`, which win.
    pub fn serve(database: &TestDatabase, more: &[(&str, &str)]) -> Self {
        let url = database.url();
        Self::start(&std::env::temp_dir(), &[], &settings(&url, more))
    }

    /// Like `serve`, but without the capabilities of root.
    pub fn serve_without_capabilities(database: &TestDatabase) -> Self {
        let mut command = without_capabilities(env!("CARGO_BIN_EXE_auth-service").as_ref());
        let url = database.url();
        let more = [("LOG_FORMAT", "json")];
        command.envs(settings(&url, &more)).stdin(Stdio::null());
        Self::spawn(command)
    }

    /// Runs it until it ends, at most a minute.
    pub async fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let service = Path::new(env!("CARGO_BIN_EXE_auth-service"));
        let output = command(service, folder, arguments, variables)
            .kill_on_drop(true)
            .output();
        let output = timeout(Duration::from_mins(1), output).await;
        let output = output.expect("it ends").expect("the binary runs");
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Runs it on a terminal of its own, on which this text is typed. Returns the exit code and
    /// what the terminal showed.
    pub async fn run_on_terminal(
        arguments: &[&str],
        variables: &[(&str, &str)],
        typed: &str,
    ) -> (Option<i32>, String) {
        let (mut keyboard, terminal) = open_terminal().expect("a terminal");
        let service = Path::new(env!("CARGO_BIN_EXE_auth-service"));
        let mut command = command(service, &std::env::temp_dir(), arguments, variables);
        let end = || terminal.try_clone().expect("a descriptor");
        command.stdin(end()).stdout(end()).stderr(end());
        let mut child = command.kill_on_drop(true).spawn().expect("the binary runs");
        // The screen ends when the last descriptor of the terminal is closed.
        drop((command, terminal));
        keyboard.write_all(typed.as_bytes()).expect("it is typed");
        let screen = tokio::task::spawn_blocking(move || {
            let mut screen = Vec::new();
            // Linux reports the end as an error.
            let _ = keyboard.read_to_end(&mut screen);
            String::from_utf8_lossy(&screen).into_owned()
        });
        let ended = timeout(Duration::from_mins(1), child.wait()).await;
        let code = ended.expect("it ends").expect("it ran").code();
        (code, screen.await.expect("it is read"))
    }

    /// Waits until a line of the log contains `text`, and returns that line.
    pub async fn wait_for(&self, text: &str) -> String {
        let found = async {
            loop {
                // Without a copy of the log: at `trace` it is long, and this reads it often.
                let line = (self.log.lock().unwrap().iter())
                    .find(|line| line.contains(text))
                    .cloned();
                if let Some(line) = line {
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

    /// The gRPC address, as soon as the log has it.
    pub async fn grpc_addr(&self) -> SocketAddr {
        self.addr("grpc").await
    }

    /// The address of this port, as soon as the log has it.
    pub async fn addr(&self, port: &str) -> SocketAddr {
        let line = self.wait_for("\"listening\"").await;
        let field = format!("\"{port}\":\"");
        let (_, rest) = line.split_once(&field).expect("the log has the address");
        rest.split_once('"')
            .expect("JSON")
            .0
            .parse()
            .expect("an address")
    }

    /// A client on a new connection.
    pub async fn client(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(connect(self.grpc_addr().await).await)
    }

    /// The lines of the log until now.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Sends a signal by its name, such as TERM.
    pub fn signal(&self, name: &str) {
        assert!(send_signal(self.pid(), name));
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Its memory in RAM, in bytes.
    pub fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("it runs");
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        let kilobytes = kilobytes.and_then(|number| number.parse::<usize>().ok());
        kilobytes.expect("on Linux") * 1024
    }

    /// Waits until the process ends. `None` if a signal ended it.
    pub async fn exit_code(&mut self) -> Option<i32> {
        self.ended().await.code()
    }

    /// Waits until the process ends; the number of the signal that ended it.
    pub async fn killed_by(&mut self) -> Option<i32> {
        self.ended().await.signal()
    }

    async fn ended(&mut self) -> ExitStatus {
        let ended = timeout(Duration::from_mins(1), self.child.wait()).await;
        ended.expect("it ends").expect("it can be waited for")
    }
}

/// A keyboard with a screen, and the terminal of a process.
fn open_terminal() -> std::io::Result<(File, File)> {
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&keyboard)?;
    unlockpt(&keyboard)?;
    let name = ptsname(&keyboard, Vec::new())?;
    let path = Path::new(OsStr::from_bytes(name.to_bytes()));
    let terminal = File::options().read(true).write(true).open(path)?;
    Ok((keyboard.into(), terminal))
}

/// Sends a signal by its name. `false` if there is no such process.
pub fn send_signal(pid: u32, name: &str) -> bool {
    let status = std::process::Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .stderr(Stdio::null())
        .status();
    status.expect("kill runs").success()
}

/// A command without the capabilities that root has.
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
