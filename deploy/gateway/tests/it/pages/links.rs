//! The links of mails.

use axum::http::{Method, StatusCode};

use super::{NEW_PASSWORD, PASSWORD, Person};
use crate::{mailer, service::Service};

/// Opens a link as mail scanners do.
async fn scan(path: &str, token: &str, person: &mut Person) {
    for method in [Method::GET, Method::HEAD, Method::GET] {
        let link = format!("{path}?token={token}");
        let page = person.send(method.clone(), &link, &[]).await;
        assert_eq!(page.status, StatusCode::OK);
        if method == Method::GET {
            page.says(&format!("name=\"token\" value=\"{token}\""));
        }
    }
}

#[tokio::test]
async fn a_forgotten_password_is_replaced_and_the_old_session_is_gone() {
    let service = Service::start(&[]).await;
    let (mut old, mut new) = (Person::of(&service).await, Person::of(&service).await);
    old.sign_up("ana@example.com").await;
    new.post("/forgot-password", &[("email", "ana@example.com")])
        .await;
    let token = mailer::claim(&service, 0).await.token;
    scan("/reset-password", &token, &mut new).await;
    assert_eq!(old.get("/account").await.status, StatusCode::OK);

    // A password that is refused does not use the link up.
    let weak = [("token", token.as_str()), ("new_password", "short")];
    let page = new.post("/reset-password", &weak).await;
    assert_eq!(
        page.error_at("new_password"),
        "The new password must have at least 8 characters."
    );
    page.says(&format!("value=\"{token}\""));

    let good = [("token", token.as_str()), ("new_password", NEW_PASSWORD)];
    let page = new.follow("/reset-password", &good).await;
    page.says("Your new password is set.");
    page.says("action=\"/log-in\"");
    assert_eq!(old.get("/account").await.leads_to(), "/log-in");
    assert_eq!(
        old.log_in("ana@example.com", PASSWORD).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        old.log_in("ana@example.com", NEW_PASSWORD).await.leads_to(),
        "/account"
    );

    let page = old.post("/reset-password", &good).await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    page.says("This link does not work.");
    page.says("Ask for a new link");
}

/// Asks for a reset of this account's password, and uses its link.
async fn reset(person: &mut Person, service: &Service, email: &str, number: usize) -> String {
    Person::of(service)
        .await
        .post("/forgot-password", &[("email", email)])
        .await;
    let mail = mailer::claim(service, number).await;
    assert_eq!(mail.email, email);
    let fields = [("token", &mail.token[..]), ("new_password", NEW_PASSWORD)];
    person.post("/reset-password", &fields).await.leads_to()
}

#[tokio::test]
async fn a_link_logs_nobody_in_to_another_account() {
    let service = Service::start(&[]).await;
    let (mut ana, mut eve) = (Person::of(&service).await, Person::of(&service).await);
    ana.sign_up("ana@example.com").await;
    eve.sign_up("eve@example.com").await;
    let before = ana.cookies.clone();
    // A stranger's browser, and one with the session of another user.
    let mut stranger = Person::of(&service).await;
    let to = reset(&mut stranger, &service, "eve@example.com", 0).await;
    assert_eq!(to, "/log-in");
    let names = ["__Host-device", "__Host-notice"];
    assert!(stranger.cookies.keys().eq(names));
    let to = reset(&mut ana, &service, "eve@example.com", 1).await;
    assert_eq!(to, "/log-in");
    for name in ["__Host-refresh_token", "__Host-access_token"] {
        assert_eq!(ana.cookies[name], before[name], "{name}");
    }
    ana.get("/account").await.says("ana@example.com");
    // The session of the reset has ended.
    let to = eve.log_in("eve@example.com", NEW_PASSWORD).await;
    assert_eq!(to.leads_to(), "/account");
    eve.get("/account").await.does_not_say("End this one");

    // The user's own session goes on.
    let to = reset(&mut eve, &service, "eve@example.com", 2).await;
    assert_eq!(to, "/account");
    eve.get("/account").await.says("Your new password is set.");
}

