//! The access token names the caller, and only while its session lives.

use std::time::Duration;

use auth_service::{
    model::{Clock as _, Timestamp},
    proto,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tonic::{Request, metadata::MetadataValue};

use super::{get_account, refusals};
use crate::harness::{
    INTERNAL_TOKEN, JWT_SECRET, START, Service, Session, TestDatabase, assert_invalid_token, both,
    refused,
};

const NEXT_SECRET: &str = "the-next-secret-of-the-tests-is-32-bytes";
const PREVIOUS_SECRET: &str = "a-previous-secret-of-the-tests-32-bytes";
const FOREIGN_SECRET: &str = "a-secret-that-is-not-the-service's-own";

fn kid(secret: &str) -> String {
    let k = BASE64URL.encode(secret);
    BASE64URL.encode(Sha256::digest(format!(r#"{{"k":"{k}","kty":"oct"}}"#)))
}

fn hs256(message: &str, secret: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

fn hs384(message: &str, secret: &str) -> Vec<u8> {
    let mac = Hmac::<Sha384>::new_from_slice(secret.as_bytes()).unwrap();
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

fn hs512(message: &str, secret: &str) -> Vec<u8> {
    let mac = Hmac::<Sha512>::new_from_slice(secret.as_bytes()).unwrap();
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

fn no_signature(_: &str, _: &str) -> Vec<u8> {
    Vec::new()
}

/// A token like the service's. A test makes one part of it wrong.
#[derive(Clone)]
struct Forged {
    header: Value,
    claims: Value,
    secret: &'static str,
    sign: fn(&str, &str) -> Vec<u8>,
}

impl Forged {
    fn of(session: &Session, now: Timestamp) -> Self {
        Self {
            header: json!({"typ": "at+jwt", "alg": "HS256", "kid": kid(JWT_SECRET)}),
            claims: json!({
                "iss": "realchat-auth",
                "aud": "realchat",
                "sub": session.user_id,
                "sid": session.id,
                "jti": "0192f3a4-0000-7000-8000-000000000000",
                "iat": now.as_secs(),
                "exp": now.as_secs() + 3600,
            }),
            secret: JWT_SECRET,
            sign: hs256,
        }
    }

    fn header(mut self, name: &str, value: Value) -> Self {
        self.header[name] = value;
        self
    }

    fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims[name] = value;
        self
    }

    fn without_header(mut self, name: &str) -> Self {
        self.header.as_object_mut().unwrap().remove(name);
        self
    }

    fn without_claim(mut self, name: &str) -> Self {
        self.claims.as_object_mut().unwrap().remove(name);
        self
    }

    fn signed(mut self, sign: fn(&str, &str) -> Vec<u8>, secret: &'static str) -> Self {
        (self.sign, self.secret) = (sign, secret);
        self
    }

    fn text(&self) -> String {
        let part = |value: &Value| BASE64URL.encode(value.to_string());
        let message = format!("{}.{}", part(&self.header), part(&self.claims));
        let signature = BASE64URL.encode((self.sign)(&message, self.secret));
        format!("{message}.{signature}")
    }
}

/// Tokens, each with one wrong part.
type Wrong = (&'static str, String);

/// Headers and signatures that the service does not make.
fn wrong_headers(good: &Forged) -> Vec<Wrong> {
    let with = |name: &str, value: Value| good.clone().header(name, value);
    let foreign = |token: Forged| token.signed(hs256, FOREIGN_SECRET);
    let foreign_kid = json!(kid(FOREIGN_SECRET));
    let jwk = json!({"kty": "oct", "k": BASE64URL.encode(FOREIGN_SECRET)});
    let unsigned = with("alg", json!("none")).signed(no_signature, "");
    let hs384 = with("alg", json!("HS384")).signed(hs384, JWT_SECRET);
    let hs512 = with("alg", json!("HS512")).signed(hs512, JWT_SECRET);
    let wrong = [
        ("no algorithm", unsigned),
        ("no algorithm, signed", with("alg", json!("none"))),
        ("no algorithm in capitals", with("alg", json!("NONE"))),
        (
            "the algorithm is missing",
            good.clone().without_header("alg"),
        ),
        ("no signature", good.clone().signed(no_signature, "")),
        ("HS384", hs384),
        ("HS512", hs512),
        ("HS384 in name only", with("alg", json!("HS384"))),
        ("RS256 in name", with("alg", json!("RS256"))),
        ("ES256 in name", with("alg", json!("ES256"))),
        ("another key under our id", foreign(good.clone())),
        (
            "another key under its own id",
            foreign(with("kid", foreign_kid.clone())),
        ),
        ("another key in the header", foreign(with("jwk", jwk))),
        ("no key id", good.clone().without_header("kid")),
        ("an empty key id", with("kid", json!(""))),
        ("an unknown key id", with("kid", foreign_kid)),
        ("another type", with("typ", json!("JWT"))),
        ("no type", good.clone().without_header("typ")),
        ("a critical extension", with("crit", json!(["b64"]))),
    ];
    wrong.map(|(what, token)| (what, token.text())).into()
}

/// Claims of another issuer, audience or time.
fn wrong_claims(good: &Forged, other: &Session, now: Timestamp) -> Vec<Wrong> {
    let with = |name: &str, value: Value| good.clone().claim(name, value);
    let without = |name: &str| good.clone().without_claim(name);
    let (now, soon) = (now.as_secs(), now.as_secs() + 61);
    let unknown = "0192f3a4-0000-7000-8000-000000000000";
    let wrong = [
        ("another issuer", with("iss", json!("somebody"))),
        ("no issuer", without("iss")),
        ("another audience", with("aud", json!("somebody"))),
        ("no audience", without("aud")),
        ("expired", with("exp", json!(now))),
        ("expired long ago", with("exp", json!(0))),
        ("it never expires", without("exp")),
        ("it lives too long", with("exp", json!(now + 3601))),
        ("it lives for years", with("exp", json!(now + 100_000_000))),
        ("it was issued too long ago", with("iat", json!(now - 1))),
        ("it was issued in 1970", with("iat", json!(0))),
        (
            "it expires at the end of time",
            with("exp", json!(i64::MAX)),
        ),
        ("it was issued before time", with("iat", json!(i64::MIN))),
        ("it expires in words", with("exp", json!("tomorrow"))),
        ("issued in the future", with("iat", json!(soon))),
        ("never issued", without("iat")),
        ("not valid yet", with("nbf", json!(soon))),
        ("no user", without("sub")),
        ("another user", with("sub", json!(other.user_id))),
        ("an unknown user", with("sub", json!(unknown))),
        ("what is no user", with("sub", json!("ana@example.com"))),
        ("no session", without("sid")),
        ("another user's session", with("sid", json!(other.id))),
        ("an unknown session", with("sid", json!(unknown))),
        ("what is no session", with("sid", json!("junk"))),
    ];
    wrong.map(|(what, token)| (what, token.text())).into()
}

/// Texts that are no token, and tokens of another kind.
fn no_tokens(good: &Forged, refresh_token: &str) -> Vec<Wrong> {
    let text = good.text();
    let (message, signature) = text.rsplit_once('.').unwrap();
    vec![
        ("nothing", String::new()),
        ("junk", "junk".to_owned()),
        ("dots", "..".to_owned()),
        ("two parts", message.to_owned()),
        ("an empty signature", format!("{message}.")),
        ("four parts", format!("{text}.{signature}")),
        ("padding", format!("{text}=")),
        ("a character missing", text[..text.len() - 1].to_owned()),
        ("a character too many", format!("{text}A")),
        ("two tokens", format!("{text} {text}")),
        ("a refresh token", refresh_token.to_owned()),
        ("an internal token", INTERNAL_TOKEN.to_owned()),
    ]
}

both! {
    async fn only_a_valid_token_of_the_service_names_a_caller(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let bob = service.sign_up("bob@example.com").await;
        let good = Forged::of(&ana, START);
        // The unchanged token is valid, so each forged one below is wrong in one part only.
        let account = get_account(service.account_with(&good.text())).await.unwrap();
        assert_eq!(account.user_id, ana.user_id);
        let ahead = good.clone().claim("iat", json!(START.as_secs() + 60));
        get_account(service.account_with(&ahead.text())).await.expect("replicas' clocks differ");

        let tables = ["users", "sessions", "outbox_events"];
        let mut before = Vec::new();
        for table in tables {
            before.push(service.database.dump(table).await);
        }
        let wrong = [
            wrong_headers(&good),
            wrong_claims(&good, &bob, START),
            no_tokens(&good, &ana.tokens.refresh_token),
        ];
        for (what, token) in wrong.into_iter().flatten() {
            // The test runner shows this line if the test fails.
            eprintln!("{what}");
            for status in refusals(service.account_with(&token)).await {
                assert_invalid_token(&status);
            }
        }
        for (table, before) in tables.into_iter().zip(before) {
            assert_eq!(service.database.dump(table).await, before, "{table}");
        }
    }

    async fn no_changed_bit_of_an_access_token_passes(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let token = ana.tokens.access_token.as_bytes();
        for bit in 0..token.len() * 8 {
            let mut flipped = token.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let bearer = [b"Bearer ", &flipped[..]].concat();
            // A client library sends no other characters.
            let Ok(bearer) = MetadataValue::try_from(&bearer[..]) else { continue };
            let mut request = Request::new(proto::GetAccountRequest {});
            request.metadata_mut().insert("authorization", bearer);
            let mut client = service.account_without_token();
            assert_invalid_token(&refused(client.get_account(request).await));
        }
    }

    async fn a_call_without_a_token_is_refused(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let token = &ana.tokens.access_token;
        let with = async |authorization: Option<String>| {
            let mut request = Request::new(proto::GetAccountRequest {});
            if let Some(value) = authorization {
                request.metadata_mut().insert("authorization", value.parse().unwrap());
            }
            service.account_without_token().get_account(request).await
        };
        for scheme in ["Bearer", "bearer", "BEARER"] {
            with(Some(format!("{scheme} {token}"))).await.expect("the scheme may have any case");
        }
        for authorization in [
            None,
            Some(String::new()),
            Some("Bearer".to_owned()),
            Some("Bearer ".to_owned()),
            Some(token.clone()),
            Some(format!("Basic {token}")),
            Some(format!("Bearer{token}")),
        ] {
            assert_invalid_token(&refused(with(authorization).await));
        }
    }

    async fn a_token_is_valid_until_it_expires(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        service.clock.advance(Duration::from_hours(1) - Duration::from_micros(1));
        get_account(service.account(&ana)).await.expect("it is valid still");
        service.clock.advance(Duration::from_micros(1));
        assert_invalid_token(&refused(get_account(service.account(&ana)).await));
        // The session still lives.
        let tokens = service.refresh(&ana.tokens.refresh_token).await.unwrap();
        get_account(service.account_with(&tokens.access_token)).await.expect("a new one");
    }

    async fn a_token_whose_session_ended_is_refused_at_once(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let other = service.sign_in("ana@example.com").await;
        service.log_out(&ana.tokens.refresh_token).await.unwrap();
        for status in refusals(service.account(&ana)).await {
            assert_invalid_token(&status);
        }
        get_account(service.account(&other)).await.expect("only that session ended");

        let second = service.refresh(&other.tokens.refresh_token).await.unwrap();
        service.refresh(&second.refresh_token).await.unwrap();
        refused(service.refresh(&other.tokens.refresh_token).await);
        assert_invalid_token(&refused(get_account(service.account(&other)).await));
    }

    async fn a_token_of_an_expired_session_is_refused(database: TestDatabase) {
        let service = Service::start(database, &["--refresh-token-ttl", "10m"]).await;
        let ana = service.sign_up("ana@example.com").await;
        service.clock.advance(Duration::from_mins(10) - Duration::from_micros(1));
        get_account(service.account(&ana)).await.expect("it lives still");
        service.clock.advance(Duration::from_micros(1));
        assert_invalid_token(&refused(get_account(service.account(&ana)).await));
    }

    async fn the_next_and_the_previous_keys_are_good_too(database: TestDatabase) {
        let options = ["--jwt-next-secret", NEXT_SECRET, "--jwt-previous-secrets", PREVIOUS_SECRET];
        let service = Service::start(database, &options).await;
        let ana = service.sign_up("ana@example.com").await;
        for secret in [JWT_SECRET, NEXT_SECRET, PREVIOUS_SECRET] {
            let token = Forged::of(&ana, service.clock.now());
            let token = token.header("kid", json!(kid(secret))).signed(hs256, secret);
            get_account(service.account_with(&token.text())).await.expect("a key of ours");
            // The id selects the key. The service does not try the other keys.
            let mismatch = token.header("kid", json!(kid("the id of no key")));
            let status = refused(get_account(service.account_with(&mismatch.text())).await);
            assert_invalid_token(&status);
        }
    }
}
