use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const MAILER: &str = "fedcba9876543210fedcba9876543210";

fn callers() -> InternalCallers {
    let token = |name: &str, text: &str| InternalToken {
        name: name.to_owned(),
        sha256: Sha256::digest(text).into(),
        is_guessable: true,
    };
    InternalCallers {
        tokens: vec![token("gateway", TOKEN), token("mailer", MAILER)],
        client_names: Vec::new(),
        scopes: vec![("mailer".to_owned(), Scopes::of(Scope::Mail))],
    }
}

/// The names and the scopes of a call with these values of `authorization`.
fn identify(values: &[&str]) -> (Option<String>, String) {
    let mut request = Request::new(());
    for value in values {
        let value = value.parse().unwrap();
        request.metadata_mut().append("authorization", value);
    }
    let callers = callers();
    let identity = callers.identify(&request);
    (identity.name(), identity.scopes.to_string())
}

#[test]
fn a_caller_is_known_by_its_whole_token() {
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let (name, scopes) = identify(&[&format!("{scheme} {TOKEN}")]);
        assert_eq!(name.as_deref(), Some("gateway"));
        assert_eq!(scopes, "keys+address");
    }
}

#[test]
fn any_other_caller_is_unknown() {
    let almost = format!("Bearer {}", &TOKEN[1..]);
    let basic = format!("Basic {TOKEN}");
    let inner = format!("Bearer {TOKEN} Bearer {MAILER}");
    for header in ["", "Bearer ", ",", TOKEN, &almost, &basic, &inner] {
        assert_eq!(identify(&[header]), (None, String::new()), "{header:?}");
    }
    assert_eq!(identify(&[]).0, None);
}

#[test]
fn the_scopes_of_several_credentials_add_up() {
    let [gateway, mailer] = [TOKEN, MAILER].map(|token| format!("Bearer {token}"));
    let both = ("gateway,mailer", "keys+address+mail");
    let joined = format!("{gateway}, Bearer eyJ.a.b ,{mailer}");
    for values in [&[&*gateway, &mailer][..], &[&joined], &[&joined, &gateway]] {
        let (name, scopes) = identify(values);
        assert_eq!(
            (name.as_deref(), &*scopes),
            (Some(both.0), both.1),
            "{values:?}"
        );
    }
    assert_eq!(identify(&[&mailer]).1, "mail");
}

#[test]
fn the_users_token_is_the_first_that_is_no_internal_one() {
    let mut request = Request::new(());
    let value = format!("Bearer {TOKEN},Bearer eyJ.a.b").parse().unwrap();
    request.metadata_mut().append("authorization", value);
    assert_eq!(callers().user_token(request.metadata()), Some("eyJ.a.b"));
}
