//! Access tokens, the keys that sign them, and the callers that may have the keys.

mod rotation;
mod scopes;

use std::{collections::BTreeMap, time::Duration};

use auth_service::proto::{self, auth_service_client::AuthServiceClient};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64URL},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status, transport::Channel};

use crate::harness::{
    INTERNAL_TOKEN, JWT_SECRET, Process, START, Service, TestDatabase, bearer, both, connect,
    login, reason, refused, register, signing_keys,
};

const NEXT_SECRET: &str = "the-next-secret-of-the-tests-is-32-bytes";
const PREVIOUS_SECRET: &str = "a-previous-secret-of-the-tests-32-bytes";
const OLDEST_SECRET: &str = "the-oldest-secret-of-the-tests-32-bytes";

/// A JWT in its parts, not verified.
struct Jwt {
    header: Value,
    claims: Value,
    signed: String,
    signature: Vec<u8>,
}

impl Jwt {
    fn of(text: &str) -> Self {
        let (signed, signature) = text.rsplit_once('.').expect("three parts");
        let (header, claims) = signed.split_once('.').expect("three parts");
        let bytes = |part: &str| BASE64URL.decode(part).expect("unpadded base64url");
        let json = |part: &str| serde_json::from_slice(&bytes(part)).expect("JSON");
        Self {
            header: json(header),
            claims: json(claims),
            signed: signed.to_owned(),
            signature: bytes(signature),
        }
    }

    fn is_signed_with(&self, secret: &[u8]) -> bool {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        mac.update(self.signed.as_bytes());
        mac.verify_slice(&self.signature).is_ok()
    }

    /// Verifies like a gateway with these keys.
    fn verifies_with(&self, keys: &proto::GetSigningKeyResponse) -> bool {
        let keys = &keys.verification_keys;
        let mut named = keys.iter().filter(|key| self.header["kid"] == key.key_id);
        let found = named
            .next()
            .is_some_and(|key| self.is_signed_with(&key.secret));
        found && named.next().is_none()
    }
}

