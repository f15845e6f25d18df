//! Secrets as text and as files, and that none is ever shown.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::*;
use crate::grpc::InternalToken;

const RANDOM_KEY: &str = "base64:Iw3lFT2/9o7cZrYd0xqJkPp5uVn1sA8tRhEe6Wm4bLY=";

/// The result with `JWT_NEXT_SECRET` set to `text`, by variable and by file.
fn both_ways(name: &str, text: &str, line: &str) -> [Result<Config, Vec<String>>; 2] {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "secret", text);
    let file_name = format!("{name}_FILE");
    [(name, text), (&file_name, &path)].map(|(name, text)| {
        let args = Args::for_test(line).unwrap().with(name, text);
        let loaded = Config::load(&args, folder.path());
        loaded.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    })
}

#[test]
fn a_secret_is_the_same_by_variable_and_by_file() {
    for ending in ["", "\n", "\r\n"] {
        let found = both_ways("JWT_NEXT_SECRET", &format!("{OTHER_KEY}{ending}"), COMPLETE);
        for config in found {
            let key = config.unwrap().auth.secrets.next.unwrap();
            assert_eq!(key.expose_secret(), OTHER_KEY.as_bytes(), "{ending:?}");
        }
    }
}

#[test]
fn what_is_around_a_secret_or_invisible_in_it_is_a_problem_and_no_part_of_it() {
    let kafka = "--kafka-brokers a:1 --kafka-security-protocol SASL_SSL \
        --kafka-sasl-mechanism PLAIN --kafka-sasl-username me";
    let good: [(_, _, &str); 9] = [
        (
            "JWT_SECRET",
            OTHER_KEY.to_owned(),
            &format!("--database-url sqlite://a.db --data-key {DATA_KEY}"),
        ),
        (
            "DATA_KEY",
            OTHER_KEY.to_owned(),
            &format!("--database-url sqlite://a.db --jwt-secret {KEY}"),
        ),
        (
            "DATA_PREVIOUS_KEYS",
            format!("{OTHER_KEY},{RANDOM_KEY}"),
            COMPLETE,
        ),
        ("JWT_NEXT_SECRET", OTHER_KEY.to_owned(), COMPLETE),
        ("JWT_NEXT_SECRET", RANDOM_KEY.to_owned(), COMPLETE),
        (
            "JWT_PREVIOUS_SECRETS",
            format!("{OTHER_KEY},{RANDOM_KEY}"),
            COMPLETE,
        ),
        ("INTERNAL_TOKENS", format!("gateway:{OTHER_KEY}"), COMPLETE),
        (
            "KAFKA_SASL_PASSWORD",
            "pass word".to_owned(),
            &format!("{COMPLETE} {kafka}"),
        ),
        (
            "DATABASE_URL",
            "sqlite://a.db".to_owned(),
            &format!("--jwt-secret {KEY} --data-key {DATA_KEY}"),
        ),
    ];
    for (name, good, line) in good {
        for config in both_ways(name, &good, line) {
            config.unwrap();
        }
        let inner = good.chars().enumerate();
        let inner: String = inner
            .flat_map(|(n, c)| [Some(c), (n == 2).then_some('\u{200B}')])
            .flatten()
            .collect();
        for (bad, what) in [
            (
                format!("\u{FEFF}{good}"),
                "has a byte order mark: save it as UTF-8 without one",
            ),
            (format!(" {good}"), "has white space before or after it"),
            (format!("{good}\n\n"), "has white space before or after it"),
            (format!("{good}\r"), "has white space before or after it"),
            (
                format!("{good}\u{A0}"),
                "has white space before or after it",
            ),
            (format!("\t{good}\n"), "has white space before or after it"),
            (format!("\"{good}\""), "is in quotes: leave them out"),
            (format!("'{good}'\n"), "is in quotes: leave them out"),
            (format!("“{good}”"), "is in quotes: leave them out"),
            (
                inner,
                "has a line break or another invisible character in it",
            ),
        ] {
            let found = both_ways(name, &bad, line).map(|found| found.map(drop));
            let expected = ["", "_FILE"].map(|file| Err(vec![format!("{name}{file}: {what}")]));
            assert_eq!(found, expected, "{bad:?}");
        }
    }
}

