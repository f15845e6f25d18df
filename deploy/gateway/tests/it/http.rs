//! A small HTTP client for the gateway as a process, `WebDriver` and the API of `GreenMail`.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// Sends a request with these lines of its head, and returns head and body of the answer.
pub async fn send(host: &str, head: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(host).await.unwrap();
    let length = body.len();
    let request = format!(
        "{head}\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).await.unwrap(), 0, "{head}");
    }
    let mut body = Vec::new();
    match content_length(&head) {
        Some(length) => {
            body.resize(length, 0);
            stream.read_exact(&mut body).await.map(drop)
        }
        None => stream.read_to_end(&mut body).await.map(drop),
    }
    .unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// Not every server closes the connection. One that does not say the length does, in HTTP/1.0.
fn content_length(head: &str) -> Option<usize> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.map(|(_, length)| length.trim().parse().unwrap())
}
