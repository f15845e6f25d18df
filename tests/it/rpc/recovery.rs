//! `RecoveryService` and `MailService`: a forgotten password is replaced by mail.

mod change;
mod claims;
mod limits;
mod races;
mod reset;
mod started;
mod verification;
mod void;

use auth_service::proto::{
    self, mail_service_client::MailServiceClient, recovery_service_client::RecoveryServiceClient,
    user_event::Payload,
};
use tonic::{Request, Response, Status, transport::Channel};

use crate::harness::{
    Backend, IMPORTER, INTERNAL_TOKEN, OnBackend, Service, TestDatabase, login, with_bearer,
};

pub(super) const NEW_PASSWORD: &str = "quiet meadow brass lantern";
pub(super) const MAILER: &str = "a-token-of-the-mailer-of-40-characters-1";
pub(super) const SUPPORT: &str = "a-token-of-support-with-40-characters-12";

/// A service that knows a mailer, support staff, and an importer.
pub(super) struct Mailing(pub(super) Service);

impl OnBackend for Mailing {
    async fn on(backend: Backend) -> Option<Self> {
        Some(mailing(TestDatabase::create(backend).await?, &[]).await)
    }
}

pub(super) async fn mailing(database: TestDatabase, options: &[&str]) -> Mailing {
    let tokens =
        format!("gateway:{INTERNAL_TOKEN},mailer:{MAILER},support:{SUPPORT},importer:{IMPORTER}");
    let mailer = [
        "--internal-tokens",
        &tokens,
        "--internal-scopes",
        "mailer=mail,support=admin,importer=import",
    ];
    Mailing(Service::start(database, &[&mailer, options].concat()).await)
}

impl Mailing {
    pub(super) fn recovery(&self) -> RecoveryServiceClient<Channel> {
        RecoveryServiceClient::new(self.0.channel())
    }

    pub(super) async fn request_reset(&self, email: &str) -> Result<(), Status> {
        self.recovery()
            .request_password_reset(asked(email))
            .await
            .map(drop)
    }

    /// The requests of all mails that were asked for, in their order.
    pub(super) async fn requested(&self) -> Vec<proto::MailRequested> {
        let events = self.0.database.events().await.into_iter();
        let mails = events.filter_map(|event| match event.payload {
            Some(Payload::MailRequested(mail)) => Some(mail),
            _ => None,
        });
        mails.collect()
    }

    /// Claims a mail as the mailer.
    pub(super) async fn claim(&self, request_id: &str) -> Result<proto::ClaimMailResponse, Status> {
        let request = proto::ClaimMailRequest {
            request_id: request_id.to_owned(),
        };
        let request = with_bearer(request, MAILER);
        let answer = MailServiceClient::new(self.0.channel())
            .claim_mail(request)
            .await;
        answer.map(Response::into_inner)
    }

    /// Asks for a reset of the password, and claims the mail.
    pub(super) async fn reset_token(&self, email: &str) -> String {
        self.request_reset(email).await.expect("within the limits");
        let last = self.requested().await.pop().expect("a mail");
        self.claim(&last.request_id).await.expect("it is new").token
    }

    pub(super) async fn reset(
        &self,
        token: &str,
        new_password: &str,
    ) -> Result<proto::ResetPasswordResponse, Status> {
        let answer = self
            .recovery()
            .reset_password(reset(token, new_password))
            .await;
        answer.map(Response::into_inner)
    }

    pub(super) async fn log_in(
        &self,
        email: &str,
        password: &str,
    ) -> Result<proto::LoginResponse, Status> {
        let request = proto::LoginRequest {
            password: password.to_owned(),
            ..login(email)
        };
        self.0
            .client()
            .login(request)
            .await
            .map(Response::into_inner)
    }
}

fn asked(email: &str) -> proto::RequestPasswordResetRequest {
    proto::RequestPasswordResetRequest {
        email: email.to_owned(),
        locale: String::new(),
    }
}

fn reset(token: &str, new_password: &str) -> proto::ResetPasswordRequest {
    proto::ResetPasswordRequest {
        reset_token: token.to_owned(),
        new_password: new_password.to_owned(),
        ..Default::default()
    }
}

/// From a client at this address, by the gateway.
fn from<T>(address: &str, message: T) -> Request<T> {
    let mut request = with_bearer(message, INTERNAL_TOKEN);
    let address = address.parse().expect("a header");
    request.metadata_mut().insert("x-client-address", address);
    request
}
