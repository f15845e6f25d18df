//! The lines of the calls that mails belong to.

use auth_service::proto::{
    self, account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
    mail_service_client::MailServiceClient, recovery_service_client::RecoveryServiceClient,
    user_event::Payload,
};

use super::{NEW_PASSWORD, fields};
use crate::harness::{
    GATEWAY, INTERNAL_TOKEN, PASSWORD, Process, TestDatabase, both, connect, login, refused,
    register, with_bearer,
};

/// The requests of all mails, in their order.
async fn requested(database: &TestDatabase) -> Vec<String> {
    let events = database.events().await.into_iter();
    let mut mails: Vec<_> = events
        .filter_map(|event| match event.payload {
            Some(Payload::MailRequested(mail)) => Some(mail.request_id),
            _ => None,
        })
        .collect();
    mails.sort();
    mails
}

both! {
    async fn each_act_with_a_mail_is_one_line(database: TestDatabase) {
        let process = Process::serve(&database, &[
            ("EMAIL_VERIFICATION", "required"),
            ("INTERNAL_SCOPES", "gateway=keys+mail"),
            GATEWAY[0],
        ]);
        let channel = connect(process.grpc_addr().await).await;
        let mut client = AuthServiceClient::new(channel.clone());
        let mut recovery = RecoveryServiceClient::new(channel.clone());
        let mut mailer = MailServiceClient::new(channel.clone());
        let mut tokens = Vec::new();

        let user = client.register(register("ana@example.com")).await.unwrap().into_inner().user_id;
        refused(client.login(login("ana@example.com")).await);
        let mut claim = async |bearer: &str| {
            let request_id = requested(&database).await.pop().unwrap();
            let request = with_bearer(proto::ClaimMailRequest { request_id }, bearer);
            let token = mailer.claim_mail(request).await.map(|mail| mail.into_inner().token);
            tokens.extend(token.iter().cloned());
            token
        };
        refused(claim("a wrong token").await);
        let token = claim(INTERNAL_TOKEN).await.unwrap();
        let confirm = |token: &str| proto::ConfirmEmailRequest { token: token.to_owned() };
        recovery.confirm_email(confirm(&token)).await.unwrap();
        refused(recovery.confirm_email(confirm(&token)).await);

        for email in ["ana@example.com", "nobody@example.com"] {
            let forgot = proto::RequestPasswordResetRequest { email: email.to_owned(), locale: String::new() };
            recovery.request_password_reset(forgot).await.unwrap();
        }
        let token = claim(INTERNAL_TOKEN).await.unwrap();
        let reset = |password: &str| proto::ResetPasswordRequest {
            reset_token: token.clone(),
            new_password: password.to_owned(),
            start_session: true,
            ..Default::default()
        };
        refused(recovery.reset_password(reset("password")).await);
        let session = recovery.reset_password(reset(NEW_PASSWORD)).await.unwrap().into_inner();
        refused(recovery.reset_password(reset(NEW_PASSWORD)).await);

        let access_token = session.tokens.unwrap().access_token;
        let mut account = AccountServiceClient::new(channel);
        let verify = || with_bearer(proto::RequestEmailVerificationRequest::default(), &access_token);
        account.request_email_verification(verify()).await.unwrap();
        let change = |password: &str| with_bearer(proto::ChangeEmailRequest {
            current_password: password.to_owned(),
            new_email: "ana@example.org".to_owned(),
            locale: String::new(),
        }, &access_token);
        refused(account.change_email(change(PASSWORD)).await);
        account.change_email(change(NEW_PASSWORD)).await.unwrap();
        let token = claim(INTERNAL_TOKEN).await.unwrap();
        let other_user = client.register(register("ana@example.org")).await.unwrap().into_inner().user_id;
        refused(recovery.confirm_email(confirm(&token)).await);
        database.execute("DELETE FROM users WHERE email = 'ana@example.org'").await;
        recovery.confirm_email(confirm(&token)).await.unwrap();
        let token = claim(INTERNAL_TOKEN).await.unwrap();
        let revert = || proto::RevertEmailRequest { token: token.clone() };
        recovery.revert_email(revert()).await.unwrap();
        refused(recovery.revert_email(revert()).await);

        process.signal("TERM");
        process.wait_for("\"stopped\"").await;
        let log = process.log();
        let mails = requested(&database).await;
        let [first, reset, change, other, revert, second_reset] = &mails[..] else { panic!("{mails:?}") };
        let session = &session.session_id;
        let names = ["event", "outcome", "reason", "user_id", "session_id", "caller", "mail_request_id"];
        let expected = [
            ["register", "ok", "", &user, "", "", first],
            ["login", "failed", "email_not_verified", &user, "", "", ""],
            ["claim_mail", "failed", "unknown_caller", "", "", "", ""],
            ["claim_mail", "ok", "", &user, "", "gateway", first],
            ["confirm_email", "ok", "", &user, "", "", first],
            ["confirm_email", "failed", "invalid_token", "", "", "", ""],
            ["request_password_reset", "ok", "", &user, "", "", reset],
            ["request_password_reset", "failed", "unknown_user", "", "", "", ""],
            ["claim_mail", "ok", "", &user, "", "gateway", reset],
            ["reset_password", "failed", "invalid_argument", "", "", "", ""],
            ["reset_password", "ok", "", &user, session, "", reset],
            ["reset_password", "failed", "invalid_token", "", "", "", ""],
            ["change_email", "failed", "wrong_password", &user, session, "", ""],
            ["change_email", "ok", "", &user, session, "", change],
            ["claim_mail", "ok", "", &user, "", "gateway", change],
            ["register", "ok", "", &other_user, "", "", other],
            ["confirm_email", "failed", "email_taken", &user, "", "", change],
            ["confirm_email", "ok", "", &user, "", "", revert],
            ["claim_mail", "ok", "", &user, "", "gateway", revert],
            ["revert_email", "ok", "", &user, "", "", second_reset],
            ["revert_email", "failed", "invalid_token", "", "", "", ""],
        ];
        let lines = fields(&log, names);
        assert_eq!(lines, expected.map(|line| line.map(str::to_owned)));
        let log = log.join("\n");
        let secrets = ["@example.", "rcm_", INTERNAL_TOKEN, PASSWORD, NEW_PASSWORD];
        for secret in secrets.into_iter().chain(tokens.iter().map(String::as_str)) {
            assert!(!log.contains(secret), "{secret}");
        }
    }
    async fn a_claim_that_is_refused_names_its_mail(database: TestDatabase) {
        let process = Process::serve(&database, &[
            ("EMAIL_VERIFICATION", "optional"),
            ("INTERNAL_SCOPES", "gateway=mail"),
            GATEWAY[0],
        ]);
        let channel = connect(process.grpc_addr().await).await;
        let mut client = AuthServiceClient::new(channel.clone());
        client.register(register("ana@example.com")).await.unwrap();
        let request_id = requested(&database).await.pop().unwrap();
        let mut mailer = MailServiceClient::new(channel);
        let claim = || with_bearer(proto::ClaimMailRequest { request_id: request_id.clone() }, INTERNAL_TOKEN);
        for _ in 0..3 {
            mailer.claim_mail(claim()).await.unwrap();
        }
        refused(mailer.claim_mail(claim()).await);
        process.signal("TERM");
        process.wait_for("\"stopped\"").await;
        let lines = fields(&process.log(), ["event", "reason", "mail_request_id"]);
        let claims = lines.into_iter().skip(1).map(|[event, reason, mail]| {
            assert_eq!([&*event, &*mail], ["claim_mail", &*request_id]);
            reason
        });
        assert_eq!(claims.collect::<Vec<_>>(), ["", "", "", "unknown_mail_request"]);
    }
}
