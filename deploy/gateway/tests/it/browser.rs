//! A person goes through all flows with a real browser, whose scripts are off. The mails come from
//! the real mailer, by the real Kafka, and are read in the inbox of a real SMTP server.
//!
//! `tests/run smtp with` starts the servers; `MAILER_BIN` names the mailer's binary.

mod platform;
mod webdriver;

use platform::Platform;
use tokio::try_join;
use webdriver::Driver;

const PASSWORD: &str = "wasp ember 417 tulip";
const NEW_PASSWORD: &str = "quiet meadow brass lantern";
const LAST_PASSWORD: &str = "copper thistle 93 window";

#[tokio::test]
async fn a_person_goes_through_all_flows_with_a_browser() {
    // The one waits for Java, the other one for Chromium.
    let platform = async { Platform::start().await.ok_or(()) };
    let browsers = async {
        let driver = Driver::start().await.ok_or(())?;
        let browsers = driver.browsers().await;
        Ok((driver, browsers))
    };
    let Ok((platform, (driver, (mut old, mut new)))) = try_join!(platform, browsers) else {
        return;
    };
    let (ana, eve) = ("ana@example.com", "eve@example.com");

    old.open(&platform.page("/sign-up")).await;
    old.fill("email", ana).await;
    old.fill("password", "short").await;
    old.submit().await;
    old.sees("The password must have at least 8 characters.")
        .await;
    old.fill("password", PASSWORD).await;
    old.submit().await;
    old.sees("Check your mail").await;
    old.open(&platform.page("/log-in")).await;
    old.log_in(ana, PASSWORD).await;
    old.sees("Confirm your address first").await;

    // The mail's link opens in another browser, which is the phone's.
    new.open(&platform.link(ana, "/confirm-email", 0).await)
        .await;
    new.submit().await;
    new.sees("This is now the confirmed address").await;
    old.open(&platform.page("/log-in")).await;
    old.log_in(ana, PASSWORD).await;
    old.sees("Where you are logged in").await;

    new.open(&platform.page("/forgot-password")).await;
    new.fill("email", ana).await;
    new.submit().await;
    new.sees("We have sent a mail to this address").await;
    new.open(&platform.link(ana, "/reset-password", 0).await)
        .await;
    new.fill("new_password", NEW_PASSWORD).await;
    new.submit().await;
    new.sees("Your new password is set.").await;
    new.log_in(ana, NEW_PASSWORD).await;
    new.sees("Where you are logged in").await;
    old.open(&platform.page("/account")).await;
    old.sees("Your session has ended. Log in again.").await;
    old.log_in(ana, PASSWORD).await;
    old.sees("The email address or the password is wrong.")
        .await;
    old.fill("password", NEW_PASSWORD).await;
    old.submit().await;
    old.sees("Where you are logged in").await;

    // The other browser ends this session.
    new.open(&platform.page("/account")).await;
    new.click("form[action='/account/sessions/end'] button")
        .await;
    new.sees("The session has ended.").await;
    old.open(&platform.page("/account")).await;
    old.sees("Your session has ended. Log in again.").await;
    old.log_in(ana, NEW_PASSWORD).await;
    old.sees("Where you are logged in").await;

    // A thief who knows the password changes the address.
    old.open(&platform.page("/account/email")).await;
    old.fill("new_email", eve).await;
    old.fill("current_password", NEW_PASSWORD).await;
    old.submit().await;
    old.sees("Open the link in it to finish the change.").await;
    old.open(&platform.link(eve, "/confirm-email", 0).await)
        .await;
    old.submit().await;
    old.sees("This is now the confirmed address").await;
    new.open(&platform.page("/account")).await;
    new.sees("Your session has ended. Log in again.").await;

    new.open(&platform.link(ana, "/revert-email", 0).await)
        .await;
    new.submit().await;
    new.sees("This is the address of your account again:").await;
    old.open(&platform.page("/account")).await;
    old.sees("Your session has ended. Log in again.").await;
    new.open(&platform.link(ana, "/reset-password", 1).await)
        .await;
    new.fill("new_password", LAST_PASSWORD).await;
    new.submit().await;
    new.sees("Your new password is set.").await;
    new.log_in(ana, LAST_PASSWORD).await;
    new.sees("Where you are logged in").await;
    new.sees(ana).await;
    new.click("form[action='/log-out'] button").await;
    new.sees("You are logged out.").await;

    let log = platform.gateway.log();
    for secret in ["rcm_", "example.com", "wasp", "quiet", "copper"] {
        assert!(!log.contains(secret), "{log}");
    }
    driver.end().await;
}
