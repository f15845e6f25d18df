//! What a person sees after each form.

use std::sync::Arc;

use axum::http::{StatusCode, header};

use super::{NEW_PASSWORD, PASSWORD, Person};
use crate::{
    mailer,
    service::{NEW_KEY, Service},
    support,
};

#[tokio::test]
async fn a_person_signs_up_logs_out_and_logs_in() {
    let service = Service::start(&[]).await;
    let mut ana = Person::of(&service).await;
    let account = ana.sign_up("Ana@Example.com").await;
    account.says("ana@example.com");
    account.says("Firefox on Linux");
    // This service verifies no addresses.
    account.does_not_say("not confirmed");

    let out = ana.follow("/log-out", &[]).await;
    out.says("You are logged out.");
    ana.get("/log-in").await.does_not_say("You are logged out.");
    assert_eq!(ana.get("/account").await.leads_to(), "/log-in");
    assert!(ana.cookies.keys().eq(["__Host-device"]));
    let answer = ana.log_in("ana@example.com", PASSWORD).await;
    assert_eq!(answer.leads_to(), "/account");
    assert_eq!(ana.get("/account").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_session_is_ended_from_another_one() {
    let service = Service::start(&[]).await;
    let (mut here, mut there) = (Person::of(&service).await, Person::of(&service).await);
    here.sign_up("ana@example.com").await;
    there.log_in("ana@example.com", PASSWORD).await.leads_to();
    let account = here.get("/account").await;
    let (_, rest) = account
        .html
        .split_once("name=\"session_id\" value=\"")
        .unwrap();
    let (id, rest) = rest.split_once('"').unwrap();
    assert!(
        !rest.contains("name=\"session_id\""),
        "no button for this device"
    );
    let ended = here
        .follow("/account/sessions/end", &[("session_id", id)])
        .await;
    ended.says("The session has ended.");
    ended.does_not_say("End this one");
    assert_eq!(there.get("/account").await.leads_to(), "/log-in");
    there.get("/log-in").await.says("Your session has ended.");

    there.log_in("ana@example.com", PASSWORD).await.leads_to();
    there
        .follow("/account/sessions/end-others", &[])
        .await
        .says("All other sessions have ended.");
    assert_eq!(here.get("/account").await.leads_to(), "/log-in");
}

#[tokio::test]
async fn a_new_password_replaces_the_cookies_and_ends_other_sessions() {
    let service = Service::start(&[]).await;
    let (mut here, mut there) = (Person::of(&service).await, Person::of(&service).await);
    here.sign_up("ana@example.com").await;
    there.log_in("ana@example.com", PASSWORD).await.leads_to();
    let before = here.cookies.clone();
    let fields = [
        ("current_password", PASSWORD),
        ("new_password", NEW_PASSWORD),
    ];
    let account = here.follow("/account/password", &fields).await;
    account.says("Your password is changed.");
    for name in [
        "__Host-refresh_token",
        "__Host-access_token",
        "__Host-device",
    ] {
        assert_ne!(here.cookies[name], before[name], "{name}");
    }
    assert_eq!(there.get("/account").await.leads_to(), "/log-in");
    assert_eq!(
        there
            .log_in("ana@example.com", NEW_PASSWORD)
            .await
            .leads_to(),
        "/account"
    );
}

#[tokio::test]
async fn a_suspended_person_reads_why_the_login_fails() {
    let service = Service::start(&[]).await;
    let mut ana = Person::of(&service).await;
    ana.sign_up("ana@example.com").await;
    let user_id = ana.user_id();
    for (until, text) in [
        (Some(4_102_444_800), "2100-01-01 00:00 UTC"),
        (None, "You cannot log in."),
    ] {
        support::suspend(&service, &user_id, until).await;
        assert_eq!(ana.get("/account").await.leads_to(), "/log-in");
        let refused = ana.log_in("ana@example.com", PASSWORD).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        refused.says("Your account is suspended");
        refused.says(text);
        let wrong = ana.log_in("ana@example.com", NEW_PASSWORD).await;
        wrong.says("The email address or the password is wrong.");
    }
}

#[tokio::test]
async fn an_expired_access_token_is_replaced() {
    let service = Service::start(&[]).await;
    let mut ana = Person::of(&service).await;
    ana.sign_up("ana@example.com").await;
    let before = ana.cookies.clone();
    assert_eq!(ana.get("/account").await.status, StatusCode::OK);
    assert_eq!(ana.cookies, before);
    // A browser drops the cookie when the token expires.
    ana.cookies.remove("__Host-access_token");
    assert_eq!(ana.get("/account").await.status, StatusCode::OK);
    assert_ne!(
        ana.cookies["__Host-refresh_token"],
        before["__Host-refresh_token"]
    );
    assert!(ana.cookies["__Host-access_token"].starts_with("eyJ"));

    // The tokens of the act itself are newer, and win.
    ana.cookies.remove("__Host-access_token");
    let fields = [
        ("current_password", PASSWORD),
        ("new_password", NEW_PASSWORD),
    ];
    ana.follow("/account/password", &fields).await;
    ana.cookies.remove("__Host-access_token");
    assert_eq!(ana.get("/account").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_access_token_that_expires_within_a_minute_is_replaced() {
    let service = Service::start(&[("ACCESS_TOKEN_TTL", "59s")]).await;
    let mut ana = Person::of(&service).await;
    ana.sign_up("ana@example.com").await;
    for _ in 0..2 {
        let before = ana.cookies.clone();
        assert_eq!(ana.get("/account").await.status, StatusCode::OK);
        for name in ["__Host-refresh_token", "__Host-access_token"] {
            assert_ne!(ana.cookies[name], before[name], "{name}");
        }
    }
}

#[tokio::test]
async fn a_new_refresh_token_is_kept_although_its_access_token_cannot_be_verified() {
    let mut service = Service::start(&[]).await;
    let mut ana = Person::of(&service).await;
    ana.sign_up("ana@example.com").await;
    let before = ana.cookies.clone();
    ana.cookies.remove("__Host-access_token");
    // The service signs with another key, which this gateway may not fetch.
    let scopes = ("INTERNAL_SCOPES", "gateway=address,mailer=mail");
    let variables = [("JWT_SECRET", NEW_KEY), scopes];
    service.restart(&variables).await;
    let page = ana.get("/account").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    let name = "__Host-refresh_token";
    assert_ne!(ana.cookies[name], before[name]);

    service.restart(&variables[..1]).await;
    ana.app = service.gateway().await;
    assert_eq!(ana.get("/account").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_gateway_without_a_snapshot_says_so_and_uses_no_refresh_token() {
    let service = Service::start(&[]).await;
    let mut ana = Person::of(&service).await;
    ana.sign_up("ana@example.com").await;
    ana.app = service.gateway_with(Arc::default());
    let before = ana.cookies.clone();
    let page = ana.get("/account").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ana.cookies, before);
}

#[tokio::test]
async fn an_account_is_deleted_with_its_password() {
    let service = Service::start(&[]).await;
    let mut ana = Person::of(&service).await;
    ana.sign_up("ana@example.com").await.says("/account/delete");
    let form = "/account/delete";
    let page = ana.post(form, &[("current_password", "wrong word")]).await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    let wrong = "This is not your current password.";
    assert_eq!(page.error_at("current_password"), wrong);
    let page = ana.follow(form, &[("current_password", PASSWORD)]).await;
    page.says("Your account is deleted.");
    assert!(ana.cookies.keys().eq(["__Host-device"]));
    let gone = ana.log_in("ana@example.com", PASSWORD).await;
    assert_eq!(gone.status, StatusCode::UNAUTHORIZED);
}

/// Sends an address and a password, which must be refused beside the field. What was typed stays,
/// except for a password.
async fn refused(
    person: &mut Person,
    form: [&str; 3],
    given: [&str; 2],
    expected: (u16, [&str; 2]),
) {
    let [path, first, second] = form;
    let (status, [field, text]) = expected;
    let page = person
        .post(path, &[(first, given[0]), (second, given[1])])
        .await;
    assert_eq!(page.status.as_u16(), status, "{path} {given:?}");
    assert_eq!(page.error_at(field), text);
    page.says("<title>Error: ");
    let is_password = |name: &str| name.contains("password");
    for (name, value) in [(first, given[0]), (second, given[1])] {
        if is_password(name) && !value.is_empty() {
            page.does_not_say(value);
        } else if !is_password(name) {
            page.says(&format!("value=\"{value}\""));
        }
    }
}

#[tokio::test]
async fn errors_of_sign_up_and_log_in_stand_beside_their_fields() {
    let service = Service::start(&[]).await;
    let mut bob = Person::of(&service).await;
    Person::of(&service).await.sign_up("ana@example.com").await;
    let malformed = "The address must be an email address such as name@example.com.";
    let taken = "There is already an account with this address. Log in, or reset its password.";
    let wrong = "The email address or the password is wrong.";
    let (ana, new) = ("ana@example.com", "bob@example.com");
    let sign_up = ["/sign-up", "email", "password"];
    for (given, expected) in [
        (
            ["", PASSWORD],
            (400, ["email", "The address must not be empty."]),
        ),
        (["nobody", PASSWORD], (400, ["email", malformed])),
        (
            [new, "short"],
            (
                400,
                ["password", "The password must have at least 8 characters."],
            ),
        ),
        (
            [new, "password1"],
            (400, ["password", "The password is too easy to guess."]),
        ),
        (
            [new, ""],
            (400, ["password", "The password must not be empty."]),
        ),
        ([ana, PASSWORD], (409, ["email", taken])),
    ] {
        refused(&mut bob, sign_up, given, expected).await;
    }
    let log_in = ["/log-in", "email", "password"];
    for email in [ana, new, "nobody"] {
        refused(
            &mut bob,
            log_in,
            [email, "wrong word"],
            (401, ["password", wrong]),
        )
        .await;
    }
    let empty = (400, ["email", "The address must not be empty."]);
    refused(
        &mut bob,
        ["/forgot-password", "email", "password"],
        ["", ""],
        empty,
    )
    .await;
}

#[tokio::test]
async fn errors_of_the_account_stand_beside_their_fields() {
    let service = Service::start(&[]).await;
    let mut ana = Person::of(&service).await;
    ana.sign_up("ana@example.com").await;
    let wrong = (
        401,
        ["current_password", "This is not your current password."],
    );
    let same = "The new password must differ from the current password.";
    let form = ["/account/password", "current_password", "new_password"];
    refused(&mut ana, form, ["wrong word", NEW_PASSWORD], wrong).await;
    refused(
        &mut ana,
        form,
        [PASSWORD, PASSWORD],
        (400, ["new_password", same]),
    )
    .await;
    let short = "The new password must have at least 8 characters.";
    refused(
        &mut ana,
        form,
        [PASSWORD, "short"],
        (400, ["new_password", short]),
    )
    .await;

    let form = ["/account/email", "new_email", "current_password"];
    refused(&mut ana, form, ["new@example.com", "wrong word"], wrong).await;
    let malformed = "The new address must be an email address such as name@example.com.";
    refused(
        &mut ana,
        form,
        ["nobody", PASSWORD],
        (400, ["new_email", malformed]),
    )
    .await;
    let same = "The new address must differ from the current address.";
    refused(
        &mut ana,
        form,
        ["ana@example.com", PASSWORD],
        (400, ["new_email", same]),
    )
    .await;
}

#[tokio::test]
async fn too_many_attempts_say_when_to_try_again() {
    let service = Service::start(&[]).await;
    let mut ana = Person::of(&service).await;
    let fields = [("email", "ana@example.com")];
    for _ in 0..3 {
        ana.post("/forgot-password", &fields)
            .await
            .says("Check your mail");
    }
    let page = ana.post("/forgot-password", &fields).await;
    assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS);
    page.says("There were too many attempts. Try again in ");
    page.says("value=\"ana@example.com\"");
    let later: u32 = page.headers[header::RETRY_AFTER]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(later > 0);
}

#[tokio::test]
async fn an_act_without_a_form_that_fails_leads_back_to_the_account() {
    let service = Service::start(&[("EMAIL_VERIFICATION", "optional")]).await;
    let mut ana = Person::of(&service).await;
    ana.sign_up("ana@example.com").await;
    for _ in 0..3 {
        ana.follow("/account/verification", &[]).await;
    }
    let page = ana.post("/account/verification", &[]).await;
    assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS);
    page.says("There were too many attempts.");
    page.says("<a href=\"/account\">Back to your account</a>");
}

#[tokio::test]
async fn while_the_service_is_down_the_form_comes_back() {
    let mut service = Service::start(&[]).await;
    let mut ana = Person::of(&service).await;
    ana.sign_up("ana@example.com").await;
    service.stop();
    let page = ana
        .post(
            "/sign-up",
            &[("email", "bob@example.com"), ("password", PASSWORD)],
        )
        .await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    page.says("We cannot answer at the moment. Try again in 1 second.");
    page.says("value=\"bob@example.com\"");
    assert_eq!(page.headers[header::RETRY_AFTER], "1");
    let page = ana.get("/account").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(ana.cookies.contains_key("__Host-refresh_token"));
    // The browser forgets the session even if it cannot be ended.
    ana.follow("/log-out", &[])
        .await
        .says("The session itself could not be ended now");
    assert!(ana.cookies.keys().eq(["__Host-device"]));
}

#[tokio::test]
async fn known_and_unknown_addresses_get_the_same_page() {
    let service = Service::start(&[]).await;
    let mut ana = Person::of(&service).await;
    ana.sign_up("ana@example.com").await;
    let mut pages = Vec::new();
    for email in ["ana@example.com", "bob@example.com", "nobody"] {
        let page = ana.post("/forgot-password", &[("email", email)]).await;
        page.says(email);
        pages.push((page.status, page.html.replace(email, "")));
    }
    assert_eq!(pages[0].0, StatusCode::OK);
    assert!(pages.iter().all(|page| *page == pages[0]));
    let mail = mailer::claim(&service, 0).await;
    assert_eq!(
        (mail.email.as_str(), mail.locale.as_str()),
        ("ana@example.com", "pt-BR")
    );
}

#[tokio::test]
async fn what_a_person_types_is_escaped() {
    let service = Service::start(&[]).await;
    let mut eve = Person::of(&service).await;
    let hostile = "\"><script>alert('1')</script><b x='&amp;@example.com";
    let escaped = "&quot;&gt;&lt;script&gt;alert('1')&lt;/script&gt;&lt;b x='&amp;amp;@example.com";
    for path in ["/sign-up", "/log-in", "/forgot-password"] {
        let page = eve
            .post(path, &[("email", hostile), ("password", hostile)])
            .await;
        page.says(escaped);
        page.does_not_say("<script");
    }
    let query = serde_urlencoded::to_string([("token", hostile)]).unwrap();
    for path in ["/reset-password", "/confirm-email", "/revert-email"] {
        let page = eve.get(&format!("{path}?{query}")).await;
        page.says(&format!("value=\"{escaped}\""));
        page.does_not_say("<script");
        let page = eve.post(path, &[("token", hostile)]).await;
        page.does_not_say("<script");
    }
    eve.sign_up("eve@example.com").await;
    let fields = [("new_email", hostile), ("current_password", PASSWORD)];
    let page = eve.post("/account/email", &fields).await;
    page.says(escaped);
    page.does_not_say("<script");
    let fields = [
        ("email", hostile),
        ("current_password", "x"),
        ("new_password", "y"),
    ];
    let page = eve.post("/account/password", &fields).await;
    page.says(escaped);
    page.does_not_say("<script");
}
