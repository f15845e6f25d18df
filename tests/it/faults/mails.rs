//! A replica that is killed (kill -9) between the steps of a mail loses none of them.

use auth_service::proto::{
    self, mail_service_client::MailServiceClient, recovery_service_client::RecoveryServiceClient,
    user_event::Payload,
};
use tonic::transport::Channel;

use crate::harness::{
    GATEWAY, INTERNAL_TOKEN, Process, TestDatabase, assert_invalid_token, both, connect, login,
    refused, register, with_bearer,
};

const SIGKILL: i32 = 9;
const NEW_PASSWORD: &str = "quiet meadow brass lantern";

struct Replica(Process);

impl Replica {
    fn start(database: &TestDatabase) -> Self {
        let scopes = ("INTERNAL_SCOPES", "gateway=keys+mail");
        Self(Process::serve(database, &[GATEWAY[0], scopes]))
    }

    async fn channel(&self) -> Channel {
        connect(self.0.grpc_addr().await).await
    }

    async fn recovery(&self) -> RecoveryServiceClient<Channel> {
        RecoveryServiceClient::new(self.channel().await)
    }

    async fn kill(mut self) {
        self.0.signal("KILL");
        assert_eq!(self.0.killed_by().await, Some(SIGKILL));
    }
}

both! {
    async fn a_mail_survives_a_replica_that_is_killed_between_its_steps(database: TestDatabase) {
        let replica = Replica::start(&database);
        replica.0.client().await.register(register("ana@example.com")).await.unwrap();
        let request = proto::RequestPasswordResetRequest {
            email: "ana@example.com".to_owned(),
            locale: String::new(),
        };
        replica.recovery().await.request_password_reset(request).await.unwrap();
        replica.kill().await;

        let events = database.events().await;
        let Some(Payload::MailRequested(mail)) = &events[1].payload else { panic!("no mail") };
        let claim = proto::ClaimMailRequest { request_id: mail.request_id.clone() };
        let replica = Replica::start(&database);
        let mut mailer = MailServiceClient::new(replica.channel().await);
        let claim = mailer.claim_mail(with_bearer(claim, INTERNAL_TOKEN)).await;
        let token = claim.unwrap().into_inner().token;
        replica.kill().await;

        let reset = proto::ResetPasswordRequest {
            reset_token: token,
            new_password: NEW_PASSWORD.to_owned(),
            ..Default::default()
        };
        let replica = Replica::start(&database);
        replica.recovery().await.reset_password(reset.clone()).await.unwrap();
        replica.kill().await;

        let replica = Replica::start(&database);
        assert_invalid_token(&refused(replica.recovery().await.reset_password(reset).await));
        let login = proto::LoginRequest { password: NEW_PASSWORD.to_owned(), ..login("ana@example.com") };
        replica.0.client().await.login(login).await.unwrap();
    }
}