#[tokio::test]
async fn without_the_mail_a_reset_confirms_the_address() {
    let service = Service::start(&[("EMAIL_VERIFICATION", "required")]).await;
    let mut ana = Person::of(&service).await;
    let fields = [("email", "ana@example.com"), ("password", PASSWORD)];
    let signed_up = ana.post("/sign-up", &fields).await;
    let refused = ana.log_in("ana@example.com", PASSWORD).await;
    // No login sends another mail while the link of the first one works.
    assert_eq!(service.mail_requests().len(), 1);
    for page in [signed_up, refused] {
        page.says("<a href=\"/forgot-password\">set a new password</a>");
        for promise in ["on its way", "another mail"] {
            page.does_not_say(promise);
        }
    }
    reset(&mut ana, &service, "ana@example.com", 1).await;
    let answer = ana.log_in("ana@example.com", NEW_PASSWORD).await;
    assert_eq!(answer.leads_to(), "/account");
    ana.get("/account").await.says(">confirmed<");
}

#[tokio::test]
async fn an_address_is_verified_before_the_first_log_in() {
    let service = Service::start(&[("EMAIL_VERIFICATION", "required")]).await;
    let mut ana = Person::of(&service).await;
    let fields = [("email", "ana@example.com"), ("password", PASSWORD)];
    let page = ana.post("/sign-up", &fields).await;
    page.says("Check your mail");
    page.says("ana@example.com");
    assert!(ana.cookies.is_empty());
    let page = ana.log_in("ana@example.com", PASSWORD).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    page.says("Confirm your address first");

    let token = mailer::claim(&service, 0).await.token;
    scan("/confirm-email", &token, &mut ana).await;
    assert_eq!(
        ana.log_in("ana@example.com", PASSWORD).await.status,
        StatusCode::FORBIDDEN
    );
    let page = ana.post("/confirm-email", &[("token", &token)]).await;
    page.says("ana@example.com");
    assert_eq!(
        ana.log_in("ana@example.com", PASSWORD).await.leads_to(),
        "/account"
    );
    ana.get("/account").await.says(">confirmed<");

    let page = ana.post("/confirm-email", &[("token", &token)]).await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    page.says("This link does not work.");
}

#[tokio::test]
async fn another_mail_verifies_the_address_of_a_signed_in_user() {
    let service = Service::start(&[("EMAIL_VERIFICATION", "optional")]).await;
    let mut ana = Person::of(&service).await;
    ana.sign_up("ana@example.com").await.says("not confirmed");
    let page = ana.follow("/account/verification", &[]).await;
    page.says("We have sent you a mail.");
    // The code can be typed, with the spaces that come with copying it.
    ana.get("/confirm-email").await.says("Code from the mail");
    let token = mailer::claim(&service, 1).await.token;
    let page = ana
        .post("/confirm-email", &[("token", &format!(" {token}\n"))])
        .await;
    page.says("This is now the confirmed address of your account:");
    ana.get("/account").await.does_not_say("not confirmed");
}

