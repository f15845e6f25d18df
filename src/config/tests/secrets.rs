//! Secrets as text and as files, and that none is ever shown.

use super::*;
use crate::grpc::InternalToken;

#[test]
fn a_secret_may_be_in_a_file_whose_one_trailing_newline_is_dropped() {
    let folder = TempDir::new().unwrap();
    for (ending, kept) in [
        ("", ""),
        ("\n", ""),
        ("\r\n", ""),
        ("\n\n", "\n"),
        ("\r", "\r"),
    ] {
        let path = file(&folder, "secret", &format!("{OTHER_KEY}{ending}"));
        let config = load(&format!("--jwt-next-secret-file {path}"));
        let key = config.auth.secrets.next.unwrap();
        assert_eq!(key.expose_secret(), format!("{OTHER_KEY}{kept}").as_bytes());
    }
}

#[test]
fn both_forms_of_a_secret_are_a_problem_that_names_both() {
    for Declaration { name, .. } in variables().filter(|variable| variable.is_secret) {
        let flag = flag(name);
        let kafka = "--kafka-brokers a:1 --kafka-security-protocol SASL_SSL";
        let found = problems_alone(&format!("{flag} x {flag}-file y {kafka}"));
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
    let encoded = "base64:YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=";
    let config = load(&format!(
        "--jwt-next-secret {encoded} --jwt-previous-secrets {OTHER_KEY},base64:Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2M="
    ));
    let secrets = config.auth.secrets;
    assert_eq!(secrets.current.expose_secret(), KEY.as_bytes());
    assert_eq!(secrets.next.unwrap().expose_secret(), [b'b'; 32]);
    let previous: Vec<_> = secrets
        .previous
        .iter()
        .map(ExposeSecret::expose_secret)
        .collect();
    assert_eq!(previous, [OTHER_KEY.as_bytes(), &[b'c'; 32]]);
}

#[test]
fn a_space_beside_a_comma_is_no_part_of_a_key() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "keys", &format!("{OTHER_KEY}, {KEY}"));
    let found = problems(&format!("--jwt-previous-secrets-file {path}"));
    assert_eq!(
        found,
        ["JWT_PREVIOUS_SECRETS_FILE: entry 2 has white space beside a comma"]
    );
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
    });
    let callers = InternalCallers::new(tokens.into(), Vec::new());
    assert_eq!(config.internal_callers, callers);
}

#[test]
fn a_debug_print_shows_no_secret() {
    let kafka = "--kafka-brokers a:1 --kafka-security-protocol SASL_SSL --kafka-sasl-mechanism PLAIN --kafka-sasl-username me --kafka-sasl-password needle";
    let url = "postgres://u:needle@h/db";
    let line = format!(
        "--database-url {url} --jwt-secret needle-{KEY} --internal-tokens a:needle-{KEY} {kafka}"
    );
    let printed = format!("{:?}", load_at(Path::new(""), &line).unwrap());
    assert!(
        printed.contains("realchat-auth") && !printed.contains("needle"),
        "{printed}"
    );
}
