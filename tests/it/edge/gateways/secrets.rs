//! What the access log and the edge do not get.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
};

use super::{bearer, on_each_gateway};

/// The bytes that the gateway has sent to the edge.
type Sent = Arc<Mutex<Vec<u8>>>;

/// Carries connections to the edge. HTTP/2 packs headers, but Envoy has all in the message.
async fn listen_in(edge: SocketAddr) -> (SocketAddr, Sent) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    let sent = Sent::default();
    let copied = Arc::clone(&sent);
    tokio::spawn(async move {
        while let Ok((gateway, _)) = listener.accept().await {
            tokio::spawn(carry(gateway, edge, Arc::clone(&copied)));
        }
    });
    (addr, sent)
}

async fn carry(gateway: TcpStream, edge: SocketAddr, sent: Sent) -> std::io::Result<()> {
    let (mut from_gateway, mut to_gateway) = gateway.into_split();
    let (mut from_edge, mut to_edge) = TcpStream::connect(edge).await?.into_split();
    tokio::spawn(async move { copy(&mut from_edge, &mut to_gateway).await });
    let mut bytes = [0; 4096];
    loop {
        let length = from_gateway.read(&mut bytes).await?;
        sent.lock().unwrap().extend(&bytes[..length]);
        to_edge.write_all(&bytes[..length]).await?;
        if length == 0 {
            return Ok(());
        }
    }
}

on_each_gateway! {
    async fn the_access_log_has_neither_headers_nor_query_strings(scene: Scene) {
        let ana = scene.user("ana@example.com").await;
        let line = "GET /chat?access_token=secret-1";
        let headers = [
            "cookie: session=secret-2",
            "referer: http://chat.example/?token=secret-3",
            "sec-websocket-protocol: bearer, secret-4",
        ];
        let good = bearer(&ana.access_token);
        let good = [&[&*good][..], &headers].concat();
        let bad = [&["authorization: Bearer secret-5"][..], &headers].concat();
        assert_eq!(scene.ask(line, &good).await.status, 200);
        assert_eq!(scene.ask(line, &bad).await.status, 401);
        scene.kill_edge().await;
        assert_eq!(scene.ask(line, &good).await.status, 503);

        let log = scene.gateway.log_of("\"/chat\"", 3).await;
        for status in [200, 401, 503] {
            assert!(log.contains(&format!("\"status\":{status}")), "{status}: {log}");
        }
        assert!(!log.contains("secret-") && !log.contains(&ana.access_token), "{log}");
    }

    async fn the_edge_gets_neither_other_headers_nor_the_body(scene: Scene) {
        let ana = scene.user("ana@example.com").await;
        let (addr, sent) = listen_in(scene.edge_addr()).await;
        scene.move_edge(addr).await;
        let token = bearer(&ana.access_token);
        let headers = [&*token, "cookie: session=secret", "content-length: 54321", "connection: close"];
        let reached = scene.ask_exactly("POST /upload", &headers, &vec![b'#'; 54_321]).await.reached();
        assert_eq!(reached.line, "POST /upload 54321");
        let sent = String::from_utf8_lossy(&sent.lock().unwrap()).into_owned();
        assert!(sent.contains(&ana.access_token), "{sent}");
        for secret in ["session=", "####", "54321"] {
            assert!(!sent.contains(secret), "{secret}: {sent}");
        }
    }
}
