//! Messages and headers that no correct client sends.

use bytes::Bytes;
use http::{Method, Request as HttpRequest, Version};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::target::{LIMIT, OtherClient, Target};
use crate::harness::{Random, RawConnection, TestDatabase, both, framed, login, refresh, soak};

const METHODS: [&str; 5] = ["Register", "Login", "Refresh", "Logout", "GetSigningKey"];

both! {
    async fn no_message_stops_the_service(database: TestDatabase) {
        let target = Target::start(database).await;
        let raw = RawConnection::open(target.addr).await;
        let mut random = Random::new();
        for _ in 0..soak(150, 10_000) {
            for method in METHODS {
                let path = format!("/realchat.auth.v1.AuthService/{method}");
                let body = any_body(&mut random);
                let answer = raw.call(&path, &[], body.clone()).await.expect("an answer");
                assert_eq!(answer.http_status, 200);
                let status = answer.status().expect("a status");
                match status.code() {
                    // tonic answers Unimplemented when the flag says that the message is compressed.
                    Code::Ok | Code::Unimplemented => continue,
                    code => assert!(
                        matches!(code, Code::InvalidArgument | Code::AlreadyExists | Code::Unauthenticated
                            | Code::PermissionDenied | Code::ResourceExhausted),
                        "{method}: {status:?} to {}", body.escape_ascii()
                    ),
                }
                let info = status.get_details_error_info();
                let info = info.unwrap_or_else(|| panic!("{method}: {status:?} without ErrorInfo"));
                assert_eq!(info.domain, "auth.realchat");
            }
            for path in [
                "/grpc.health.v1.Health/Check",
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            ] {
                // Libraries answer these: any answer is good.
                raw.call(path, &[], any_body(&mut random)).await.expect("an answer");
            }
            let watch = raw.call_without_end("/grpc.health.v1.Health/Watch", any_body(&mut random));
            watch.await.expect("an answer");
        }
        OtherClient::register(target.addr).await.assert_served(target.addr, "after random bytes").await;
        target.assert_unharmed();
    }

    async fn an_unreadable_message_is_an_invalid_argument(database: TestDatabase) {
        let target = Target::start(database).await;
        let raw = RawConnection::open(target.addr).await;
        let whole = framed(&login("ana@example.com").encode_to_vec());
        let too_large = framed(&login(&"x".repeat(70_000)).encode_to_vec());
        let mut cut = whole.clone();
        cut.pop();
        for (body, text) in [
            (framed(&[0xff; 10]), "request: cannot be read"),
            (framed(b"\x0a\x02\xff\xff"), "request: cannot be read"),
            (cut, "request: cannot be read"),
            (whole[..3].to_vec(), "request: cannot be read"),
            (Vec::new(), "request: cannot be read"),
            ([&[7], &whole[1..]].concat(), "request: cannot be read"),
            (too_large, "request: must have at most 65536 bytes"),
        ] {
            // The message of GetSigningKey has no fields, so any bytes of valid fields are one.
            for method in &METHODS[..4] {
                let path = format!("/realchat.auth.v1.AuthService/{method}");
                let answer = raw.call(&path, &[], body.clone()).await.expect("an answer");
                let status = answer.status().expect("a status");
                let reason = status.get_details_error_info().expect("ErrorInfo").reason;
                assert_eq!((status.code(), reason.as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));
                assert_eq!(status.message(), text);
            }
        }
        target.assert_unharmed();
    }
}

