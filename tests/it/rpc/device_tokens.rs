//! Device tokens: their format, and how long they mark their device. A login with a genuine one
//! renews it, that is, the answer's token names the same device. `throttle` tests what they are
//! good for.

use std::time::Duration;

use auth_service::{model::Timestamp, proto};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};

use crate::harness::{
    START, Service, TestDatabase, both, change_password, crc32, data_subkey, delete_account, hmac,
    login, register,
};

const DAY: Duration = Duration::from_hours(24);
const ANA: &str = "ana@example.com";
const NEW_PASSWORD: &str = "quiet meadow brass lantern";

/// A device token taken apart. Fails if its format is not the documented one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    nonce: Vec<u8>,
    days: u32,
    tag: Vec<u8>,
}

impl Parts {
    fn of(token: &str) -> Self {
        let encoded = token.strip_prefix("rcd_").expect("the prefix");
        let bytes = BASE64URL.decode(encoded).expect("unpadded base64url");
        assert_eq!((bytes.len(), bytes[0]), (1 + 16 + 4 + 16 + 4, 1));
        let parts = Self {
            nonce: bytes[1..17].to_vec(),
            days: u32::from_be_bytes(bytes[17..21].try_into().unwrap()),
            tag: bytes[21..37].to_vec(),
        };
        assert_eq!(parts.text(), token, "the checksum");
        parts
    }

    fn text(&self) -> String {
        let body = [&[1][..], &self.nonce, &self.days.to_be_bytes(), &self.tag].concat();
        let checksum = crc32(&body).to_be_bytes();
        format!("rcd_{}", BASE64URL.encode([&*body, &checksum].concat()))
    }

    /// The tag of these parts for an account and its password.
    fn tag(&self, user_id: &str, password_changed_at: Timestamp) -> Vec<u8> {
        let user_id: uuid::Uuid = user_id.parse().expect("an id");
        let changed_at = password_changed_at.as_micros().to_be_bytes();
        let days = self.days.to_be_bytes();
        let message = [
            &[1],
            &user_id.as_bytes()[..],
            &changed_at,
            &self.nonce,
            &days,
        ]
        .concat();
        hmac(&data_subkey("device token"), &message)[..16].to_vec()
    }
}

fn days(now: Timestamp) -> u32 {
    u32::try_from(now.as_secs() / 86_400).unwrap()
}

/// Logs in on a device with this token, and returns the answer's.
async fn enter(service: &Service, request: proto::LoginRequest, token: &str) -> String {
    let request = proto::LoginRequest {
        device_token: token.to_owned(),
        ..request
    };
    let answer = service.client().login(request).await;
    answer.expect("it is no error").into_inner().device_token
}

fn with_new_password() -> proto::LoginRequest {
    proto::LoginRequest {
        password: NEW_PASSWORD.to_owned(),
        ..login(ANA)
    }
}

async fn is_renewed(service: &Service, request: proto::LoginRequest, token: &str) -> bool {
    let next = enter(service, request, token).await;
    Parts::of(&next).nonce == Parts::of(token).nonce
}

