//! Refreshes at once, and on two replicas.

use std::sync::Arc;

use auth_service::{model::Clock as _, proto};
use tokio::{sync::Barrier, task::JoinSet};
use tonic::Status;

use super::{HOUR, REUSE, SECOND, generation};
use crate::harness::{ManualClock, Service, assert_invalid_token, both, connect, refresh, refused};

/// Refreshes `count` times at once, on several connections to each of the services.
async fn refresh_at_once(
    services: &[&Service],
    token: &str,
    count: usize,
) -> Vec<Result<proto::TokenPair, Status>> {
    const CONNECTIONS: usize = 4;
    let mut channels = Vec::new();
    for connection in 0..CONNECTIONS * services.len() {
        channels.push(connect(services[connection % services.len()].addr).await);
    }
    let barrier = Arc::new(Barrier::new(count));
    let mut calls = JoinSet::new();
    for call in 0..count {
        let channel = channels[call % channels.len()].clone();
        let mut client = proto::auth_service_client::AuthServiceClient::new(channel);
        let (barrier, token) = (Arc::clone(&barrier), token.to_owned());
        calls.spawn(async move {
            barrier.wait().await;
            let answer = client.refresh(refresh(&token)).await?;
            Ok(answer.into_inner().tokens.expect("a refresh has tokens"))
        });
    }
    calls.join_all().await
}

both! {
    async fn of_100_concurrent_refreshes_all_return_one_successor(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let clock = Arc::clone(&service.clock);
        let replica = Service::start_at(service.database.clone(), clock, &[]).await;
        let services = [&service, &replica];
        let answers = refresh_at_once(&services, &session.tokens.refresh_token, 100).await;

        let mut successors = Vec::new();
        let mut access_tokens = Vec::new();
        for answer in answers {
            let tokens = answer.expect("all refreshes succeed");
            successors.push(tokens.refresh_token);
            access_tokens.push(tokens.access_token);
        }
        successors.dedup();
        assert_eq!(successors.len(), 1);
        access_tokens.sort();
        access_tokens.dedup();
        assert_eq!(access_tokens.len(), 100);
        assert_eq!(generation(&service.database, &session).await, "2");
        replica.refresh(&successors[0]).await.expect("it is current");
        assert!(service.database.ended_sessions().await.is_empty());
    }

    async fn concurrent_reuses_end_the_session_once(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        service.refresh(&session.tokens.refresh_token).await.unwrap();
        service.clock.advance(HOUR);
        let answers = refresh_at_once(&[&service], &session.tokens.refresh_token, 20).await;
        for answer in answers {
            assert_invalid_token(&refused(answer));
        }
        let reuse = (session.id, REUSE);
        assert_eq!(service.database.ended_sessions().await, [reuse]);
    }

    async fn two_replicas_with_clocks_a_second_apart_are_one_service(service: Service) {
        let behind = Arc::new(ManualClock::new(service.clock.now() - SECOND));
        let replica = Service::start_at(service.database.clone(), behind, &[]).await;
        let session = service.sign_up("ana@example.com").await;

        // Rotated where the clock is ahead, retried where it is behind, and the reverse.
        let second = service.refresh(&session.tokens.refresh_token).await.unwrap();
        let retried = replica.refresh(&session.tokens.refresh_token).await.unwrap();
        assert_eq!(retried.refresh_token, second.refresh_token);
        let third = replica.refresh(&second.refresh_token).await.unwrap();
        let retried = service.refresh(&second.refresh_token).await.unwrap();
        assert_eq!(retried.refresh_token, third.refresh_token);

        // A reuse at one ends the session at both.
        service.clock.advance(HOUR);
        assert_invalid_token(&refused(service.refresh(&second.refresh_token).await));
        assert_invalid_token(&refused(replica.refresh(&third.refresh_token).await));
        let reuse = (session.id, REUSE);
        assert_eq!(service.database.ended_sessions().await, [reuse]);
    }
}
