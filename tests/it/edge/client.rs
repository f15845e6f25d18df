//! Gateways that ask the edge: nginx, Caddy and others by HTTP/1.1, Envoy by gRPC.

use std::net::SocketAddr;

use auth_service::edge::proto::{
    AttributeContext, CheckRequest, CheckResponse, HeaderAppendAction, HeaderMap,
    HeaderValueOption, HttpRequest, Request, RequestHeader, check_response::HttpResponse,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use tonic::{Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use crate::harness::connect;

/// An answer, without the protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    pub status: u16,
    /// Sorted by their names.
    pub headers: Vec<(String, String)>,
}

impl Verdict {
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(found, _)| found == name);
        header.map(|(_, value)| value.as_str())
    }
}

/// A connection of HTTP/1.1.
pub struct Http(BufReader<TcpStream>);

impl Http {
    pub async fn open(addr: SocketAddr) -> Self {
        Self(BufReader::new(
            TcpStream::connect(addr).await.expect("the port is open"),
        ))
    }

    pub async fn check(&mut self, authorization: &[&str]) -> Verdict {
        let mut request = "GET /any/path HTTP/1.1\r\nhost: edge\r\n".to_owned();
        for value in authorization {
            request += &["Authorization: ", value, "\r\n"].concat();
        }
        self.send(&(request + "\r\n")).await;
        self.answer().await.expect("an answer")
    }

    /// If the connection was closed, the answer shows it.
    pub async fn send(&mut self, bytes: &str) {
        let _ = self.0.write_all(bytes.as_bytes()).await;
    }

    /// The next answer, without its date and length. `None` if the connection was closed.
    pub async fn answer(&mut self) -> Option<Verdict> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.0
                .read_line(&mut line)
                .await
                .ok()
                .filter(|length| *length > 0)?;
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let status = lines[0].split(' ').nth(1).expect("a status line");
        let header = |line: &String| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.to_owned(), value.to_owned())
        };
        let mut headers: Vec<_> = lines[1..].iter().map(header).collect();
        headers.sort_unstable();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        assert!(length.is_none_or(|(_, value)| value == "0"), "{headers:?}");
        headers.retain(|(name, _)| !["content-length", "date"].contains(&name.as_str()));
        let status = status.parse().expect("a status");
        Some(Verdict { status, headers })
    }
}

/// A connection of Envoy.
pub struct Envoy(Channel);

impl Envoy {
    pub async fn connect(addr: SocketAddr) -> Self {
        Self(connect(addr).await)
    }

    /// Asks about a request that also claims to be somebody.
    pub async fn check(&self, authorization: &[&str]) -> Verdict {
        let authorization = authorization.iter().map(|it| ("authorization", *it));
        let forged = [("x-user-id", "forged"), ("x-user-roles", "forged")];
        let headers = forged
            .into_iter()
            .chain(authorization)
            .map(header)
            .collect();
        let response = self
            .ask(HttpRequest {
                headers,
                header_map: None,
            })
            .await;
        verdict(response.expect("an answer"))
    }

    /// With the headers in the form of `encode_raw_headers`.
    pub async fn check_raw(&self, authorization: &str) -> Verdict {
        let (key, value) = ("authorization".into(), authorization.to_owned().into());
        let headers = vec![RequestHeader {
            key,
            raw_value: value,
            ..RequestHeader::default()
        }];
        let header_map = Some(HeaderMap { headers });
        let request = HttpRequest {
            headers: Vec::new(),
            header_map,
        };
        verdict(self.ask(request).await.expect("an answer"))
    }

    pub async fn ask(&self, http: HttpRequest) -> Result<CheckResponse, Status> {
        let request = Some(Request { http: Some(http) });
        self.send(CheckRequest {
            attributes: Some(AttributeContext { request }),
        })
        .await
    }

    pub async fn send(&self, request: CheckRequest) -> Result<CheckResponse, Status> {
        let mut client = Grpc::new(self.0.clone());
        client.ready().await.expect("it is connected");
        let path = PathAndQuery::from_static("/envoy.service.auth.v3.Authorization/Check");
        let codec = ProstCodec::<CheckRequest, CheckResponse>::default();
        let response = client
            .unary(tonic::Request::new(request), path, codec)
            .await?;
        Ok(response.into_inner())
    }
}

pub fn header((key, value): (&str, &str)) -> RequestHeader {
    RequestHeader {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..RequestHeader::default()
    }
}

/// What Envoy does: it sends the denied response, or changes the request of the client.
pub fn verdict(response: CheckResponse) -> Verdict {
    let code = response.status.expect("a status").code;
    let (status, headers) = match response.http_response.expect("a response") {
        HttpResponse::OkResponse(ok) => {
            assert_eq!(code, 0);
            let is_replaced = |name: &str| {
                let mut names = ok
                    .headers
                    .iter()
                    .map(|it| it.header.as_ref().unwrap().key.as_str());
                names.any(|it| it == name) || ok.headers_to_remove.iter().any(|it| it == name)
            };
            for name in ["x-user-id", "x-session-id", "x-user-roles"] {
                assert!(is_replaced(name), "the client's own {name} passes");
            }
            (200, ok.headers)
        }
        HttpResponse::DeniedResponse(denied) => {
            let status = u16::try_from(denied.status.expect("a status").code).unwrap();
            let expected = if status == 503 {
                tonic::Code::Unavailable
            } else {
                tonic::Code::Unauthenticated
            };
            assert_eq!(code, i32::from(expected));
            (status, denied.headers)
        }
    };
    let mut headers: Vec<_> = headers.into_iter().map(replacing).collect();
    headers.sort_unstable();
    Verdict { status, headers }
}

fn replacing(option: HeaderValueOption) -> (String, String) {
    assert!(option.append_action() == HeaderAppendAction::OverwriteIfExistsOrAdd);
    let header = option.header.expect("a header");
    (header.key, header.value)
}
