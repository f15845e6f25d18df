//! Calls with the tokens of mails.

use std::net::SocketAddr;

use auth_service::proto::{
    self, auth_service_client::AuthServiceClient, mail_service_client::MailServiceClient,
    recovery_service_client::RecoveryServiceClient, user_event::Payload,
};
use tonic::{Code, transport::Channel};

use super::traffic::{Traffic, expect, random_text, registration};
use crate::harness::{self, INTERNAL_TOKEN, TestDatabase, connect, with_bearer};

struct Mails<'a> {
    traffic: &'a mut Traffic,
    channel: Channel,
    database: &'a TestDatabase,
}

/// A reset of a forgotten password, a change of the address, and its undoing.
pub async fn recover(traffic: &mut Traffic, addr: SocketAddr, database: &TestDatabase) {
    let channel = connect(addr).await;
    let mut mails = Mails {
        traffic,
        channel,
        database,
    };
    let (email, new_email) = (mails.traffic.email(), mails.traffic.email());
    let tokens = mails.reset_password(&email).await;
    mails.change_email(&tokens, &new_email).await;
    mails.mistype().await;
}

impl Mails<'_> {
    fn recovery(&self) -> RecoveryServiceClient<Channel> {
        RecoveryServiceClient::new(self.channel.clone())
    }

    /// Claims the last mail that was asked for: ids are ordered by time.
    async fn claim(&mut self) -> String {
        let events = self.database.events().await;
        let mails = events.into_iter().filter_map(|event| match event.payload {
            Some(Payload::MailRequested(mail)) => Some(mail.request_id),
            _ => None,
        });
        let request = proto::ClaimMailRequest {
            request_id: mails.max().expect("a mail"),
        };
        let request = with_bearer(request, INTERNAL_TOKEN);
        let mut mailer = MailServiceClient::new(self.channel.clone());
        let answer = mailer.claim_mail(request).await;
        let token = answer.expect("it is open").into_inner().token;
        self.traffic.mail_tokens.push(token.clone());
        token
    }

    /// Returns the access token and the password of the session that the reset starts.
    async fn reset_password(&mut self, email: &str) -> (String, String) {
        let password = self.traffic.password();
        let mut auth = AuthServiceClient::new(self.channel.clone());
        let registered = auth.register(registration(email, &password)).await;
        self.traffic
            .token(registered.expect("registers").into_inner().tokens);
        let request = proto::RequestPasswordResetRequest {
            email: email.to_owned(),
            ..Default::default()
        };
        self.recovery()
            .request_password_reset(request)
            .await
            .expect("it is the first");
        let (unused, token) = (self.claim().await, self.claim().await);
        let reset = |token: &str, password: &str| proto::ResetPasswordRequest {
            reset_token: token.to_owned(),
            new_password: password.to_owned(),
            start_session: true,
            ..Default::default()
        };
        let too_long = self.traffic.password().repeat(2);
        let refused = self
            .recovery()
            .reset_password(reset(&token, &too_long))
            .await;
        expect(refused, Code::InvalidArgument);
        let new = self.traffic.password();
        let answer = self.recovery().reset_password(reset(&token, &new)).await;
        let tokens = answer.expect("the token is good").into_inner().tokens;
        let access_token = tokens.as_ref().expect("tokens").access_token.clone();
        self.traffic.token(tokens);
        let again = self.traffic.password();
        let refused = self.recovery().reset_password(reset(&unused, &again)).await;
        expect(refused, Code::Unauthenticated);
        (access_token, new)
    }

    async fn change_email(&mut self, (access_token, password): &(String, String), email: &str) {
        let mut account = harness::account(self.channel.clone(), access_token);
        let change = |password: &str| proto::ChangeEmailRequest {
            current_password: password.to_owned(),
            new_email: email.to_owned(),
            ..Default::default()
        };
        let wrong = self.traffic.password();
        expect(
            account.change_email(change(&wrong)).await,
            Code::Unauthenticated,
        );
        account
            .change_email(change(password))
            .await
            .expect("it is right");
        let token = self.claim().await;
        let confirm = proto::ConfirmEmailRequest { token };
        self.recovery()
            .confirm_email(confirm.clone())
            .await
            .expect("it is good");
        expect(
            self.recovery().confirm_email(confirm).await,
            Code::Unauthenticated,
        );
        let token = self.claim().await;
        let revert = proto::RevertEmailRequest { token };
        self.recovery()
            .revert_email(revert.clone())
            .await
            .expect("it is good");
        expect(
            self.recovery().revert_email(revert).await,
            Code::Unauthenticated,
        );
    }

    /// Tokens that are changed, cut, or in the wrong field.
    async fn mistype(&mut self) {
        let token = (self.traffic.mail_tokens.last()).expect("claimed").clone();
        let password = self.traffic.password();
        for token in [
            format!("{token}A"),
            token[..40].to_owned(),
            password,
            random_text(),
        ] {
            let confirm = proto::ConfirmEmailRequest {
                token: token.clone(),
            };
            expect(
                self.recovery().confirm_email(confirm).await,
                Code::Unauthenticated,
            );
            let revert = proto::RevertEmailRequest { token };
            expect(
                self.recovery().revert_email(revert).await,
                Code::Unauthenticated,
            );
        }
        let request = proto::RequestPasswordResetRequest {
            email: token.clone(),
            locale: String::new(),
        };
        self.recovery()
            .request_password_reset(request)
            .await
            .expect("like any address");
        let claim = proto::ClaimMailRequest {
            request_id: token.clone(),
        };
        let claim = with_bearer(claim, INTERNAL_TOKEN);
        let claimed = MailServiceClient::new(self.channel.clone())
            .claim_mail(claim)
            .await;
        expect(claimed, Code::InvalidArgument);
        let mut account = harness::account(self.channel.clone(), &token);
        let deleted = account
            .delete_account(harness::delete_account(&token))
            .await;
        expect(deleted, Code::Unauthenticated);
    }
}
