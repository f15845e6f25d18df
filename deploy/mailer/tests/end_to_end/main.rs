//! Tests of the mailer as a process, with the real service, the real Kafka and a real SMTP
//! server. `tests/run smtp with cargo test ..` starts them: see the README.

mod cut;
mod kafka;
mod platform;
mod smtp;
mod wait;

use prost::Message as _;
use realchat_mailer_example::proto::{MailPurpose, MailRequested, UserEvent, user_event::Payload};

use self::{
    platform::Platform,
    smtp::{Proxy, Rule, first, inbox},
    wait::{address, eventually, unique},
};

/// Returns from a test without its services.
macro_rules! platform {
    () => {
        match Platform::start().await {
            Some(platform) => platform,
            None => return,
        }
    };
}

mod many;

#[tokio::test(flavor = "multi_thread")]
async fn the_link_of_the_mail_resets_the_password() {
    let platform = platform!();
    let _mailer = platform.mailer(&smtp::url());
    let ana = address("ana");
    platform.register(&ana).await;
    platform.request_reset(&ana, "en").await;
    let mail = first(&ana).await;
    assert_eq!(mail.to, ana);
    assert_eq!(mail.from, "no-reply@realchat.example");
    assert_eq!(mail.subject, "Choose a new RealChat password");
    let link = format!("https://chat.example/reset-password?token={}", mail.token());
    assert!(mail.text.contains(&link) && mail.text.contains("30 minutes"));
    assert!(mail.html.contains(&format!("href=\"{link}\"")));
    assert!(mail.source.contains("multipart/alternative"));
    assert!(mail.source.contains("Auto-Submitted: auto-generated"));
    platform.reset_password(mail.token()).await.unwrap();
    assert!(platform.reset_password(mail.token()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mail_is_in_the_language_of_the_request() {
    let platform = platform!();
    let _mailer = platform.mailer(&smtp::url());
    let subjects = [
        ("de-AT", "Wählen Sie ein neues Passwort für RealChat"),
        ("tlh", "Choose a new RealChat password"),
        ("", "Choose a new RealChat password"),
    ];
    for (locale, subject) in subjects {
        let ana = address("ana");
        platform.register(&ana).await;
        platform.request_reset(&ana, locale).await;
        assert_eq!(first(&ana).await.subject, subject);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_claim_it_sends_the_mail_after_a_restart() {
    let platform = platform!();
    let proxy = Proxy::start(Rule::Refuse).await;
    let mut mailer = platform.mailer(&proxy.url());
    let ana = address("ana");
    platform.register(&ana).await;
    platform.request_reset(&ana, "").await;
    proxy.applied(1).await;
    mailer.kill();
    let _mailer = platform.mailer(&smtp::url());
    platform.topic.is_done(2).await;
    let mails = inbox(&ana).await;
    assert_eq!(mails.len(), 1);
    platform.reset_password(mails[0].token()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_claim_and_sending_it_sends_the_mail_after_a_restart() {
    let platform = platform!();
    let proxy = Proxy::start(Rule::HoldData).await;
    let mut mailer = platform.mailer(&proxy.url());
    let ana = address("ana");
    platform.register(&ana).await;
    platform.request_reset(&ana, "").await;
    proxy.applied(1).await;
    mailer.kill();
    assert!(inbox(&ana).await.is_empty());
    let _mailer = platform.mailer(&smtp::url());
    platform.topic.is_done(2).await;
    let mails = inbox(&ana).await;
    assert_eq!(mails.len(), 1);
    platform.reset_password(mails[0].token()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_sending_and_commit_it_sends_the_mail_once_more() {
    let platform = platform!();
    let proxy = Proxy::start(Rule::HoldAnswer).await;
    let mut mailer = platform.mailer(&proxy.url());
    let ana = address("ana");
    platform.register(&ana).await;
    platform.request_reset(&ana, "").await;
    proxy.applied(1).await;
    mailer.kill();
    assert_eq!(inbox(&ana).await.len(), 1);
    let _mailer = platform.mailer(&smtp::url());
    platform.topic.is_done(2).await;
    let mails = inbox(&ana).await;
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0].message_id, mails[1].message_id);
    assert_ne!(mails[0].token(), mails[1].token());
    platform.reset_password(mails[0].token()).await.unwrap();
    assert!(platform.reset_password(mails[1].token()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_whose_answer_is_missing_is_sent_twice_and_not_for_ever() {
    let platform = platform!();
    let proxy = Proxy::start(Rule::CloseBeforeAnswer).await;
    let mailer = platform.mailer(&proxy.url());
    let ana = address("ana");
    platform.register(&ana).await;
    platform.request_reset(&ana, "").await;
    platform.topic.is_done(2).await;
    assert!(mailer.log().contains("sent twice, without an answer"));
    let mails = inbox(&ana).await;
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0].message_id, mails[1].message_id);
    assert_eq!(mails[0].token(), mails[1].token());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_smtp_server_is_down_mails_wait() {
    let platform = platform!();
    let proxy = Proxy::start(Rule::Refuse).await;
    let _mailer = platform.mailer(&proxy.url());
    let ana = address("ana");
    platform.register(&ana).await;
    platform.request_reset(&ana, "").await;
    proxy.applied(3).await;
    assert!(inbox(&ana).await.is_empty());
    proxy.set(Rule::Pass);
    platform.topic.is_done(2).await;
    assert_eq!(inbox(&ana).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_smtp_server_is_down_nothing_is_claimed() {
    let platform = platform!();
    let proxy = Proxy::start(Rule::Refuse).await;
    let mailer = platform.mailer(&proxy.url());
    let ana = address("ana");
    platform.register(&ana).await;
    platform.request_reset(&ana, "").await;
    proxy.applied(3).await;
    mailer.logs("mail request ").await;
    let log = mailer.log();
    let (_, id) = log.split_once("mail request ").unwrap();
    let (id, _) = id.split_once(':').unwrap();
    // All three claims are left.
    for _ in 0..3 {
        platform.claim(id).await.unwrap();
    }
    proxy.set(Rule::Pass);
    mailer.logs("used, too old or not wanted").await;
    platform.topic.is_done(2).await;
    assert!(inbox(&ana).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_kafka_is_down_mails_wait() {
    let platform = platform!();
    let kafka = cut::Kafka::start().await;
    let brokers = kafka.addr.to_string();
    let _mailer = platform.mailer_with(&smtp::url(), &[("KAFKA_BROKERS", &brokers)]);
    let (ana, bob) = (address("ana"), address("bob"));
    platform.register(&ana).await;
    platform.request_reset(&ana, "").await;
    platform.topic.is_done(2).await;
    kafka.cut();
    platform.register(&bob).await;
    platform.request_reset(&bob, "").await;
    platform.topic.has(4).await;
    kafka.has_refused().await;
    assert!(inbox(&bob).await.is_empty());
    kafka.mend();
    platform.topic.is_done(4).await;
    for email in [ana, bob] {
        assert_eq!(inbox(&email).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_later_is_read() {
    let platform = platform!();
    let topic = unique("later");
    let mailer = platform.mailer_with(&smtp::url(), &[("KAFKA_TOPIC", &topic)]);
    mailer.logs("Kafka: ").await;
    kafka::make(&topic).await;
    kafka::publish(&topic, &[unknown_request()]).await;
    mailer.logs("used, too old or not wanted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_it_ends_on_sigterm() {
    let platform = platform!();
    let nobody = [("KAFKA_BROKERS", "127.0.0.1:1")];
    let mut mailer = platform.mailer_with(&smtp::url(), &nobody);
    mailer.logs("Kafka: ").await;
    assert!(mailer.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_can_be_reached_by_tls_and_sasl() {
    let platform = platform!();
    let variable = |name| std::env::var(name).unwrap();
    let variables = [
        ("KAFKA_BROKERS", &*variable("TEST_KAFKA_SASL_BROKERS")),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        ("KAFKA_SASL_USERNAME", "auth"),
        ("KAFKA_SASL_PASSWORD", "auth-test-secret"),
        ("KAFKA_SSL_CA_FILE", &*variable("TEST_KAFKA_CA_FILE")),
    ];
    let _mailer = platform.mailer_with(&smtp::url(), &variables);
    let ana = address("ana");
    platform.register(&ana).await;
    platform.request_reset(&ana, "").await;
    platform.topic.is_done(2).await;
    assert_eq!(inbox(&ana).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_service_is_down_mails_wait() {
    let mut platform = platform!();
    let ana = address("ana");
    platform.register(&ana).await;
    platform.request_reset(&ana, "").await;
    platform.topic.has(2).await;
    platform.kill_service();
    let mailer = platform.mailer(&smtp::url());
    mailer.logs("ClaimMail: Unavailable").await;
    platform.start_service().await;
    platform.topic.is_done(2).await;
    assert_eq!(inbox(&ana).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_events_send_nothing() {
    let platform = platform!();
    let ana = address("ana");
    platform.register(&ana).await;
    platform.request_reset(&ana, "").await;
    platform.topic.has(2).await;
    platform.topic.repeat_all().await;
    let mut mailer = platform.mailer(&smtp::url());
    platform.topic.is_done(4).await;
    assert_eq!(inbox(&ana).await.len(), 1);
    platform.topic.repeat_all().await;
    platform.topic.is_done(8).await;
    assert_eq!(inbox(&ana).await.len(), 1);
    assert!(mailer.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_events_and_unreadable_records_are_skipped() {
    let platform = platform!();
    let mailer = platform.mailer(&smtp::url());
    let ana = address("ana");
    platform.register(&ana).await;
    platform.topic.publish(&[b"\xff\xff\xff".to_vec()]).await;
    platform.topic.is_done(2).await;
    assert!(inbox(&ana).await.is_empty());
    assert!(mailer.log().contains("it is no UserEvent"));
}

/// An event whose request the service does not have.
fn unknown_request() -> Vec<u8> {
    let request = MailRequested {
        request_id: "01a20fda-7110-7d2d-905e-1beca7432624".to_owned(),
        purpose: MailPurpose::ResetPassword.into(),
        expires_at: None,
    };
    let event = UserEvent {
        event_id: unique("event"),
        payload: Some(Payload::MailRequested(request)),
        ..UserEvent::default()
    };
    event.encode_to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_request_is_dropped() {
    let platform = platform!();
    let mailer = platform.mailer(&smtp::url());
    platform.topic.publish(&[unknown_request()]).await;
    platform.topic.is_done(1).await;
    assert!(mailer.log().contains("used, too old or not wanted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_not_wanted_any_more_is_dropped() {
    let platform = platform!();
    let ana = address("ana");
    platform.register(&ana).await;
    platform.request_reset(&ana, "").await;
    let mut mailer = platform.mailer(&smtp::url());
    platform.topic.is_done(2).await;
    assert!(mailer.terminate().await.success());
    let proxy = Proxy::start(Rule::Refuse).await;
    let mailer = platform.mailer(&proxy.url());
    platform.request_reset(&ana, "").await;
    proxy.applied(1).await;
    // A new password makes the other request of the user void.
    let mail = first(&ana).await;
    platform.reset_password(mail.token()).await.unwrap();
    proxy.set(Rule::Pass);
    mailer.logs("used, too old or not wanted").await;
    assert_eq!(inbox(&ana).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_recipient_is_dropped_and_logged_without_the_address() {
    let platform = platform!();
    let ana = address("ana");
    let refusal = "550 5.1.1 <ana@example.com>: no such user\r\n";
    let proxy = Proxy::start(Rule::Recipient(ana.clone(), refusal)).await;
    let mailer = platform.mailer(&proxy.url());
    platform.register(&ana).await;
    platform.request_reset(&ana, "").await;
    platform.topic.is_done(2).await;
    assert!(mailer.log().contains("NOT SENT: it answered 550"));
    assert!(inbox(&ana).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_that_is_put_off_delays_nobody_else() {
    let platform = platform!();
    let ana = address("ana");
    let later = "450 4.2.1 greylisted\r\n";
    let proxy = Proxy::start(Rule::Recipient(ana.clone(), later)).await;
    let mut mailer = platform.mailer(&proxy.url());
    platform.register(&ana).await;
    platform.request_reset(&ana, "").await;
    proxy.applied(1).await;
    // More users than partitions: some are behind the waiting mail.
    let others: Vec<_> = (0..8).map(|_| address("other")).collect();
    for other in &others {
        platform.register(other).await;
        platform.request_reset(other, "").await;
        first(other).await;
    }
    platform.topic.has_gap().await;
    mailer.logs("answered 450").await;
    let log = mailer.log();
    let (_, line) = log.split_once("mail request ").unwrap();
    let id = line.split(':').next().unwrap();
    assert!(mailer.terminate().await.success());
    // Restarts neither send the others' mails again nor claim the waiting one again at once.
    for _ in 0..3 {
        let mut mailer = platform.mailer(&smtp::url());
        mailer.logs("it was claimed before").await;
        assert!(mailer.terminate().await.success());
    }
    for other in &others {
        assert_eq!(inbox(other).await.len(), 1, "{other}");
    }
    for _ in 0..2 {
        platform
            .claim(id)
            .await
            .expect("one of three claims was used");
    }
    assert!(platform.claim(id).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_behind_the_end_of_the_log_loses_no_mail() {
    let platform = platform!();
    platform.topic.commit(1_000);
    let mailer = platform.mailer(&smtp::url());
    let ana = address("ana");
    platform.register(&ana).await;
    platform.request_reset(&ana, "").await;
    platform.topic.is_done(2).await;
    assert_eq!(inbox(&ana).await.len(), 1);
    assert!(mailer.log().contains("Kafka has lost records"));
}

#[tokio::test(flavor = "multi_thread")]
async fn https_without_an_authority_is_refused_at_the_start() {
    let platform = platform!();
    let https = [("AUTH_URL", "https://127.0.0.1:1")];
    let mut mailer = platform.mailer_with(&smtp::url(), &https);
    assert!(!mailer.ends().await.success());
    assert!(mailer.log().contains("AUTH_CA_FILE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_mailers_share_the_work_and_one_may_go() {
    let platform = platform!();
    let mut mailers = [(); 3].map(|()| platform.mailer(&smtp::url()));
    let users: Vec<_> = (0..12).map(|_| address("user")).collect();
    for (n, user) in users.iter().enumerate() {
        platform.register(user).await;
        platform.request_reset(user, "").await;
        if n == 6 {
            assert!(mailers[0].terminate().await.success());
        }
    }
    platform.topic.is_done(24).await;
    for user in &users {
        assert_eq!(inbox(user).await.len(), 1);
    }
}
