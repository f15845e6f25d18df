//! Chromium, driven by the `WebDriver` protocol (W3C), whose commands are JSON over HTTP.

use std::{
    env,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{eventually, http};

/// The key of an element's id in an answer (`WebDriver`, section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub struct Driver {
    host: String,
    process: Child,
    _folder: TempDir,
}

impl Driver {
    /// `None`, which it says, if there is no browser.
    pub async fn start() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let output = folder.path().join("output");
        let started = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(File::create(&output).unwrap())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = started else {
            assert!(env::var_os("CI").is_none(), "chromedriver is missing");
            eprintln!("SKIPPED: chromedriver is missing; Debian's package is chromium-driver");
            return None;
        };
        let port = eventually("chromedriver", async || {
            let output = fs::read_to_string(&output).unwrap();
            let (_, rest) = output.split_once("started successfully on port ")?;
            let (port, _) = rest.split_once('.')?;
            Some(port.to_owned())
        });
        let host = format!("127.0.0.1:{}", port.await);
        Some(Self {
            host,
            process,
            _folder: folder,
        })
    }

    /// A new browser, without cookies and without scripts.
    pub async fn browser(&self) -> Browser {
        // Chromium refuses its sandbox to root. It opens only the pages of this test.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--lang=en-US",
        ];
        let preferences = json!({"profile.managed_default_content_settings.javascript": 2});
        let options = json!({"args": arguments, "prefs": preferences});
        let capabilities = json!({"browserName": "chrome", "goog:chromeOptions": options});
        let request = json!({"capabilities": {"alwaysMatch": capabilities}});
        let session = call(&self.host, "POST", "/session", &request).await;
        let id = session["sessionId"].as_str().expect("a session").to_owned();
        Browser {
            host: self.host.clone(),
            path: format!("/session/{id}"),
        }
    }
}

/// Ends the browsers too, which a signal to chromedriver would leave behind.
impl Drop for Driver {
    fn drop(&mut self) {
        let asked = TcpStream::connect(&self.host).and_then(|mut stream| {
            let request = format!("GET /shutdown HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
            stream.write_all(request.as_bytes())?;
            stream.read(&mut [0]).map(drop)
        });
        if asked.is_err() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

pub struct Browser {
    host: String,
    path: String,
}

impl Browser {
    async fn command(&self, command: &str, value: &Value) -> Value {
        let path = format!("{}/{command}", self.path);
        call(&self.host, "POST", &path, value).await
    }

    pub async fn open(&mut self, url: &str) {
        let answer = self.command("url", &json!({"url": url})).await;
        assert!(answer.is_null(), "{answer}");
    }

    /// Waits for it, because a page may still be on its way.
    async fn find(&self, selector: &str) -> String {
        let query = json!({"using": "css selector", "value": selector});
        let found = eventually(selector, async || {
            let found = self.command("element", &query).await;
            found[ELEMENT].as_str().map(str::to_owned)
        });
        found.await
    }

    pub async fn fill(&mut self, name: &str, text: &str) {
        let input = self.find(&format!("#{name}")).await;
        self.command(&format!("element/{input}/clear"), &json!({}))
            .await;
        let typed = json!({"text": text});
        let answer = self
            .command(&format!("element/{input}/value"), &typed)
            .await;
        assert!(answer.is_null(), "{answer}");
    }

    pub async fn click(&mut self, selector: &str) {
        let button = self.find(selector).await;
        let answer = self
            .command(&format!("element/{button}/click"), &json!({}))
            .await;
        assert!(answer.is_null(), "{answer}");
    }

    pub async fn submit(&mut self) {
        self.click("button.primary").await;
    }

    pub async fn log_in(&mut self, email: &str, password: &str) {
        self.fill("email", email).await;
        self.fill("password", password).await;
        self.submit().await;
    }

    /// Waits for the text.
    pub async fn sees(&mut self, text: &str) {
        let path = format!("{}/source", self.path);
        eventually(text, async || {
            let page = call(&self.host, "GET", &path, &Value::Null).await;
            page.as_str()?.contains(text).then_some(())
        })
        .await;
    }
}

/// The value of the answer, which describes the error if there is one.
async fn call(host: &str, method: &str, path: &str, body: &Value) -> Value {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let head = format!("{method} {path} HTTP/1.1\r\nContent-Type: application/json");
    let (_, answer) = http::send(host, &head, &body).await;
    let mut answer: Value = serde_json::from_str(&answer).unwrap();
    answer["value"].take()
}
