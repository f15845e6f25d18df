//! HTTP/1.1 by hand: the tests send headers that no client library would.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// An answer of the gateway.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    body: String,
}

/// What the application was asked.
#[derive(Debug)]
pub struct Reached {
    /// The method, the path with its query, and the length of the body.
    pub line: String,
    headers: String,
}

/// Sends a request on a new connection, which ends with the answer.
pub async fn ask(addr: SocketAddr, head: &str, body: &[u8]) -> Answer {
    let asking = async {
        let mut stream = TcpStream::connect(addr).await.expect("it accepts");
        let request = [head.as_bytes(), b"\r\n\r\n", body].concat();
        // It may answer, and close, before it has read the body.
        let _ = stream.write_all(&request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("UTF-8")
    };
    let answer = timeout(Duration::from_secs(20), asking).await;
    Answer::parse(&answer.expect("an answer"))
}

impl Answer {
    pub fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("HTTP");
        let status = head.split(' ').nth(1).expect("a status line");
        Self {
            status: status.parse().expect("a status"),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// What the application was asked. Fails if it was not.
    pub fn reached(&self) -> Reached {
        assert_eq!(self.status, 200, "{self:?}");
        Reached::parse(&self.body)
    }
}

impl Reached {
    pub fn parse(text: &str) -> Self {
        let (line, headers) = text.split_once('\n').expect("an answer of the application");
        Self {
            line: line.to_owned(),
            headers: headers.to_owned(),
        }
    }

    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).expect("a path")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The values of all headers that an application could take for one of the edge's: CGI and PHP
    /// take each character of a name that is no letter or digit for the same one.
    pub fn identity(&self) -> BTreeMap<String, Vec<&str>> {
        let mut identity = BTreeMap::<_, Vec<_>>::new();
        for (name, value) in self.headers.lines().filter_map(|line| line.split_once(':')) {
            let name = name.to_ascii_lowercase();
            let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            if ["x-user-id", "x-session-id", "x-user-roles"].contains(&&*name) {
                identity.entry(name).or_default().push(value.trim());
            }
        }
        identity
    }
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = headers.find(|(found, _)| found.eq_ignore_ascii_case(name))?;
    Some(value.trim())
}
