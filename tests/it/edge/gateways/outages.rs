//! The service or the edge is down.

use std::time::Duration;

use tokio::time::timeout;

use super::{Scene, User, on_each_gateway};
use crate::harness::eventually;

/// With the default `EDGE_WHEN_STALE=serve`, which ends much later than a test.
async fn assert_served_as_before(scene: &Scene, good: &User, ended: &User) {
    for _ in 0..10 {
        let reached = scene.get(&good.access_token).await.reached();
        assert_eq!(reached.identity(), good.identity());
        assert_eq!(scene.get(&ended.access_token).await.status, 401);
    }
}

/// A good token and none: both get the same answer, at once.
async fn assert_nobody_passes(scene: &Scene, good: &User) {
    let reached = scene.application.requests();
    for authorization in [&*super::bearer(&good.access_token), "x-user-id: forged"] {
        let headers = [authorization];
        let asking = scene.ask("GET /chat", &headers);
        let answer = timeout(Duration::from_secs(5), asking).await.expect("soon");
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(scene.application.requests(), reached);
    assert_eq!(scene.ask("GET /public/rooms", &[]).await.status, 200);
}

async fn assert_passes_again(scene: &Scene, good: &User) {
    eventually(async || scene.get(&good.access_token).await.status == 200).await;
}

on_each_gateway! {
    async fn without_the_service_the_edge_serves_what_it_knows(scene: Scene) {
        let ana = scene.user("ana@example.com").await;
        let ben = scene.user("ben@example.com").await;
        scene.log_out(&ben).await;
        scene.assert_refused_soon(&ben).await;
        scene.kill_service().await;
        assert_served_as_before(&scene, &ana, &ben).await;
        scene.start_service(&[]).await;
        assert_served_as_before(&scene, &ana, &ben).await;
        scene.log_out(&ana).await;
        scene.assert_refused_soon(&ana).await;
    }

    async fn without_the_edge_nobody_passes(scene: Scene) {
        let ana = scene.user("ana@example.com").await;
        let ben = scene.user("ben@example.com").await;
        scene.log_out(&ben).await;
        assert_eq!(scene.get(&ana.access_token).await.status, 200);
        scene.kill_edge().await;
        assert_nobody_passes(&scene, &ana).await;
        scene.start_edge().await;
        assert_passes_again(&scene, &ana).await;
        scene.assert_refused_soon(&ben).await;
    }

    async fn a_new_edge_without_the_service_lets_nobody_in(scene: Scene) {
        let ana = scene.user("ana@example.com").await;
        scene.kill_service().await;
        scene.kill_edge().await;
        scene.start_edge().await;
        assert_nobody_passes(&scene, &ana).await;
        scene.start_service(&[]).await;
        assert_passes_again(&scene, &ana).await;
    }

    async fn an_edge_that_hangs_lets_nobody_in(scene: Scene) {
        let ana = scene.user("ana@example.com").await;
        assert_eq!(scene.get(&ana.access_token).await.status, 200);
        scene.freeze_edge().await;
        assert_nobody_passes(&scene, &ana).await;
        scene.thaw_edge();
        assert_passes_again(&scene, &ana).await;
    }
}