/// The thumbprint of an `oct` key (RFC 7638).
fn thumbprint(secret: &[u8]) -> String {
    let k = BASE64URL.encode(secret);
    BASE64URL.encode(Sha256::digest(format!(r#"{{"k":"{k}","kty":"oct"}}"#)))
}

/// The keys that the gateway gets.
async fn keys_of(service: &Service) -> proto::GetSigningKeyResponse {
    let answer = signing_keys(service.channel(), Some(&bearer(INTERNAL_TOKEN))).await;
    answer.expect("the gateway may have the keys")
}

fn assert_denied<T>(answer: Result<T, Status>) {
    let expected = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    assert_eq!(reason(&refused(answer)), expected);
}

#[test]
fn the_thumbprint_of_these_tests_is_that_of_another_tool() {
    // Computed with Python's hashlib.
    let expected = "nJDvAn48U_a9_gKmzTtO8uqsgSyImYUOCHrzgGOeTC0";
    assert_eq!(thumbprint(JWT_SECRET.as_bytes()), expected);
}

both! {
    async fn an_access_token_is_a_jwt_of_rfc_9068(service: Service) {
        service.clock.advance(Duration::from_micros(1_999_999));
        let session = service.sign_up("ana@example.com").await;
        let jwt = Jwt::of(&session.tokens.access_token);

        let kid = thumbprint(JWT_SECRET.as_bytes());
        assert_eq!(jwt.header, json!({"typ": "at+jwt", "alg": "HS256", "kid": kid}));
        assert!(jwt.is_signed_with(JWT_SECRET.as_bytes()));
        assert!(!jwt.is_signed_with(NEXT_SECRET.as_bytes()));

        let jti = jwt.claims["jti"].as_str().expect("text");
        assert_eq!(jti.parse::<uuid::Uuid>().unwrap().to_string(), jti);
        // Whole seconds, rounded down, so the time is never in the future of the verifier.
        let issued_at = START.as_secs() + 1;
        let expected = json!({
            "iss": "realchat-auth",
            "aud": "realchat",
            "sub": session.user_id,
            "sid": session.id,
            "jti": jti,
            "iat": issued_at,
            "exp": issued_at + 60 * 60,
        });
        assert_eq!(jwt.claims, expected);
        let expires_at = session.tokens.access_token_expires_at.unwrap();
        assert_eq!((expires_at.seconds, expires_at.nanos), (issued_at + 60 * 60, 0));
        assert_eq!(session.tokens.token_type, "Bearer");
    }

    async fn every_access_token_has_an_id_of_its_own(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let rotated = service.refresh(&session.tokens.refresh_token).await.unwrap();
        let retried = service.refresh(&session.tokens.refresh_token).await.unwrap();
        let other = service.sign_in("ana@example.com").await;

        let pairs = [&session.tokens, &rotated, &retried, &other.tokens];
        let claims = pairs.map(|pair| Jwt::of(&pair.access_token).claims);
        let by_id: BTreeMap<_, _> =
            claims.iter().map(|claims| (claims["jti"].to_string(), &claims["sid"])).collect();
        assert_eq!(by_id.len(), 4);
        for claims in &claims[..3] {
            assert_eq!(claims["sid"], session.id.as_str());
        }
        assert_eq!(claims[3]["sid"], other.id.as_str());
        for claims in &claims {
            assert_eq!(claims["sub"], session.user_id.as_str());
        }
    }

    async fn life_time_issuer_and_audience_are_configured(database: TestDatabase) {
        let options = [
            ["--access-token-ttl", "5m"],
            ["--jwt-issuer", "https://auth.example.com"],
            ["--jwt-audience", "gateway"],
        ];
        let service = Service::start(database, options.as_flattened()).await;
        let session = service.sign_up("ana@example.com").await;
        let claims = Jwt::of(&session.tokens.access_token).claims;
        assert_eq!(claims["iss"], "https://auth.example.com");
        assert_eq!(claims["aud"], "gateway");
        assert_eq!(claims["exp"], START.as_secs() + 300);
        let expires_at = session.tokens.access_token_expires_at.unwrap();
        assert_eq!(expires_at.seconds, START.as_secs() + 300);

        let keys = keys_of(&service).await;
        assert_eq!(keys.issuer, "https://auth.example.com");
        assert_eq!(keys.audience, "gateway");
        assert_eq!(keys.access_token_ttl.unwrap().seconds, 300);
    }

    async fn a_base64_secret_signs_as_the_bytes_it_means(database: TestDatabase) {
        let secret: Vec<u8> = (0..=255).rev().collect();
        let option = format!("base64:{}", STANDARD.encode(&secret));
        let service = Service::start(database, &["--jwt-secret", &option]).await;
        let session = service.sign_up("ana@example.com").await;
        let jwt = Jwt::of(&session.tokens.access_token);
        assert!(jwt.is_signed_with(&secret));
        assert_eq!(jwt.header["kid"], thumbprint(&secret));
        assert!(keys_of(&service).await.signing_key.unwrap().secret == secret);
    }

    async fn an_internal_service_gets_all_that_verifying_needs(database: TestDatabase) {
        let previous = format!("{PREVIOUS_SECRET},{OLDEST_SECRET}");
        let options = ["--jwt-next-secret", NEXT_SECRET, "--jwt-previous-secrets", &previous];
        let service = Service::start(database, &options).await;
        let keys = keys_of(&service).await;

        let signing = keys.signing_key.as_ref().unwrap();
        assert_eq!(signing.key_id, thumbprint(JWT_SECRET.as_bytes()));
        assert_eq!(signing.algorithm, "HS256");
        assert_eq!(signing.secret, JWT_SECRET.as_bytes());
        let published: Vec<_> = keys.verification_keys.iter().map(|key| &*key.secret).collect();
        let secrets = [JWT_SECRET, NEXT_SECRET, PREVIOUS_SECRET, OLDEST_SECRET];
        assert_eq!(published, secrets.map(str::as_bytes));
        for key in &keys.verification_keys {
            assert_eq!(key.key_id, thumbprint(&key.secret));
            assert_eq!(key.algorithm, "HS256");
        }
        assert_eq!(keys.issuer, "realchat-auth");
        assert_eq!(keys.audience, "realchat");
        assert_eq!(keys.access_token_ttl.unwrap().seconds, 60 * 60);
        assert!(keys.max_age.unwrap().seconds > 0);

        let session = service.sign_up("ana@example.com").await;
        assert!(Jwt::of(&session.tokens.access_token).verifies_with(&keys));
    }

    async fn keys_rotate_without_a_token_that_cannot_be_verified(database: TestDatabase) {
        let before = Service::start(database.clone(), &["--jwt-next-secret", NEXT_SECRET]).await;
        let keys_before = keys_of(&before).await;
        let session = before.sign_up("ana@example.com").await;
        let old = Jwt::of(&session.tokens.access_token);
        assert!(old.is_signed_with(JWT_SECRET.as_bytes()), "the next key does not sign yet");

        let options = ["--jwt-secret", NEXT_SECRET, "--jwt-previous-secrets", JWT_SECRET];
        let after = Service::start(database, &options).await;
        let keys_after = keys_of(&after).await;
        let tokens = after.refresh(&session.tokens.refresh_token).await.unwrap();
        let new = Jwt::of(&tokens.access_token);
        assert!(new.is_signed_with(NEXT_SECRET.as_bytes()));

        // A gateway may have cached the keys of either replica.
        for keys in [&keys_before, &keys_after] {
            assert!(old.verifies_with(keys));
            assert!(new.verifies_with(keys));
        }
    }

    async fn replicas_agree_on_a_keys_id(service: Service) {
        let replica = Service::start(service.database.clone(), &[]).await;
        let [here, there] = [keys_of(&service).await, keys_of(&replica).await];
        assert_eq!(here.signing_key.unwrap().key_id, there.signing_key.as_ref().unwrap().key_id);
        let session = service.sign_up("ana@example.com").await;
        assert!(Jwt::of(&session.tokens.access_token).verifies_with(&there));
    }

    async fn the_scheme_of_an_internal_token_may_have_any_case(service: Service) {
        for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
            let authorization = format!("{scheme} {INTERNAL_TOKEN}");
            let keys = signing_keys(service.channel(), Some(&authorization)).await;
            assert!(keys.is_ok(), "{scheme}");
        }
    }

    async fn no_other_caller_gets_the_keys(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let tokens = session.tokens;
        let denied = [
            String::new(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            INTERNAL_TOKEN.to_owned(),
            format!("Basic {INTERNAL_TOKEN}"),
            format!("Basic {}", STANDARD.encode(format!("gateway:{INTERNAL_TOKEN}"))),
            format!("Bearer gateway:{INTERNAL_TOKEN}"),
            format!("Bearer {INTERNAL_TOKEN}x"),
            format!("Bearer {}", &INTERNAL_TOKEN[..INTERNAL_TOKEN.len() - 1]),
            format!("Bearer {}", INTERNAL_TOKEN.to_uppercase()),
            format!("Bearer {}", BASE64URL.encode(Sha256::digest(INTERNAL_TOKEN))),
            format!("Bearer {JWT_SECRET}"),
            format!("Bearer {}", tokens.access_token),
            format!("Bearer {}", tokens.refresh_token),
        ];
        assert_denied(signing_keys(service.channel(), None).await);
        for authorization in denied {
            assert_denied(signing_keys(service.channel(), Some(&authorization)).await);
        }
    }

    async fn every_configured_caller_gets_the_keys(database: TestDatabase) {
        let [one, two] = ["1", "2"].map(|digit| digit.repeat(32));
        let internal_tokens = format!("gateway:{one},media-service:{two}");
        let service = Service::start(database, &["--internal-tokens", &internal_tokens]).await;
        for token in [one, two] {
            assert!(signing_keys(service.channel(), Some(&bearer(&token))).await.is_ok());
        }
        assert_denied(signing_keys(service.channel(), Some(&bearer(INTERNAL_TOKEN))).await);
    }

    async fn without_internal_tokens_no_caller_gets_the_keys(database: TestDatabase) {
        let (process, channel) = start_process(&database, &[]).await;
        for authorization in ["Bearer ", "Bearer local", &bearer(INTERNAL_TOKEN)] {
            assert_denied(signing_keys(channel.clone(), Some(authorization)).await);
        }
        assert_denied(signing_keys(channel, None).await);
        process.wait_for("unknown_caller").await;
    }

    async fn the_log_says_who_asked_for_the_keys_and_no_secret(database: TestDatabase) {
        let media_token = "the-token-of-media-32-characters-";
        let wrong_token = "a-wrong-token-of-at-least-32-characters";
        let tokens = format!("gateway:{INTERNAL_TOKEN},media:{media_token}");
        let (process, channel) = start_process(&database, &[("INTERNAL_TOKENS", &tokens)]).await;
        let mut client = AuthServiceClient::new(channel.clone());
        client.register(register("ana@example.com")).await.unwrap();
        let session = client.login(login("ana@example.com")).await.unwrap().into_inner();
        let access_token = session.tokens.unwrap().access_token;

        for token in [INTERNAL_TOKEN, media_token, INTERNAL_TOKEN] {
            signing_keys(channel.clone(), Some(&bearer(token))).await.unwrap();
        }
        for token in [wrong_token, &access_token] {
            assert_denied(signing_keys(channel.clone(), Some(&bearer(token))).await);
        }
        assert_denied(signing_keys(channel, None).await);

        // The log is written in order, so this line comes after those of the calls.
        process.signal("TERM");
        process.wait_for("\"stopped\"").await;
        let log = process.log();
        let asked: Vec<_> = log
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| field(line, "event") == "signing_key")
            .map(|line| format!("{} {}", field(&line, "outcome"), field(&line, "caller")))
            .collect();
        let granted = |caller: &str| format!("ok {caller}");
        let denied = "failed ".to_owned();
        let expected = [
            granted("gateway"),
            granted("media"),
            granted("gateway"),
            denied.clone(),
            denied.clone(),
            denied,
        ];
        assert_eq!(asked, expected);
        let log = log.join("\n");
        for secret in [INTERNAL_TOKEN, media_token, wrong_token, &*access_token, JWT_SECRET] {
            assert!(!log.contains(secret), "a secret in the log");
        }
    }
}

/// A field of a log line, at the top or in `fields`.
fn field<'a>(line: &'a Value, name: &str) -> &'a str {
    let value = line.get(name).or_else(|| line["fields"].get(name));
    value.and_then(Value::as_str).unwrap_or_default()
}

/// A process, and a connection to it. It has internal tokens only if the variables name some.
async fn start_process(database: &TestDatabase, variables: &[(&str, &str)]) -> (Process, Channel) {
    let process = Process::serve(database, variables);
    let channel = connect(process.grpc_addr().await).await;
    (process, channel)
}
