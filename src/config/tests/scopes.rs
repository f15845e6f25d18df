//! `INTERNAL_SCOPES`.

use super::*;
use crate::grpc::Scope;

const CALLERS: &str = "--internal-tokens Gateway:0123456789abcdef0123456789abcdef,mailer:abcdef0123456789abcdef0123456789";

fn scopes_of(line: &str, name: &str) -> String {
    load(&format!("{CALLERS} {line}"))
        .internal_callers
        .scopes_of(name)
        .to_string()
}

#[test]
fn a_service_has_the_scopes_that_are_named_or_those_of_a_gateway() {
    let line = "--internal-scopes mailer=mail";
    assert_eq!(scopes_of(line, "mailer"), "mail");
    assert_eq!(scopes_of(line, "Gateway"), "keys+address");
    let line = "--internal-scopes Gateway=import+admin+admin,mailer=keys";
    assert_eq!(scopes_of(line, "Gateway"), "admin+import");
    assert_eq!(scopes_of(line, "mailer"), "keys");
}

#[test]
fn an_unknown_name_or_scope_is_a_problem() {
    for (scopes, problem) in [
        ("mailer", "entry 1 must be name=scope+scope"),
        (
            "mailer=mails",
            "entry 1 must have scopes of keys, address, mail, admin, import, joined by '+'",
        ),
        (
            "Gateway=keys,mailer=",
            "entry 2 must have scopes of keys, address, mail, admin, import, joined by '+'",
        ),
        (
            "mailer=mail,support=admin",
            "entry 2 names no internal service",
        ),
        ("gateway=keys", "entry 1 names no internal service"),
        ("mailer=mail,mailer=keys", "entry 2 names a service again"),
    ] {
        let found = problems(&format!("{CALLERS} --internal-scopes {scopes}"));
        assert_eq!(found, [format!("INTERNAL_SCOPES: {problem}")], "{scopes}");
    }
}

#[test]
fn the_generated_token_has_every_scope() {
    let base = TempDir::new().unwrap();
    let config = load_at(base.path(), "").unwrap();
    for scope in Scope::ALL {
        assert!(config.internal_callers.scopes_of("local").has(scope));
    }
    let config = load_at(base.path(), "--internal-scopes local=keys").unwrap();
    assert_eq!(
        config.internal_callers.scopes_of("local").to_string(),
        "keys"
    );
}

#[test]
fn scopes_are_not_compared_with_names_that_are_wrong_themselves() {
    let scopes = "--internal-scopes mailer=mail";
    for (line, problem) in [
        ("--internal-tokens mailer:short", "INTERNAL_TOKENS: "),
        ("--internal-tokens-file /nowhere", "INTERNAL_TOKENS_FILE: "),
        (
            "--internal-client-names *.internal",
            "INTERNAL_CLIENT_NAMES: ",
        ),
    ] {
        let found = problems(&format!("{line} {scopes}"));
        assert!(!found.is_empty());
        assert!(
            found.iter().all(|line| line.starts_with(problem)),
            "{found:?}"
        );
    }
    let nobody = problems(scopes);
    let expected = "INTERNAL_SCOPES: entry 1 names no internal service";
    assert_eq!(nobody, [expected]);
}
