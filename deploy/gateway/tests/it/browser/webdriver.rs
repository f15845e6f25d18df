//! Chromium, driven by the `WebDriver` protocol (W3C), whose commands are JSON over HTTP.

use std::{
    env,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::join;

use crate::{eventually, http};

/// The key of an element's id in an answer (`WebDriver`, section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Ends its whole process group at the end of its input, so also if the test is killed. Without
/// that a browser outlives chromedriver.
const GUARD: &str = "chromedriver --port=0 & read -r _; kill -KILL 0";

pub struct Driver {
    host: String,
    guard: Child,
    /// Of all that chromedriver and the browsers write.
    folder: TempDir,
}

impl Driver {
    /// `None`, which it says, if there is no browser.
    pub async fn start() -> Option<Self> {
        let version = Command::new("chromedriver").arg("--version").output();
        if version.is_err() {
            assert!(env::var_os("CI").is_none(), "chromedriver is missing");
            eprintln!("SKIPPED: chromedriver is missing; Debian's package is chromium-driver");
            return None;
        }
        let folder = TempDir::new().unwrap();
        let output = folder.path().join("output");
        let guard = Command::new("sh")
            .args(["-c", GUARD])
            .env("TMPDIR", folder.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(File::create(&output).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut driver = Self {
            host: String::new(),
            guard,
            folder,
        };
        let port = eventually("chromedriver", async || {
            let output = fs::read_to_string(&output).unwrap();
            let (_, rest) = output.split_once("started successfully on port ")?;
            let (port, _) = rest.split_once('.')?;
            Some(port.to_owned())
        });
        driver.host = format!("127.0.0.1:{}", port.await);
        Some(driver)
    }

    /// Also waits until the browsers are gone.
    pub async fn end(self) {
        let (group, folder) = (self.guard.id(), self.folder.path().to_owned());
        assert!(!living(group).is_empty());
        drop(self);
        eventually("the end of the browsers", async || {
            living(group).is_empty().then_some(())
        })
        .await;
        assert!(!folder.exists());
    }

    pub async fn browsers(&self) -> (Browser, Browser) {
        join!(self.browser(), self.browser())
    }

    /// A new browser, without cookies and without scripts.
    async fn browser(&self) -> Browser {
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

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        // A browser may write until its signal arrives.
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.folder.path().exists() && Instant::now() < deadline {
            if fs::remove_dir_all(self.folder.path()).is_err() {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// The processes of this group that run. One that has ended may wait for its parent to notice.
fn living(group: u32) -> Vec<PathBuf> {
    let runs = |folder: &PathBuf| {
        let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
        // The name, in parentheses, may hold spaces. State, parent and group follow it.
        let rest = stat.rsplit(") ").next().unwrap_or_default();
        let mut fields = rest.split(' ');
        let is_ended = matches!(fields.next(), Some("Z" | "X"));
        !is_ended && fields.nth(1) == Some(&group.to_string())
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.map(|entry| entry.path()).filter(runs).collect()
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