#[test]
fn each_secret_of_a_list_is_checked_like_one() {
    let quoted = format!("\"{OTHER_KEY}\"");
    for (name, text, what) in [
        (
            "JWT_PREVIOUS_SECRETS",
            format!("{OTHER_KEY}, {RANDOM_KEY}"),
            "entry 2 has white space before or after it",
        ),
        (
            "JWT_PREVIOUS_SECRETS",
            format!("{RANDOM_KEY},{quoted}"),
            "entry 2 is in quotes: leave them out",
        ),
        (
            "INTERNAL_TOKENS",
            format!("a:{quoted}"),
            "entry 1 is in quotes: leave them out",
        ),
        (
            "INTERNAL_TOKENS",
            format!("a: {OTHER_KEY}"),
            "entry 1 has white space before or after it",
        ),
    ] {
        let [variable, _] = both_ways(name, &text, COMPLETE);
        assert_eq!(variable.unwrap_err(), [format!("{name}: {what}")]);
    }
}

#[test]
fn base64_is_strict_and_never_a_text_by_accident() {
    let encoded = RANDOM_KEY.strip_prefix("base64:").unwrap();
    let strict = "is not valid base64 (standard alphabet, padded) after base64:";
    let prefix = "must begin with base64: in lower case, or with another word";
    for (text, what) in [
        (format!("BASE64:{encoded}"), prefix),
        (format!("base64 {encoded}"), prefix),
        (format!("base64={encoded}"), prefix),
        (
            format!("\"base64:{encoded}"),
            "is in quotes: leave them out",
        ),
        (
            format!("«base64:{encoded}»"),
            "has text before base64: leave it out",
        ),
        (
            format!("JWT_SECRET=base64:{encoded}"),
            "has text before base64: leave it out",
        ),
        (format!("base64: {encoded}"), strict),
        (format!("base64:\"{encoded}\""), strict),
        (format!("base64:{}", encoded.trim_end_matches('=')), strict),
        (format!("base64:{encoded}="), strict),
        (format!("base64:{}", encoded.replace('/', "_")), strict),
        (format!("base64:{}", encoded.replace("Y=", "Z=")), strict),
    ] {
        let [variable, _] = both_ways("JWT_NEXT_SECRET", &text, COMPLETE);
        assert_eq!(
            variable.unwrap_err(),
            [format!("JWT_NEXT_SECRET: {what}")],
            "{text}"
        );
    }
}

#[test]
fn a_key_of_a_few_repeated_characters_is_refused() {
    let what = "repeats a few characters: make a random one with `auth-service keys generate`";
    let zeros = "base64:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for repeated in ["x".repeat(32), "abc1".repeat(10), zeros.to_owned()] {
        let found = problems(&format!("--jwt-next-secret {repeated}"));
        assert_eq!(found, [format!("JWT_NEXT_SECRET: {what}")]);
        let found = problems(&format!("--jwt-previous-secrets {repeated}"));
        assert_eq!(found, [format!("JWT_PREVIOUS_SECRETS: entry 1 {what}")]);
    }
}

#[test]
fn one_value_for_two_secrets_is_refused() {
    let used = "has a password that is also a signing key, data key or internal token";
    let token = "INTERNAL_TOKENS: entry 2 is also a signing key or data key";
    let tokens = |value: &str| format!("--internal-tokens a:{OTHER_KEY},b:{value}");
    assert_eq!(problems(&tokens(KEY)), [token]);
    assert_eq!(
        problems(&format!(
            "--jwt-next-secret {RANDOM_KEY} {}",
            tokens(RANDOM_KEY)
        )),
        [token]
    );
    let encoded = RANDOM_KEY.strip_prefix("base64:").unwrap();
    let previous = format!("--jwt-previous-secrets {RANDOM_KEY}");
    assert_eq!(
        problems(&format!("{previous} {}", tokens(encoded))),
        [token]
    );
    let kafka = "--kafka-brokers a:1 --kafka-security-protocol SASL_PLAINTEXT \
        --kafka-sasl-mechanism PLAIN --kafka-sasl-username me --kafka-sasl-password";
    let tokens = format!("--internal-tokens a:{OTHER_KEY}");
    for secret in [KEY, OTHER_KEY, DATA_KEY] {
        let found = problems(&format!("{tokens} {kafka} {secret}"));
        assert_eq!(found, [format!("KAFKA_SASL_PASSWORD: {used}")]);
        let url = format!("--database-url postgres://me:{secret}@localhost/auth");
        let found = problems_alone(&format!(
            "{url} --jwt-secret {KEY} --data-key {DATA_KEY} {tokens}"
        ));
        assert_eq!(found, [format!("DATABASE_URL: {used}")]);
    }
}