/// Random bytes, or a message with a few flipped bits; the frame around it may be wrong too.
fn any_body(random: &mut Random) -> Vec<u8> {
    let length = random.below(300);
    let mut message = match random.below(4) {
        0 => random.bytes(length),
        1 => login("ana@example.com").encode_to_vec(),
        2 => refresh(&format!("rcr_{}", "A".repeat(70))).encode_to_vec(),
        // A tag with a length, then random bytes.
        _ => [
            vec![0x0a | random.bytes(1)[0] & 0x38, random.bytes(1)[0] & 0x7f],
            random.bytes(length),
        ]
        .concat(),
    };
    for _ in 0..random.below(4) {
        if !message.is_empty() {
            let at = random.below(message.len());
            message[at] ^= 1 << random.below(8);
        }
    }
    let mut body = framed(&message);
    match random.below(12) {
        0 => body[0] = random.bytes(1)[0],
        1 => body[1 + random.below(4)] ^= 1 << random.below(8),
        2 => body.truncate(random.below(body.len())),
        3 => body.extend(random.bytes(20)),
        4 => body.clear(),
        _ => {}
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_any_kind_get_an_answer() {
    let target = Target::on_sqlite().await;
    let raw = RawConnection::open(target.addr).await;
    let body = framed(&login("ana@example.com").encode_to_vec());
    let path = "/realchat.auth.v1.AuthService/Login";

    // No time is left: the error is DEADLINE_EXCEEDED with our text, unless the answer came at
    // once.
    for value in ["0n", "0S", "1n", "1u", "00000000H"] {
        for method in METHODS {
            let path = format!("/realchat.auth.v1.AuthService/{method}");
            let late = [("grpc-timeout", value)];
            let answer = raw.call(&path, &late, body.clone()).await;
            let status = answer.expect("an answer").status().expect("a status");
            assert!(
                status.get_details_error_info().is_some(),
                "{method}: {status:?}"
            );
            if method == "Login" {
                // ResourceExhausted: no thread will be free in time.
                let expected = [Code::DeadlineExceeded, Code::ResourceExhausted];
                assert!(expected.contains(&status.code()), "{value}: {status:?}");
            }
        }
    }
    let long = "x".repeat(8000);
    for header in [
        ("grpc-timeout", "junk"),
        ("grpc-timeout", "99999999H"),
        ("grpc-timeout", ""),
        ("content-type", "text/html"),
        ("content-type", "application/json"),
        ("content-type", ""),
        ("grpc-encoding", "gzip"),
        ("grpc-encoding", "no-such"),
        ("grpc-accept-encoding", "no-such"),
        ("te", "junk"),
        ("authorization", ""),
        ("authorization", "Bearer"),
        ("authorization", &long),
        ("traceparent", &long),
        ("x-long", &long),
        ("x-bin", "!"),
        ("grpc-status-details-bin", "!!!"),
        ("grpc-status", "0"),
        ("content-length", "3"),
    ] {
        for method in METHODS {
            let path = format!("/realchat.auth.v1.AuthService/{method}");
            // A wrong content-length is answered by a stream error.
            let answer = timeout(LIMIT, raw.call(&path, &[header], body.clone())).await;
            answer
                .unwrap_or_else(|_| panic!("{header:?}: no answer"))
                .ok();
        }
    }
    for method in [Method::GET, Method::PUT, Method::CONNECT, Method::OPTIONS] {
        let request = HttpRequest::builder()
            .method(method)
            .uri(format!("http://a{path}"));
        let request = request
            .version(Version::HTTP_2)
            .body(())
            .expect("a request");
        let answer = timeout(LIMIT, raw.send(request, Bytes::new())).await;
        answer.expect("an answer").ok();
    }
    for path in [
        "/",
        "//",
        "/x",
        "/realchat.auth.v1.AuthService/",
        "/%00",
        "/../..",
        &long,
    ] {
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        raw.call(&path, &[], body.clone()).await.expect("an answer");
    }
    // Headers above the limit are refused, and the connection goes on.
    let much = "x".repeat(20_000);
    if let Ok(answer) = raw.call(path, &[("x-much", &much)], body.clone()).await {
        assert_eq!(answer.http_status, 431);
    }
    // No HTTP/2 at all.
    for junk in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\0".to_vec(),
        vec![0; 1000],
    ] {
        let mut stream = TcpStream::connect(target.addr).await.expect("it accepts");
        stream.write_all(&junk).await.expect("it reads");
        let mut rest = Vec::new();
        let closed = timeout(LIMIT, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "still open after {}", junk.escape_ascii());
    }
    OtherClient::register(target.addr)
        .await
        .assert_served(target.addr, "after odd headers")
        .await;
    target.assert_unharmed();
}
