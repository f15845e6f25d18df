//! `DeleteAccount`.

use std::time::Duration;

use auth_service::{
    model::Clock as _,
    proto::{RegisterRequest, user_event::Payload},
};

use super::{NEW_PASSWORD, kinds, refusals};
use crate::harness::{
    PASSWORD, Service, assert_invalid_token, assert_wrong_password, both, change_password,
    delete_account, login, refused, register, violation,
};

const DELETED: &str = "SESSION_END_REASON_ACCOUNT_DELETED";
const LOGOUT: &str = "SESSION_END_REASON_LOGOUT";

both! {
    async fn user_and_sessions_are_deleted_and_the_events_stay(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let bob = service.sign_up("bob@example.com").await;
        let gone = service.sign_in("ana@example.com").await;
        let other = service.sign_in("ana@example.com").await;
        service.log_out(&gone.tokens.refresh_token).await.unwrap();
        service.account(&ana).change_password(change_password(NEW_PASSWORD)).await.unwrap();
        service.clock.advance(Duration::from_micros(11));
        service.account(&ana).delete_account(delete_account(NEW_PASSWORD)).await.unwrap();

        for table in ["users", "sessions"] {
            let rows = service.database.dump(table).await;
            assert_eq!(rows.len(), 1, "{table}: only Bob's is left");
        }
        let events = service.database.events().await.into_iter();
        let events: Vec<_> = events.filter(|event| event.user_id == ana.user_id).collect();
        // Nothing is published yet, so all events are in the outbox. The deletion is the last one.
        assert_eq!(
            kinds(&events),
            [
                (1, "USER_CREATED"),
                (2, LOGOUT),
                (3, "PASSWORD_CHANGED"),
                (4, "SESSION_END_REASON_PASSWORD_CHANGED"),
                (5, DELETED),
                (6, "USER_DELETED"),
            ]
        );
        let Some(Payload::UserDeleted(deleted)) = &events[5].payload else { panic!("no") };
        assert_eq!(deleted.deleted_at, Some(service.clock.now().into()));
        assert_eq!(events[5].occurred_at, deleted.deleted_at);

        for status in refusals(service.account(&ana)).await {
            assert_invalid_token(&status);
        }
        for session in [&ana, &other, &gone] {
            assert_invalid_token(&refused(service.refresh(&session.tokens.refresh_token).await));
            service.log_out(&session.tokens.refresh_token).await.expect("idempotent");
        }
        let request = login("ana@example.com");
        assert_wrong_password(&refused(service.client().login(request).await));
        service.refresh(&bob.tokens.refresh_token).await.expect("another user");
        assert_eq!(service.database.events().await.len(), 7, "nothing follows");
    }

    async fn each_session_of_a_deleted_account_has_its_event(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        service.sign_up("bob@example.com").await;
        // The ids of sessions are in the order of whole milliseconds.
        service.clock.advance(Duration::from_millis(1));
        let phone = service.sign_in("ana@example.com").await;
        let gone = service.sign_in("ana@example.com").await;
        service.log_out(&gone.tokens.refresh_token).await.unwrap();
        service.clock.advance(Duration::from_secs(7));
        let phone_tokens = service.refresh(&phone.tokens.refresh_token).await.unwrap();
        let before = service.database.events().await.len();
        service.account(&ana).delete_account(delete_account(PASSWORD)).await.unwrap();

        let events = service.database.events().await.split_off(before);
        assert_eq!(kinds(&events), [(3, DELETED), (4, DELETED), (5, "USER_DELETED")]);
        assert!(events.iter().all(|event| event.user_id == ana.user_id));
        assert!(events.iter().all(|event| event.occurred_at == events[2].occurred_at));
        let issued = [&ana.tokens, &phone_tokens].map(|tokens| tokens.access_token_expires_at);
        for ((event, session), issued) in events.iter().zip([&ana, &phone]).zip(issued) {
            let Some(Payload::SessionEnded(ended)) = &event.payload else { panic!("no") };
            assert_eq!(ended.session_id, session.id);
            let announced = ended.access_tokens_expire_at.unwrap().seconds;
            assert!(announced >= issued.unwrap().seconds, "a token outlives the event");
        }
    }

    async fn without_the_password_nothing_is_deleted(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let before = service.database.dump("users").await;
        let mut account = service.account(&ana);
        for wrong in ["wrong", &PASSWORD.to_uppercase(), &PASSWORD.repeat(3), "a\0b"] {
            assert_wrong_password(&refused(account.delete_account(delete_account(wrong)).await));
        }
        let status = refused(account.delete_account(delete_account("")).await);
        let expected = ("current_password".to_owned(), "must not be empty".to_owned());
        assert_eq!(violation(&status), expected);
        assert_eq!(service.database.dump("users").await, before);
        service.refresh(&ana.tokens.refresh_token).await.expect("it lives");
        assert_eq!(service.database.events().await.len(), 1);
    }

    async fn the_address_can_register_again_as_a_new_user(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        service.account(&ana).delete_account(delete_account(PASSWORD)).await.unwrap();
        let request = RegisterRequest {
            password: NEW_PASSWORD.to_owned(),
            ..register("ana@example.com")
        };
        let again = service.client().register(request).await.unwrap().into_inner();
        assert_ne!(again.user_id, ana.user_id);
        assert_wrong_password(&refused(service.client().login(login("ana@example.com")).await));
        for status in refusals(service.account(&ana)).await {
            assert_invalid_token(&status);
        }
        let events = service.database.events().await.into_iter();
        let (of_ana, others): (Vec<_>, Vec<_>) =
            events.partition(|event| event.user_id == ana.user_id);
        let expected = [(1, "USER_CREATED"), (2, DELETED), (3, "USER_DELETED")];
        assert_eq!(kinds(&of_ana), expected);
        assert_eq!(kinds(&others), [(1, "USER_CREATED")]);
        assert_eq!(others[0].user_id, again.user_id);
    }
}
