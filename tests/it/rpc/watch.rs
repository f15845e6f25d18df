//! `EdgeService`: gateways hear which access tokens are no longer valid.

mod acts;
mod streams;
mod table;

use auth_service::proto;
use tonic::Code;

use crate::{
    harness::{Revoked, Service, Session, Watch, both, reason, refused, signing_keys, violation},
    rpc::recovery::{MAILER, Mailing},
};

const ANA: &str = "ana@example.com";
const BEN: &str = "ben@example.com";

fn session(session: &Session) -> Revoked {
    Revoked::Session(session.id.clone())
}

both! {
    async fn a_watcher_receives_the_keys_of_get_signing_key(service: Service) {
        let mut watch = Watch::open(service.channel(), "").await.expect("it may");
        let keys = watch.keys().await;
        let authorization = crate::harness::bearer(crate::harness::INTERNAL_TOKEN);
        let expected = signing_keys(service.channel(), Some(&authorization)).await.unwrap();
        assert!(keys.verification_keys == expected.verification_keys);
        assert_eq!(keys.verification_keys.len(), 1);
        assert_eq!((keys.issuer, keys.audience), (expected.issuer, expected.audience));
        assert_eq!((keys.access_token_ttl, keys.max_age), (expected.access_token_ttl, expected.max_age));
        assert!(watch.snapshot().await.is_empty());
        let first = watch.cursor.clone();
        assert!(watch.until_heartbeat().await.is_empty());
        assert_ne!(watch.cursor, first, "a heartbeat brings the cursor forward");
    }

    async fn a_logout_is_heard_at_every_replica_and_is_in_later_snapshots(service: Service) {
        let other = Service::start_at(service.database.clone(), service.clock.clone(), &[]).await;
        let (ana, ben) = (service.sign_up(ANA).await, service.sign_up(BEN).await);
        let (mut here, _) = Watch::begin(service.channel()).await;
        let (mut there, _) = Watch::begin(other.channel()).await;
        service.log_out(&ana.tokens.refresh_token).await.unwrap();
        let heard = here.revocation().await;
        assert_eq!(crate::harness::revoked(&heard), session(&ana));
        let expires_at = ana.tokens.access_token_expires_at.expect("a time").seconds;
        let until = heard.until.expect("a time").seconds;
        // A retry of its Refresh could have got a token that expires a little later.
        assert!((expires_at..expires_at + 60).contains(&until), "{until} {expires_at}");
        assert_eq!(there.revoked().await, session(&ana));
        service.log_out(&ben.tokens.refresh_token).await.unwrap();
        assert_eq!(there.revoked().await, session(&ben));
        for replica in [&service, &other] {
            let (_, snapshot) = Watch::begin(replica.channel()).await;
            assert_eq!(snapshot, [session(&ana), session(&ben)]);
        }
    }

    async fn a_watcher_that_comes_back_hears_what_it_missed_at_any_replica(service: Service) {
        let other = Service::start_at(service.database.clone(), service.clock.clone(), &[]).await;
        let [first, missed, later] = [
            service.sign_up(ANA).await, service.sign_in(ANA).await, service.sign_in(ANA).await,
        ];
        let (mut watch, _) = Watch::begin(service.channel()).await;
        service.log_out(&first.tokens.refresh_token).await.unwrap();
        watch.until_heartbeat().await;
        let cursor = watch.cursor.clone();
        drop(watch);
        service.log_out(&missed.tokens.refresh_token).await.unwrap();
        for replica in [&service, &other] {
            let mut watch = Watch::open(replica.channel(), &cursor).await.unwrap();
            watch.keys().await;
            // It may also hear again what it knows.
            let mut heard = watch.until_heartbeat().await;
            while !heard.contains(&session(&missed)) {
                heard.extend(watch.until_heartbeat().await);
            }
        }
        let mut watch = Watch::open(other.channel(), &cursor).await.unwrap();
        watch.keys().await;
        service.log_out(&later.tokens.refresh_token).await.unwrap();
        while watch.revoked().await != session(&later) {}
    }

    async fn a_cursor_that_is_none_is_refused_and_an_old_one_leads_to_a_snapshot(service: Service) {
        for text in ["junk", "r1-", " ", "r1-1x", &"r".repeat(5000)] {
            let status = refused(Watch::open(service.channel(), text).await);
            assert_eq!(violation(&status).0, "cursor", "{text:?}");
        }
        let ana = service.sign_up(ANA).await;
        service.log_out(&ana.tokens.refresh_token).await.unwrap();
        for text in ["r1-1", "r1--5", "r1-9223372036854775807"] {
            let mut watch = Watch::open(service.channel(), text).await.unwrap();
            watch.keys().await;
            let mut heard = watch.snapshot().await;
            if heard.is_empty() {
                heard.push(watch.revoked().await);
            }
            assert_eq!(heard, [session(&ana)], "{text}");
        }
    }

    async fn only_callers_with_the_scope_of_keys_may_watch(mailing: Mailing) {
        let service = mailing.0;
        for token in [MAILER, "an-unknown-token-of-40-characters-or-so1"] {
            let status = refused(Watch::open_as(service.channel(), token, "").await);
            let expected = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
            assert_eq!(reason(&status), expected);
        }
        let ana = service.sign_up(ANA).await;
        refused(Watch::open_as(service.channel(), &ana.tokens.access_token, "").await);
        let mut client = proto::edge_service_client::EdgeServiceClient::new(service.channel());
        refused(client.watch(proto::WatchRequest::default()).await);
        Watch::begin(service.channel()).await;
    }
}
