//! Requests without a valid token.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::Value;

use super::{bearer, on_each_gateway};
use crate::harness::{JWT_SECRET, hmac};

/// Changes a part of a token (0: its header, 1: its claims) and signs it again with this secret.
fn forge(token: &str, part: usize, secret: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    let json = BASE64URL.decode(&parts[part]).expect("base64url");
    let mut json = serde_json::from_slice(&json).expect("JSON");
    change(&mut json);
    parts[part] = BASE64URL.encode(json.to_string());
    let signed = format!("{}.{}", parts[0], parts[1]);
    let signature = hmac(secret.as_bytes(), signed.as_bytes());
    format!("{signed}.{}", BASE64URL.encode(signature))
}

/// Tokens that must be refused, with what is wrong.
fn bad_tokens(good: &str) -> Vec<(&'static str, String)> {
    let claim = |change: fn(&mut Value)| forge(good, 1, JWT_SECRET, change);
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    vec![
        (
            "expired",
            claim(|claims| {
                for name in ["iat", "exp"] {
                    let seconds = claims[name].as_i64().expect("seconds");
                    claims[name] = (seconds - 7_200).into();
                }
            }),
        ),
        (
            "of another issuer",
            claim(|claims| claims["iss"] = "another".into()),
        ),
        (
            "for another audience",
            claim(|claims| claims["aud"] = "another".into()),
        ),
        (
            "with another key",
            forge(good, 1, "another-secret-of-32-bytes-or-more", |_| ()),
        ),
        (
            "with an unknown key",
            forge(good, 0, JWT_SECRET, |header| {
                header["kid"] = "another".into();
            }),
        ),
        ("without a signature", format!("{signed}.")),
        ("with another user", {
            let forged =
                claim(|claims| claims["sub"] = "0192f3a4-0000-7000-8000-000000000000".into());
            let (signed, _) = forged.rsplit_once('.').expect("three parts");
            format!("{signed}.{signature}")
        }),
        ("junk", "junk".to_owned()),
        ("two in one", format!("{good},{good}")),
    ]
}

on_each_gateway! {
    async fn without_a_token_nobody_passes(scene: Scene) {
        let values = ["", "Basic YTpi", "Bearer", "Bearer "];
        let with = values.map(|value| vec![format!("authorization: {value}")]);
        for headers in [vec![]].into_iter().chain(with) {
            let lines: Vec<_> = headers.iter().map(String::as_str).collect();
            let answer = scene.ask("GET /chat", &lines).await;
            assert_eq!(answer.status, 401, "{headers:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{headers:?}");
        }
        assert_eq!(scene.application.requests(), 0);
    }

    async fn bad_tokens_do_not_pass(scene: Scene) {
        let ana = scene.user("ana@example.com").await;
        let genuine = forge(&ana.access_token, 1, JWT_SECRET, |_| ());
        assert_eq!(scene.get(&genuine).await.status, 200, "the forgery works");
        let reached = scene.application.requests();
        for (what, token) in bad_tokens(&ana.access_token) {
            let answer = scene.get(&token).await;
            assert_eq!(answer.status, 401, "{what}");
            let challenge = answer.header("www-authenticate").expect(what);
            assert!(challenge.starts_with(r#"Bearer error="invalid_token""#), "{what}: {challenge}");
        }
        let expired = scene.get(&bad_tokens(&ana.access_token)[0].1).await;
        assert!(expired.header("www-authenticate").is_some_and(|it| it.contains("expired")));
        assert_eq!(scene.application.requests(), reached);
    }

    async fn of_two_tokens_none_passes(scene: Scene) {
        let good = bearer(&scene.user("ana@example.com").await.access_token);
        for second in [&*good, "authorization: Bearer a.b.c", "Authorization: Basic YTpi"] {
            for headers in [[&*good, second], [second, &*good]] {
                let status = scene.ask("GET /chat", &headers).await.status;
                assert!([400, 401].contains(&status), "{status}");
            }
        }
        assert_eq!(scene.application.requests(), 0);
    }
}
