//! A request that becomes a WebSocket.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::TcpStream,
};

use super::{
    Scene, bearer,
    http::{Answer, Reached},
    on_each_gateway,
};

const UPGRADE: &str = "GET /socket HTTP/1.1\r\nhost: chat.example\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";

/// A connection and the head of the answer to an upgrade with these headers.
async fn upgrade(scene: &Scene, headers: &str) -> (BufStream<TcpStream>, Answer) {
    let stream = TcpStream::connect(scene.gateway.addr)
        .await
        .expect("it accepts");
    let mut stream = BufStream::new(stream);
    let request = format!("{UPGRADE}\r\n{headers}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let head = block(&mut stream).await;
    (stream, Answer::parse(&head))
}

/// All up to an empty line.
async fn block(stream: &mut BufStream<TcpStream>) -> String {
    let mut text = String::new();
    while stream.read_line(&mut text).await.unwrap() > "\r\n".len() {}
    text
}

on_each_gateway! {
    async fn a_web_socket_opens_with_a_good_token(scene: Scene) {
        let ana = scene.user_with_roles("ana@example.com").await;
        let token = bearer(&ana.access_token);
        // The second names headers of the identity, which a proxy would remove.
        for connection in ["connection: Upgrade", "connection: Upgrade, x-user-id, x-user-roles"] {
            let headers = format!("{token}\r\n{connection}\r\nx-user-id: forged");
            let (mut socket, answer) = upgrade(&scene, &headers).await;
            assert_eq!(answer.status, 101, "{answer:?}");
            let asked = block(&mut socket).await;
            assert_eq!(Reached::parse(&asked).identity(), ana.identity());
            for text in [b"ping-1", b"ping-2"] {
                socket.write_all(text).await.unwrap();
                socket.flush().await.unwrap();
                let mut echo = [0; 6];
                socket.read_exact(&mut echo).await.unwrap();
                assert_eq!(&echo, text);
            }
        }
    }

    async fn a_web_socket_does_not_open_without_one(scene: Scene) {
        for headers in ["connection: Upgrade", "connection: Upgrade\r\nauthorization: Bearer a.b.c"] {
            let (_, answer) = upgrade(&scene, headers).await;
            assert_eq!(answer.status, 401);
            assert!(answer.header("www-authenticate").is_some_and(|it| it.starts_with("Bearer")));
        }
        assert_eq!(scene.application.requests(), 0);
    }
}
