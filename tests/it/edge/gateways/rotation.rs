//! The signing key is replaced as the runbook says, while users send requests.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Scene, bearer, http::ask, on_each_gateway};
use crate::harness::{JWT_SECRET, eventually};

const NEW_SECRET: &str = "the-next-secret-of-the-tests-of-32-bytes";

/// Sends requests with some valid tokens all the time.
struct Traffic {
    tokens: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
    running: JoinHandle<usize>,
}

impl Traffic {
    fn start(gateway: SocketAddr, token: &str) -> Self {
        let tokens = Arc::new(Mutex::new(vec![token.to_owned()]));
        let stop = CancellationToken::new();
        let running = tokio::spawn(send(gateway, Arc::clone(&tokens), stop.clone()));
        Self {
            tokens,
            stop,
            running,
        }
    }

    fn add(&self, token: &str) {
        self.tokens.lock().unwrap().push(token.to_owned());
    }

    /// Sends no request with the first token any more.
    fn retire(&self) {
        self.tokens.lock().unwrap().remove(0);
    }

    /// The number of requests. Fails if one was refused.
    async fn end(self) -> usize {
        self.stop.cancel();
        self.running.await.expect("no request was refused")
    }
}

async fn send(
    gateway: SocketAddr,
    tokens: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
) -> usize {
    let mut sent = 0;
    while !stop.is_cancelled() {
        let token = {
            let tokens = tokens.lock().unwrap();
            tokens[sent % tokens.len()].clone()
        };
        let head = format!(
            "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{}",
            bearer(&token)
        );
        let answer = ask(gateway, &head, b"").await;
        assert_eq!(answer.status, 200, "request {sent}: {answer:?}");
        sent += 1;
    }
    sent
}

/// Restarts the service with these keys. The step ends when the edge has heard of them.
async fn roll_out(scene: &mut Scene, keys: &[(&str, &str)]) {
    scene.stop_service().await;
    let last = scene.last_message().await;
    scene.start_service(keys).await;
    // The keys are the first message of a stream.
    eventually(async || scene.last_message().await != last).await;
}

on_each_gateway! {
    async fn a_rotation_of_the_key_refuses_no_valid_token(scene: Scene) {
        let old = scene.user("ana@example.com").await;
        let traffic = Traffic::start(scene.gateway.addr, &old.access_token);
        roll_out(&mut scene, &[("JWT_NEXT_SECRET", NEW_SECRET)]).await;

        let keys = [("JWT_SECRET", NEW_SECRET), ("JWT_PREVIOUS_SECRETS", JWT_SECRET)];
        scene.stop_service().await;
        scene.start_service(&keys).await;
        // The edge need not have heard of this step.
        let new = scene.log_in("ana@example.com").await;
        assert_eq!(scene.get(&new.access_token).await.reached().identity(), new.identity());
        traffic.add(&new.access_token);
        roll_out(&mut scene, &keys).await;
        assert_eq!(scene.get(&old.access_token).await.status, 200);

        // The runbook waits here until the last old token has expired.
        traffic.retire();
        roll_out(&mut scene, &[("JWT_SECRET", NEW_SECRET)]).await;
        assert_eq!(scene.get(&old.access_token).await.status, 401);
        let sent = traffic.end().await;
        assert!(sent > 50, "{sent} requests");
    }
}