#[test]
fn a_data_key_that_has_another_purpose_too_is_refused() {
    let alone = format!("--database-url sqlite://x --jwt-secret {KEY}");
    let found = problems_alone(&format!("{alone} --data-key {KEY}"));
    assert_eq!(found, ["DATA_KEY: is also a signing key"]);
    let next = format!("--jwt-next-secret {RANDOM_KEY}");
    let found = problems(&format!(
        "{next} --data-previous-keys {OTHER_KEY},{RANDOM_KEY}"
    ));
    assert_eq!(found, ["DATA_PREVIOUS_KEYS: entry 2 is also a signing key"]);
    let found = problems(&format!("--internal-tokens a:{DATA_KEY}"));
    assert_eq!(
        found,
        ["INTERNAL_TOKENS: entry 1 is also a signing key or data key"]
    );
    let token = RANDOM_KEY.strip_prefix("base64:").unwrap();
    let found = problems(&format!(
        "--data-previous-keys {RANDOM_KEY} --internal-tokens a:{token}"
    ));
    assert_eq!(
        found,
        ["INTERNAL_TOKENS: entry 1 is also a signing key or data key"]
    );
}

#[test]
fn both_forms_of_a_secret_are_a_problem_that_names_both() {
    for Declaration { name, .. } in variables().filter(|variable| variable.is_secret) {
        let flag = flag(name);
        let kafka = "--kafka-brokers a:1 --kafka-security-protocol SASL_SSL";
        let base = TempDir::new().unwrap();
        let line = format!("{flag} x {flag}-file y {kafka}");
        let found = problems_of_both(base.path(), &line);
        let expected = format!("{name}: is set together with {name}_FILE: keep one of them");
        assert!(found.contains(&expected), "{found:?}");
    }
}

#[test]
fn a_bad_secret_file_names_the_variable_of_the_file() {
    let folder = TempDir::new().unwrap();
    let short = file(&folder, "short", "short");
    let empty = file(&folder, "empty", "\n");
    let missing = folder.path().join("missing").display().to_string();
    for (path, what) in [
        (short, "must have at least 32 bytes"),
        (empty, "the file is empty"),
        (missing, "cannot read the file (entity not found)"),
    ] {
        let found = problems(&format!("--jwt-next-secret-file {path}"));
        assert_eq!(found, [format!("JWT_NEXT_SECRET_FILE: {what}")]);
    }
}

#[test]
fn keys_are_raw_text_or_base64_and_comma_separated_when_previous() {
    let (_, encoded) = RANDOM_KEY.split_once(':').unwrap();
    let bytes = BASE64_STANDARD.decode(encoded).unwrap();
    let config = load(&format!("--jwt-next-secret {RANDOM_KEY}"));
    let secrets = config.auth.secrets;
    assert_eq!(secrets.current.expose_secret(), KEY.as_bytes());
    assert_eq!(secrets.next.unwrap().expose_secret(), bytes);
    let config = load(&format!("--jwt-previous-secrets {OTHER_KEY},{RANDOM_KEY}"));
    let previous = config.auth.secrets.previous;
    let previous: Vec<_> = previous.iter().map(ExposeSecret::expose_secret).collect();
    assert_eq!(previous, [OTHER_KEY.as_bytes(), &bytes]);
}

#[test]
fn an_internal_token_is_kept_as_its_hash_and_may_contain_a_colon() {
    use sha2::{Digest, Sha256};
    let token = format!("{KEY}:x");
    let config = load(&format!(
        "--internal-tokens gateway:{token},ops-1:{OTHER_KEY}"
    ));
    let tokens = [("gateway", token.as_str()), ("ops-1", OTHER_KEY)];
    let tokens = tokens.map(|(name, token)| InternalToken {
        name: name.to_owned(),
        sha256: Sha256::digest(token).into(),
        is_guessable: crate::password::is_guessable(token),
    });
    let callers = InternalCallers {
        tokens: tokens.into(),
        client_names: Vec::new(),
        scopes: Vec::new(),
    };
    assert_eq!(config.internal_callers, callers);
}

#[test]
fn a_debug_print_shows_no_secret() {
    let kafka = "--kafka-brokers a:1 --kafka-security-protocol SASL_SSL --kafka-sasl-mechanism PLAIN --kafka-sasl-username me --kafka-sasl-password needle";
    let url = "postgres://u:needle@h/db";
    let line = format!(
        "--database-url {url} --jwt-secret needle-{KEY} --data-key needle-{DATA_KEY} --internal-tokens a:needle-{OTHER_KEY} {kafka}"
    );
    let printed = format!("{:?}", load_at(Path::new(""), &line).unwrap());
    assert!(
        printed.contains("realchat-auth") && !printed.contains("needle"),
        "{printed}"
    );
}
