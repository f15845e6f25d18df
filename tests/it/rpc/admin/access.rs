//! Who may administrate, and what is recorded about it.

use auth_service::proto::{self, admin_service_client::AdminServiceClient};
use tonic::{Code, Request};

use super::{ANA, NO_USER, all_acts, by_id, suspend};
use crate::{
    harness::{INTERNAL_TOKEN, admin, both, reason, refused, violation, with_bearer},
    rpc::recovery::{MAILER, Mailing, SUPPORT},
};

/// With these values of `x-actor`.
fn acting<T>(message: T, actors: &[&str]) -> Request<T> {
    let mut request = with_bearer(message, SUPPORT);
    for actor in actors {
        let actor = actor.parse().expect("a header");
        request.metadata_mut().append("x-actor", actor);
    }
    request
}

both! {
    async fn only_callers_with_the_scope_administrate(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
        for token in [INTERNAL_TOKEN, MAILER, "no token", &ana.tokens.access_token] {
            let mut client = admin(mailing.0.channel(), token);
            assert_eq!(reason(&refused(client.get_user(by_id(&ana.user_id)).await)), denied);
            let list = proto::ListUsersRequest::default();
            assert_eq!(reason(&refused(client.list_users(list).await)), denied);
            for answer in all_acts(client, &ana.user_id).await {
                assert_eq!(reason(&refused(answer)), denied);
            }
        }
        mailing.0.refresh(&ana.tokens.refresh_token).await.expect("nothing has changed");
        for answer in all_acts(mailing.admin(), &ana.user_id).await {
            // A suspended user gets no reset; here the suspension was ended before.
            answer.expect("it has the scope");
        }
    }

    async fn an_unknown_user_is_not_found(mailing: Mailing) {
        let expected = (Code::NotFound, "USER_NOT_FOUND".to_owned());
        let status = refused(mailing.admin().get_user(by_id(NO_USER)).await);
        assert_eq!(reason(&status), expected);
        for answer in all_acts(mailing.admin(), NO_USER).await {
            assert_eq!(reason(&refused(answer)), expected);
        }
        assert_eq!(mailing.0.database.count("SELECT count(*) FROM outbox_events").await, 0);
    }

    async fn a_malformed_id_is_an_invalid_argument(mailing: Mailing) {
        for id in ["", "ana", "0192f3a4000070008000000000000000"] {
            let status = refused(mailing.admin().get_user(by_id(id)).await);
            assert_eq!(violation(&status).0, "user_id");
            for answer in all_acts(mailing.admin(), id).await {
                assert_eq!(violation(&refused(answer)).0, "user_id", "{id}");
            }
        }
        let upper = mailing.0.sign_up(ANA).await.user_id.to_uppercase();
        mailing.admin().get_user(by_id(&upper)).await.expect("in any case");
    }

    async fn the_events_of_an_act_name_the_caller_and_the_person(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let mut client = AdminServiceClient::new(mailing.0.channel());
        let restore = || proto::RestoreUserRequest { user_id: ana.user_id.clone() };
        client.suspend_user(acting(suspend(&ana.user_id), &[" Mia Berg "])).await.unwrap();
        client.restore_user(acting(restore(), &[])).await.unwrap();
        let expected = ["user", "admin:support/Mia Berg", "admin:support/Mia Berg", "admin:support"];
        assert_eq!(mailing.actors().await, expected);
    }

    async fn a_malformed_person_is_refused(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let mut client = AdminServiceClient::new(mailing.0.channel());
        let long = "x".repeat(101);
        for actors in [&[""][..], &["  "], &[&long], &["mia", "ben"]] {
            let status = refused(client.suspend_user(acting(suspend(&ana.user_id), actors)).await);
            assert_eq!(violation(&status).0, "x-actor", "{actors:?}");
        }
        let mut request = acting(suspend(&ana.user_id), &[]);
        let latin_1 = tonic::metadata::MetadataValue::try_from(&b"Zo\xeb"[..]).unwrap();
        request.metadata_mut().insert("x-actor", latin_1);
        assert_eq!(violation(&refused(client.suspend_user(request).await)).0, "x-actor");
        assert!(mailing.user(&ana.user_id).await.suspension.is_none());
    }
}
