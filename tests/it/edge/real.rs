//! The edge of a real service.

use super::Sidecar;
use crate::harness::{Service, both};

both! {
    async fn a_logout_ends_the_session_at_every_edge(service: Service) {
        let edges = [(); 2].map(|()| Sidecar::start(&[service.addr], &[]));
        let (ana, other) = (service.sign_up("ana@example.com").await, service.sign_in("ana@example.com").await);
        for edge in &edges {
            edge.wait_until_ready().await;
            let accepted = edge.check_token(&ana.tokens.access_token).await;
            assert_eq!(accepted.status, 200);
            assert_eq!(accepted.header("x-user-id"), Some(ana.user_id.as_str()));
            assert_eq!(accepted.header("x-session-id"), Some(ana.id.as_str()));
        }
        service.log_out(&ana.tokens.refresh_token).await.unwrap();
        for edge in &edges {
            edge.wait_for(&ana.tokens.access_token, 401).await;
            assert_eq!(edge.status(&other.tokens.access_token).await, 200);
        }
    }

    async fn a_restarted_edge_knows_what_was_revoked_before(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        service.log_out(&ana.tokens.refresh_token).await.unwrap();
        let edge = Sidecar::start(&[service.addr], &[]);
        edge.wait_until_ready().await;
        // The service may have read its table just before.
        edge.wait_for(&ana.tokens.access_token, 401).await;
    }

    async fn an_edge_moves_to_the_next_replica_and_misses_nothing(service: Service) {
        let other = Service::start_at(service.database.clone(), service.clock.clone(), &[]).await;
        let (ana, ben) = (service.sign_up("ana@example.com").await, service.sign_up("ben@example.com").await);
        let edge = Sidecar::start(&[service.addr, other.addr], &[]);
        edge.wait_until_ready().await;
        let (ended, ()) = tokio::join!(service.stop(), async {
            other.log_out(&ana.tokens.refresh_token).await.unwrap();
            edge.wait_for(&ana.tokens.access_token, 401).await;
        });
        ended.0.unwrap();
        other.log_out(&ben.tokens.refresh_token).await.unwrap();
        edge.wait_for(&ben.tokens.access_token, 401).await;
    }
}
