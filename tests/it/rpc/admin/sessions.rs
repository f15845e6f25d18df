use auth_service::proto::{self, SessionEndReason, user_event::Payload};

use super::{ANA, NO_USER};
use crate::{
    harness::{assert_invalid_token, both, refused, violation},
    rpc::recovery::Mailing,
};

async fn end(mailing: &Mailing, user_id: &str, session_id: &str) -> u32 {
    let request = proto::EndUserSessionsRequest {
        user_id: user_id.to_owned(),
        session_id: session_id.to_owned(),
    };
    let answer = mailing.admin().end_user_sessions(request).await;
    answer.expect("a known user").into_inner().ended
}

both! {
    async fn the_live_sessions_of_a_user_are_listed_newest_first(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.0.sign_up("ben@example.com").await;
        mailing.0.clock.advance(std::time::Duration::from_secs(1));
        let request = proto::LoginRequest { device_name: "phone".to_owned(), ..crate::harness::login(ANA) };
        let phone = mailing.0.client().login(request).await.unwrap().into_inner();
        let gone = mailing.0.sign_in(ANA).await;
        mailing.0.log_out(&gone.tokens.refresh_token).await.unwrap();
        let request = proto::ListUserSessionsRequest { user_id: ana.user_id.clone() };
        let listed = mailing.admin().list_user_sessions(request).await.unwrap().into_inner().sessions;
        let seen: Vec<_> = listed.iter().map(|it| (&*it.session_id, &*it.device_name, it.current)).collect();
        assert_eq!(seen, [(&*phone.session_id, "phone", false), (&*ana.id, "", false)]);
        let own = crate::rpc::accounts::list_sessions(mailing.0.account(&ana)).await;
        assert!(own[0].created_at == listed[1].created_at && own[0].expires_at == listed[1].expires_at);
    }

    async fn one_session_or_all_of_them_are_ended(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let (second, third) = (mailing.0.sign_in(ANA).await, mailing.0.sign_in(ANA).await);
        let ben = mailing.0.sign_up("ben@example.com").await;
        assert_eq!(end(&mailing, &ana.user_id, &second.id).await, 1);
        assert_eq!(end(&mailing, &ana.user_id, &second.id).await, 0, "it has ended");
        assert_eq!(end(&mailing, &ana.user_id, &ben.id).await, 0, "of another user");
        assert_eq!(end(&mailing, &ana.user_id, NO_USER).await, 0, "unknown");
        assert_invalid_token(&refused(mailing.0.refresh(&second.tokens.refresh_token).await));
        let first = mailing.0.refresh(&ana.tokens.refresh_token).await.expect("it goes on");
        assert_eq!(end(&mailing, &ana.user_id, "").await, 2);
        assert_eq!(end(&mailing, &ana.user_id, "").await, 0);
        for token in [&first.refresh_token, &third.tokens.refresh_token] {
            assert_invalid_token(&refused(mailing.0.refresh(token).await));
        }
        mailing.0.refresh(&ben.tokens.refresh_token).await.expect("another user");
        let mut ended: Vec<_> = mailing.payloads().await.into_iter().filter_map(|payload| match payload {
            Payload::SessionEnded(ended) => Some((ended.session_id.clone(), ended.reason().as_str_name())),
            _ => None,
        }).collect();
        let mut expected = [&second.id, &ana.id, &third.id].map(|id| {
            (id.clone(), SessionEndReason::EndedByAdmin.as_str_name())
        });
        ended.sort();
        expected.sort();
        assert_eq!(ended, expected);
        mailing.0.sign_in(ANA).await;
    }

    async fn a_malformed_session_id_is_an_invalid_argument(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let (user_id, session_id) = (ana.user_id.clone(), "junk".to_owned());
        let request = proto::EndUserSessionsRequest { user_id, session_id };
        let status = refused(mailing.admin().end_user_sessions(request).await);
        assert_eq!(violation(&status).0, "session_id");
        mailing.0.refresh(&ana.tokens.refresh_token).await.expect("nothing has ended");
    }
}
