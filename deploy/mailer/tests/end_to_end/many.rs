//! More mails than the mailer has in work at a time.

use realchat_mailer_example::proto::{
    auth_service_client::AuthServiceClient, recovery_service_client::RecoveryServiceClient,
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{
    platform::{self, Platform},
    smtp::{Proxy, Rule, first},
    unknown_request,
    wait::address,
};

/// Registers a user, and asks for as many mails as the service allows.
async fn request_three(
    auth: AuthServiceClient<Channel>,
    recovery: RecoveryServiceClient<Channel>,
    email: String,
) {
    platform::register(auth, email.clone()).await;
    for _ in 0..3 {
        platform::request_reset(recovery.clone(), email.clone(), String::new()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_recipients_that_are_put_off_delay_nobody_else() {
    let platform = platform!();
    let proxy = Proxy::start(Rule::Recipient("late-".to_owned(), "450 later\r\n")).await;
    let mailer = platform.mailer(&proxy.url());
    let users: Vec<_> = (0..170).map(|_| address("late")).collect();
    for some in users.chunks(17) {
        let mut calls = JoinSet::new();
        for late in some {
            calls.spawn(request_three(
                platform.auth().await,
                platform.recovery().await,
                late.clone(),
            ));
        }
        calls.join_all().await;
    }
    mailer.logs("NOT SENT: its recipient was put off").await;
    let ana = address("ana");
    platform.register(&ana).await;
    platform.request_reset(&ana, "").await;
    first(&ana).await;
    assert!(!mailer.log().contains("reading is paused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_it_has_too_many_mails_in_work_it_says_so() {
    let platform = platform!();
    let proxy = Proxy::start(Rule::Refuse).await;
    let mailer = platform.mailer(&proxy.url());
    let requests: Vec<_> = (0..500).map(|_| unknown_request()).collect();
    platform.topic.publish(&requests).await;
    mailer.logs("reading is paused").await;
    proxy.set(Rule::Pass);
    platform.topic.is_done(500).await;
    assert!(mailer.log().contains("reading goes on"));
}
