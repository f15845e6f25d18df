//! The inboxes of the real SMTP server, and a proxy in front of it that makes faults.

use std::{
    env,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use mail_parser::MessageParser;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use crate::eventually;

pub fn url() -> String {
    env::var("TEST_SMTP_URL").unwrap()
}

/// A mail in an inbox, as its reader sees it.
#[derive(Debug)]
pub struct Mail {
    pub to: String,
    pub from: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    pub message_id: String,
    pub source: String,
}

impl Mail {
    fn parse(source: &str) -> Self {
        let message = MessageParser::default().parse(source).unwrap();
        let address = |list: Option<&mail_parser::Address>| {
            let first = list.unwrap().first().unwrap();
            first.address.as_ref().unwrap().to_string()
        };
        Self {
            to: address(message.to()),
            from: address(message.from()),
            subject: message.subject().unwrap().to_owned(),
            text: message.body_text(0).unwrap().into_owned(),
            html: message.body_html(0).unwrap().into_owned(),
            message_id: message.message_id().unwrap().to_owned(),
            source: source.to_owned(),
        }
    }

    /// The token of the link in the text.
    pub fn token(&self) -> &str {
        let (_, token) = self.text.split_once("?token=").unwrap();
        token.split_whitespace().next().unwrap()
    }
}

/// The mails that the server took for an address.
pub async fn inbox(email: &str) -> Vec<Mail> {
    let api = env::var("TEST_SMTP_API").unwrap();
    let host = api.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("GET /api/user/{email}/messages HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    // An address without mails is no user of the server: then it is an object.
    let mails = body.as_array().into_iter().flatten();
    mails
        .map(|mail| Mail::parse(mail["mimeMessage"].as_str().unwrap()))
        .collect()
}

/// Waits for the first mail.
pub async fn first(email: &str) -> Mail {
    eventually(async || inbox(email).await.into_iter().next()).await
}

#[derive(Clone)]
pub enum Rule {
    Pass,
    /// Closes each connection at once.
    Refuse,
    /// Does not pass on the command DATA: the mail is claimed, but not sent.
    HoldData,
    /// Does not pass on the answer to a mail: the mail is sent, but the mailer does not know.
    HoldAnswer,
    /// Does not pass on the answer to a mail, and closes the connection.
    CloseBeforeAnswer,
    /// Answers RCPT in place of the server for each address that begins so.
    Recipient(String, &'static str),
}

pub struct Proxy {
    pub addr: SocketAddr,
    rule: Arc<Mutex<Rule>>,
    /// How often the rule has applied.
    applied: watch::Sender<u32>,
}

impl Proxy {
    pub async fn start(rule: Rule) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            addr: listener.local_addr().unwrap(),
            rule: Arc::new(Mutex::new(rule)),
            applied: watch::Sender::new(0),
        };
        let (rule, applied) = (Arc::clone(&proxy.rule), proxy.applied.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let rule = rule.lock().unwrap().clone();
                tokio::spawn(serve(client, rule, applied.clone()));
            }
        });
        proxy
    }

    pub fn url(&self) -> String {
        format!("smtp://{}", self.addr)
    }

    /// Changes the rule of new connections.
    pub fn set(&self, rule: Rule) {
        *self.rule.lock().unwrap() = rule;
    }

    pub async fn applied(&self, times: u32) {
        let mut applied = self.applied.subscribe();
        applied.wait_for(|&applied| applied >= times).await.unwrap();
    }
}

async fn serve(client: TcpStream, rule: Rule, applied: watch::Sender<u32>) {
    let apply = || applied.send_modify(|applied| *applied += 1);
    if matches!(rule, Rule::Refuse) {
        return apply();
    }
    let url = url();
    let server = TcpStream::connect(url.strip_prefix("smtp://").unwrap())
        .await
        .unwrap();
    let (from_server, to_server) = server.into_split();
    let (from_client, to_client) = client.into_split();
    let to_client = Arc::new(tokio::sync::Mutex::new(to_client));
    let is_sent = Arc::new(Mutex::new(false));
    let holds_answer = match rule {
        Rule::HoldAnswer => Some((Arc::clone(&is_sent), false)),
        Rule::CloseBeforeAnswer => Some((Arc::clone(&is_sent), true)),
        _ => None,
    };
    tokio::join!(
        commands(
            from_client,
            to_server,
            (rule, Arc::clone(&to_client), is_sent),
            apply
        ),
        answers(from_server, &to_client, holds_answer, apply),
    );
}

async fn commands(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    (rule, client, is_sent): (
        Rule,
        Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
        Arc<Mutex<bool>>,
    ),
    apply: impl Fn(),
) {
    let mut chunk = [0; 16 * 1024];
    let mut all = Vec::new();
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let chunk = &chunk[..length];
        all.extend_from_slice(chunk);
        if matches!(rule, Rule::HoldData) && all.ends_with(b"DATA\r\n") {
            apply();
            continue;
        }
        if let Rule::Recipient(address, answer) = &rule
            && chunk.starts_with(format!("RCPT TO:<{address}").as_bytes())
        {
            let _ = client.lock().await.write_all(answer.as_bytes()).await;
            apply();
            continue;
        }
        if all.ends_with(b"\r\n.\r\n") {
            *is_sent.lock().unwrap() = true;
        }
        let _ = to.write_all(chunk).await;
    }
    let _ = to.shutdown().await;
}

async fn answers(
    mut from: OwnedReadHalf,
    to: &tokio::sync::Mutex<OwnedWriteHalf>,
    holds_answer: Option<(Arc<Mutex<bool>>, bool)>,
    apply: impl Fn(),
) {
    let mut chunk = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if let Some((is_sent, closes)) = &holds_answer
            && *is_sent.lock().unwrap()
        {
            apply();
            if *closes {
                let _ = to.lock().await.shutdown().await;
            }
            continue;
        }
        let _ = to.lock().await.write_all(&chunk[..length]).await;
    }
}
