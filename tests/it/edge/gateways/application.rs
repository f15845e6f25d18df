//! The application behind the gateway. It answers every request with what it was asked, and a
//! WebSocket with that and then with the bytes that come.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpListener, TcpStream},
};

use super::http::header;

pub struct Application {
    pub addr: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Application {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        let requests = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // It ends with an error when the gateway closes the connection.
                tokio::spawn(serve(BufStream::new(stream), Arc::clone(&counter)));
            }
        });
        Self { addr, requests }
    }

    /// How many requests have reached it.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: BufStream<TcpStream>, requests: Arc<AtomicUsize>) -> io::Result<()> {
    loop {
        let (line, version, headers) = head(&mut stream).await?;
        requests.fetch_add(1, Ordering::SeqCst);
        let length =
            header(&headers, "content-length").map_or(0, |it| it.parse().expect("a length"));
        stream.read_exact(&mut vec![0; length]).await?;
        let asked = format!("{line} {length}\n{headers}");
        if version == "HTTP/1.1" && is_upgrade(&headers) {
            return echo(stream, &asked).await;
        }
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{asked}",
            asked.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
    }
}

fn is_upgrade(headers: &str) -> bool {
    let connection = header(headers, "connection").unwrap_or_default();
    let is_named = connection.to_ascii_lowercase().contains("upgrade");
    is_named && header(headers, "upgrade") == Some("websocket")
}

/// The method and path, the version, and the lines with headers.
async fn head(stream: &mut BufStream<TcpStream>) -> io::Result<(String, String, String)> {
    let mut line = String::new();
    let mut headers = String::new();
    stream.read_line(&mut line).await?;
    while stream.read_line(&mut headers).await? > "\r\n".len() {}
    let (line, version) = (line.trim_end().rsplit_once(' ')).ok_or(io::ErrorKind::UnexpectedEof)?;
    let headers = headers.trim_end().replace('\r', "");
    Ok((line.to_owned(), version.to_owned(), headers))
}

async fn echo(mut stream: BufStream<TcpStream>, asked: &str) -> io::Result<()> {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade";
    let answer = format!("{switch}\r\n\r\n{asked}\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await?;
    let (mut reader, mut writer) = stream.into_inner().into_split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    Ok(())
}
