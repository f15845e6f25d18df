use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{Result, load};

/// A client with one request, which it sends again and again on its connection.
pub struct Client {
    stream: TcpStream,
    request: String,
    answer: Vec<u8>,
}

impl Client {
    pub async fn connect(addr: SocketAddr, token: &str) -> Result<Self> {
        Self::to(addr, "/", token).await
    }

    pub async fn to(addr: SocketAddr, path: &str, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        Ok(Self {
            stream,
            request,
            answer: Vec::new(),
        })
    }

    /// The status of the answer.
    pub async fn get(&mut self) -> Result<u16> {
        self.stream.write_all(self.request.as_bytes()).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err("the connection was closed".into());
            }
            if let Some(status) = self.status() {
                return Ok(status);
            }
        }
    }

    /// Once the answer is complete.
    fn status(&self) -> Option<u16> {
        let text = str::from_utf8(&self.answer).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let head = head.to_ascii_lowercase();
        let length = head
            .split_once("content-length: ")
            .map_or("0", |(_, rest)| rest);
        let length: usize = length.lines().next()?.parse().ok()?;
        (body.len() >= length).then(|| head.split(' ').nth(1)?.parse().ok())?
    }
}

impl load::Client for Client {
    async fn call(&mut self) -> Result<()> {
        match self.get().await? {
            200 => Ok(()),
            status => Err(format!("the token is good, but the answer is {status}").into()),
        }
    }
}
