//! What the service offers to the network: reflection and the signing keys.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use tonic::Code;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::harness::{
    Backend, GATEWAY, INTERNAL_TOKEN, Process, Service, TestDatabase, bearer, both, connect,
    reason, refused, signing_keys, skip,
};

/// An address of this machine other than loopback. Nothing is sent to find it.
fn network_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Of the documentation (RFC 5737).
    socket.connect("192.0.2.200:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback()).then_some(ip)
}

async fn keys_at(addr: SocketAddr) -> Result<String, tonic::Status> {
    let keys = signing_keys(connect(addr).await, Some(&bearer(INTERNAL_TOKEN))).await?;
    Ok(keys.signing_key.expect("a key").key_id)
}

both! {
    async fn keys_over_plain_text_are_for_loopback_unless_they_are_allowed(database: TestDatabase) {
        let Some(network) = network_address() else {
            return skip("no network address besides loopback");
        };
        let everywhere = ("GRPC_ADDR", "0.0.0.0:0");
        let process = Process::serve(&database, &[GATEWAY[0], everywhere]);
        let port = process.grpc_addr().await.port();
        let (loopback, network) = (([127, 0, 0, 1], port).into(), SocketAddr::new(network, port));
        let key = keys_at(loopback).await.expect("loopback is private");
        let denied = refused(keys_at(network).await);
        let expected = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
        assert_eq!(reason(&denied), expected);
        assert!(denied.message().contains("ALLOW_PLAINTEXT_KEYS"), "{}", denied.message());
        let line = process.wait_for("plaintext_connection").await;
        for part in [r#""event":"signing_key""#, r#""outcome":"failed""#, r#""caller":"gateway""#] {
            assert!(line.contains(part), "{line}");
        }
        // An unknown caller does not learn how the service is configured.
        let unknown = refused(signing_keys(connect(network).await, None).await);
        assert_eq!(reason(&unknown), expected);
        assert!(!unknown.message().contains("ALLOW_PLAINTEXT_KEYS"), "{}", unknown.message());

        let allowed = ("ALLOW_PLAINTEXT_KEYS", "true");
        let process = Process::serve(&database, &[GATEWAY[0], everywhere, allowed]);
        let port = process.grpc_addr().await.port();
        let answer = keys_at(SocketAddr::new(network.ip(), port)).await;
        assert_eq!(answer.expect("it is allowed"), key);
    }
}

async fn serves_reflection(options: &[&str]) -> bool {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let service = Service::start(database, options).await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let requests = futures::stream::iter([request]);
    let mut client = ServerReflectionClient::new(service.channel());
    match client.server_reflection_info(requests).await {
        Ok(answers) => {
            let answer = answers.into_inner().message().await;
            answer.expect("an answer").is_some()
        }
        Err(status) => {
            assert_eq!(status.code(), Code::Unimplemented);
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_is_on_for_a_loopback_listener_or_when_it_is_asked_for() {
    let everywhere = ["--grpc-addr", "0.0.0.0:0"];
    let reflection = |value| ["--grpc-reflection", value];
    assert!(serves_reflection(&[]).await);
    assert!(!serves_reflection(&everywhere).await);
    assert!(serves_reflection(&[everywhere, reflection("true")].concat()).await);
    assert!(!serves_reflection(&reflection("false")).await);
}