both! {
    async fn a_token_has_the_documented_format(service: Service) {
        let request = proto::RegisterRequest { start_session: true, ..register(ANA) };
        let registered = service.client().register(request).await.unwrap().into_inner();
        let first = Parts::of(&registered.device_token);
        assert_eq!(first.days, days(START));
        assert_eq!(first.tag, first.tag(&registered.user_id, START));
        let next = Parts::of(&enter(&service, login(ANA), "").await);
        assert_ne!(next.nonce, first.nonce, "another device");
        let without_session = service.client().register(register("ben@example.com")).await.unwrap();
        assert_eq!(without_session.into_inner().device_token, "");
    }

    async fn a_login_renews_the_token_of_its_device(service: Service) {
        service.sign_up(ANA).await;
        let first = enter(&service, login(ANA), "").await;
        service.clock.advance(3 * DAY);
        let next = enter(&service, login(ANA), &first).await;
        let (first, next) = (Parts::of(&first), Parts::of(&next));
        assert_eq!(next.nonce, first.nonce);
        assert_eq!(next.days, first.days + 3);
    }

    async fn a_token_that_is_not_genuine_counts_as_none(service: Service) {
        let ana = service.sign_up(ANA).await;
        service.sign_up("ben@example.com").await;
        let genuine = enter(&service, login(ANA), "").await;
        let parts = Parts::of(&genuine);
        let forged = |change: fn(&mut Parts)| {
            let mut forged = parts.clone();
            change(&mut forged);
            forged.text()
        };
        for token in [
            forged(|parts| parts.tag[0] ^= 1),
            forged(|parts| parts.tag[15] ^= 128),
            forged(|parts| parts.nonce[3] ^= 1),
            forged(|parts| parts.days += 1),
            enter(&service, login("ben@example.com"), "").await,
        ] {
            assert!(!is_renewed(&service, login(ANA), &token).await, "{token}");
        }
        for malformed in [
            "junk", "rcd_", &genuine[4..], &format!("{genuine}A"), &genuine.to_lowercase(),
            &ana.tokens.refresh_token, &"x".repeat(10_000),
        ] {
            Parts::of(&enter(&service, login(ANA), malformed).await);
        }
        assert!(is_renewed(&service, login(ANA), &genuine).await);
    }

    async fn a_token_ends_after_its_time(database: TestDatabase) {
        let service = Service::start(database, &["--device-token-ttl", "2d"]).await;
        service.sign_up(ANA).await;
        let token = enter(&service, login(ANA), "").await;
        service.clock.advance(2 * DAY);
        assert!(is_renewed(&service, login(ANA), &token).await);
        service.clock.advance(DAY);
        assert!(!is_renewed(&service, login(ANA), &token).await);
    }

    async fn a_token_ends_with_the_password(service: Service) {
        let ana = service.sign_up(ANA).await;
        let old = enter(&service, login(ANA), "").await;
        service.clock.advance(Duration::from_secs(1));
        let changed = service.account(&ana).change_password(change_password(NEW_PASSWORD)).await;
        let new = changed.unwrap().into_inner().device_token;
        assert!(!is_renewed(&service, with_new_password(), &old).await);
        assert!(is_renewed(&service, with_new_password(), &new).await);
    }

    async fn a_token_ends_with_the_account(service: Service) {
        let ana = service.sign_up(ANA).await;
        let old = enter(&service, login(ANA), "").await;
        let request = delete_account(crate::harness::PASSWORD);
        service.account(&ana).delete_account(request).await.unwrap();
        service.sign_up(ANA).await;
        assert!(!is_renewed(&service, login(ANA), &old).await);
    }

    async fn a_token_of_a_previous_key_is_still_genuine(database: TestDatabase) {
        let service = Service::start(database, &[]).await;
        service.sign_up(ANA).await;
        let token = enter(&service, login(ANA), "").await;
        let (_, database) = service.stop().await;
        let next = ["--data-key", "another-data-key-of-the-tests-32-bytes",
            "--data-previous-keys", crate::harness::DATA_KEY];
        let service = Service::start(database, &next).await;
        let renewed = enter(&service, login(ANA), &token).await;
        let nonce_of = |token: &str| BASE64URL.decode(&token[4..]).unwrap()[1..17].to_vec();
        assert_eq!(nonce_of(&renewed), nonce_of(&token));
        let (_, database) = service.stop().await;
        // Without its seal, the password can be read with any key.
        let hash = database.password_hash(ANA).await;
        database.execute(&format!("UPDATE users SET password_hash = '{hash}'")).await;
        let service = Service::start(database, &next[..2]).await;
        let replaced = enter(&service, login(ANA), &token).await;
        assert_ne!(nonce_of(&replaced), nonce_of(&token));
    }
}