#[tokio::test]
async fn an_address_is_changed_and_the_change_undone() {
    let service = Service::start(&[]).await;
    let (mut thief, mut ana) = (Person::of(&service).await, Person::of(&service).await);
    ana.sign_up("ana@example.com").await;
    thief.log_in("ana@example.com", PASSWORD).await.leads_to();
    let fields = [
        ("new_email", "eve@example.com"),
        ("current_password", PASSWORD),
    ];
    let page = thief.post("/account/email", &fields).await;
    page.says("We have sent a mail to this address");
    page.says("eve@example.com");
    thief.get("/account").await.says("eve@example.com");

    let mail = mailer::claim(&service, 0).await;
    assert_eq!(mail.email, "eve@example.com");
    scan("/confirm-email", &mail.token, &mut thief).await;
    assert_eq!(ana.get("/account").await.status, StatusCode::OK);
    thief
        .post("/confirm-email", &[("token", &mail.token)])
        .await
        .says("eve@example.com");
    // The session that asked stays.
    thief.get("/account").await.says("eve@example.com");
    assert_eq!(ana.get("/account").await.leads_to(), "/log-in");

    let mail = mailer::claim(&service, 1).await;
    assert_eq!(mail.email, "ana@example.com");
    scan("/revert-email", &mail.token, &mut ana).await;
    let page = ana.post("/revert-email", &[("token", &mail.token)]).await;
    page.says("This is the address of your account again:");
    page.says("ana@example.com");
    assert_eq!(thief.get("/account").await.leads_to(), "/log-in");
    for email in ["ana@example.com", "eve@example.com"] {
        let refused = thief.log_in(email, PASSWORD).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    }

    let reset = mailer::claim(&service, 2).await;
    assert_eq!(reset.email, "ana@example.com");
    let fields = [
        ("token", reset.token.as_str()),
        ("new_password", NEW_PASSWORD),
    ];
    ana.follow("/reset-password", &fields)
        .await
        .says("Your new password is set.");
    let page = ana.post("/revert-email", &[("token", &mail.token)]).await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_new_password_stops_a_change_of_the_address() {
    let service = Service::start(&[]).await;
    let mut ana = Person::of(&service).await;
    ana.sign_up("ana@example.com").await;
    let fields = [
        ("new_email", "eve@example.com"),
        ("current_password", PASSWORD),
    ];
    ana.post("/account/email", &fields).await;
    let token = mailer::claim(&service, 0).await.token;
    ana.follow("/account/sessions/end-others", &[])
        .await
        .says("<a href=\"/account/password\">Change your password</a>: this stops the change.");
    let fields = [
        ("current_password", PASSWORD),
        ("new_password", NEW_PASSWORD),
    ];
    ana.follow("/account/password", &fields)
        .await
        .does_not_say("eve@example.com");
    let page = ana.post("/confirm-email", &[("token", &token)]).await;
    page.says("This link does not work.");
}

#[tokio::test]
async fn mails_are_in_the_first_language_of_the_browser() {
    let service = Service::start(&[("EMAIL_VERIFICATION", "optional")]).await;
    let mut ana = Person::of(&service).await;
    ana.sign_up("ana@example.com").await;
    ana.languages = "de-AT,de;q=0.9,en;q=0.8";
    ana.follow("/account/verification", &[]).await;
    let fields = [("email", "ana@example.com")];
    ana.post("/forgot-password", &fields).await;
    let fields = [
        ("new_email", "new@example.com"),
        ("current_password", PASSWORD),
    ];
    ana.post("/account/email", &fields)
        .await
        .says("Check your mail");
    for (number, language) in ["pt-BR", "de-AT", "de-AT", "de-AT"].into_iter().enumerate() {
        let mail = mailer::claim(&service, number).await;
        assert_eq!(mail.locale, language, "{number}");
    }
}

#[tokio::test]
async fn an_address_that_another_account_has_is_refused_at_the_end() {
    let service = Service::start(&[]).await;
    let mut ana = Person::of(&service).await;
    ana.sign_up("ana@example.com").await;
    let fields = [
        ("new_email", "bob@example.com"),
        ("current_password", PASSWORD),
    ];
    ana.post("/account/email", &fields)
        .await
        .says("Check your mail");
    Person::of(&service).await.sign_up("bob@example.com").await;
    let token = mailer::claim(&service, 0).await.token;
    let page = ana.post("/confirm-email", &[("token", &token)]).await;
    assert_eq!(page.status, StatusCode::CONFLICT);
    page.says("Another account has this address");
    page.says(&format!("value=\"{token}\""));
}
