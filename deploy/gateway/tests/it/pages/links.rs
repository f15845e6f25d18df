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
    new.follow("/reset-password", &good)
        .await
        .says("Your new password is set.");
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
        .says("ana@example.com");
    let page = ana.post("/revert-email", &[("token", &mail.token)]).await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
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
