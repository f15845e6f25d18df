//! `SESSION_STARTED`, the event of each start of a session if `EVENT_SESSIONS` is set.

use auth_service::proto::{self, user_event::Payload};

use super::{MAILER, Mailing, NEW_PASSWORD, from, mailing, reset};
use crate::harness::{TestDatabase, both, login, refused, register, with_bearer};

const ANA: &str = "ana@example.com";
const LONDON: &str = "192.0.2.77";
const PARIS: &str = "2001:db8:1:2::3";

/// The session, the name of the device, whether it is known, and the network.
type Started = (String, String, bool, String);

impl Mailing {
    async fn started(&self) -> Vec<Started> {
        let events = self.0.database.events().await.into_iter();
        let started = events.filter_map(|event| match event.payload {
            Some(Payload::SessionStarted(started)) => {
                assert_eq!(event.actor, "user");
                let (device, is_known) = (started.device_name, started.known_device);
                Some((started.session_id, device, is_known, started.network))
            }
            _ => None,
        });
        started.collect()
    }

    async fn register_from(&self, address: &str) -> proto::RegisterResponse {
        let request = proto::RegisterRequest {
            start_session: true,
            ..register(ANA)
        };
        let answer = self.0.client().register(from(address, request)).await;
        answer.expect("the address is new").into_inner()
    }

    async fn login_from(&self, address: &str, device_token: &str) -> proto::LoginResponse {
        let request = proto::LoginRequest {
            device_name: "phone".to_owned(),
            device_token: device_token.to_owned(),
            ..login(ANA)
        };
        let answer = self.0.client().login(from(address, request)).await;
        answer.expect("the password is right").into_inner()
    }
}

both! {
    async fn without_the_setting_no_start_has_an_event(mailing: Mailing) {
        mailing.register_from(LONDON).await;
        mailing.login_from(LONDON, "").await;
        assert_eq!(mailing.started().await, []);
    }

    async fn each_start_names_the_session_the_device_and_the_network(database: TestDatabase) {
        let mailing = mailing(database, &["--event-sessions", "true", "--event-network", "true"]).await;
        let first = mailing.register_from(LONDON).await;
        let known = mailing.login_from(PARIS, &first.device_token).await;
        let unknown = mailing.login_from(LONDON, "").await;
        let token = mailing.reset_token(ANA).await;
        let request = proto::ResetPasswordRequest { start_session: true, ..reset(&token, NEW_PASSWORD) };
        let last = mailing.recovery().reset_password(request).await.unwrap().into_inner();
        let started = |session: &str, device: &str, is_known, network: &str| {
            (session.to_owned(), device.to_owned(), is_known, network.to_owned())
        };
        assert_eq!(mailing.started().await, [
            started(&first.session_id, "", false, "192.0.2.0/24"),
            started(&known.session_id, "phone", true, "2001:db8:1::/48"),
            started(&unknown.session_id, "phone", false, "192.0.2.0/24"),
            started(&last.session_id, "", false, ""),
        ]);
        let versions: Vec<_> = mailing.0.database.events().await.iter().map(|event| event.user_version).collect();
        assert_eq!(versions, (1..=11).collect::<Vec<_>>());
    }

    async fn the_network_is_named_only_if_it_is_wanted(database: TestDatabase) {
        let mailing = mailing(database, &["--event-sessions", "true"]).await;
        mailing.register_from(LONDON).await;
        let started = mailing.started().await;
        assert_eq!((started.len(), &*started[0].3), (1, ""));
    }

    async fn the_network_of_a_caller_without_the_scope_is_not_believed(database: TestDatabase) {
        let mailing = mailing(database, &["--event-sessions", "true", "--event-network", "true"]).await;
        mailing.0.client().register(register(ANA)).await.unwrap();
        let mut request = with_bearer(login(ANA), MAILER);
        request.metadata_mut().insert("x-client-address", LONDON.parse().unwrap());
        mailing.0.client().login(request).await.unwrap();
        assert_eq!(mailing.started().await[0].3, "");
    }

    async fn a_login_that_starts_no_session_has_no_event(database: TestDatabase) {
        let mailing = mailing(database, &["--event-sessions", "true"]).await;
        let ana = mailing.0.sign_up(ANA).await;
        let wrong = proto::LoginRequest { password: "wrong".to_owned(), ..login(ANA) };
        refused(mailing.0.client().login(wrong).await);
        mailing.0.refresh(&ana.tokens.refresh_token).await.unwrap();
        assert_eq!(mailing.started().await.len(), 1);
    }
}
