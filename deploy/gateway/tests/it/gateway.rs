//! The gateway as a process.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    eventually,
    service::{Service, TOKEN},
};

pub struct Gateway {
    folder: TempDir,
    /// `127.0.0.1:8080`.
    pub host: String,
    process: Child,
}

impl Gateway {
    pub async fn start(service: &Service) -> Self {
        let folder = TempDir::new().unwrap();
        let token = folder.path().join("token");
        fs::write(&token, TOKEN).unwrap();
        let output = folder.path().join("output");
        let process = Command::new(env!("CARGO_BIN_EXE_realchat-gateway-example"))
            .env_clear()
            .env("LISTEN", "127.0.0.1:0")
            .env("AUTH_URL", service.url())
            .env("AUTH_TOKEN_FILE", token)
            .stdin(Stdio::null())
            .stdout(File::create(&output).unwrap())
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn();
        let host = eventually("the gateway", async || {
            let output = fs::read_to_string(&output).unwrap();
            let (line, _) = output.split_once('\n')?;
            line.strip_prefix("listening on ").map(str::to_owned)
        });
        let process = process.expect("the gateway starts");
        let host = host.await;
        Self {
            folder,
            host,
            process,
        }
    }

    pub fn log(&self) -> String {
        let path: PathBuf = self.folder.path().join("log");
        fs::read_to_string(path).unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
