//! A proxy before the SMTP server that notes when it took each mail.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::smtp::url;

#[derive(Default)]
struct Mails {
    /// When the mails to an address were asked for, the oldest first.
    asked: HashMap<String, VecDeque<Instant>>,
    times: Vec<Duration>,
}

pub struct Taken {
    addr: SocketAddr,
    mails: Arc<Mutex<Mails>>,
}

impl Taken {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mails = Arc::<Mutex<Mails>>::default();
        let noted = Arc::clone(&mails);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&noted)));
            }
        });
        Self { addr, mails }
    }

    pub fn url(&self) -> String {
        format!("smtp://{}", self.addr)
    }

    /// A mail to this address is asked for at this time.
    pub fn expect(&self, email: &str, at: Instant) {
        let mut mails = self.mails.lock().unwrap();
        let asked = mails.asked.entry(email.to_owned()).or_default();
        asked.push_back(at);
    }

    /// How long each mail took, when there are so many.
    pub fn times(&self, count: usize) -> Option<Vec<Duration>> {
        let mails = self.mails.lock().unwrap();
        (mails.times.len() >= count).then(|| mails.times.clone())
    }
}

async fn serve(client: TcpStream, mails: Arc<Mutex<Mails>>) {
    let url = url();
    let server = url.strip_prefix("smtp://").unwrap();
    let server = TcpStream::connect(server).await.unwrap();
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_server, to_server) = server.into_split();
    let (from_client, to_client) = client.into_split();
    // The recipient of a mail that was sent and is not answered yet.
    let sent = Mutex::new(None);
    tokio::join!(
        commands(from_client, to_server, &sent),
        answers(from_server, to_client, &sent, &mails),
    );
}

async fn commands(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, sent: &Mutex<Option<String>>) {
    let mut chunk = [0; 16 * 1024];
    let mut mail = Vec::new();
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        mail.extend_from_slice(&chunk[..length]);
        if mail.ends_with(b"\r\n.\r\n") {
            *sent.lock().unwrap() = recipient(&mail);
            mail.clear();
        }
        let _ = to.write_all(&chunk[..length]).await;
    }
    let _ = to.shutdown().await;
}

/// Of the commands of one mail.
fn recipient(commands: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(commands);
    let (_, rest) = text.split_once("RCPT TO:<")?;
    let (email, _) = rest.split_once('>')?;
    Some(email.to_owned())
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    sent: &Mutex<Option<String>>,
    mails: &Mutex<Mails>,
) {
    let mut chunk = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let answered = sent.lock().unwrap().take();
        if let Some(email) = answered.filter(|_| chunk.starts_with(b"250")) {
            let mut mails = mails.lock().unwrap();
            let asked = mails.asked.get_mut(&email).and_then(VecDeque::pop_front);
            mails.times.extend(asked.map(|at| at.elapsed()));
        }
        let _ = to.write_all(&chunk[..length]).await;
    }
}
