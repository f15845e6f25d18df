//! Claims mails from the service.

use std::{
    error::Error,
    fmt,
    time::{Duration, SystemTime},
};

use tonic::{
    Code, ConnectError, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt as _;

use crate::{
    proto::{ClaimMailRequest, ClaimMailResponse, mail_service_client::MailServiceClient},
    render::Purpose,
    settings,
};

const DEADLINE: Duration = Duration::from_secs(8);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A link that ends sooner is of no use to its reader.
const SHORTEST_LIFE: Duration = Duration::from_mins(5);

/// A claimed mail. It has no `Debug`, so that neither address nor token gets into a log.
pub struct Mail {
    pub request_id: String,
    pub purpose: Purpose,
    pub email: String,
    pub token: String,
    /// When the token expires.
    pub expires_at: SystemTime,
    pub locale: String,
}

impl Mail {
    /// How long its link still works.
    #[must_use]
    pub fn life(&self) -> Duration {
        let life = self.expires_at.duration_since(SystemTime::now());
        life.unwrap_or_default()
    }

    /// Whether it has to be claimed again, because it could not be sent in time.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.life() < SHORTEST_LIFE
    }
}

/// A call that failed, and may work later.
#[derive(Debug)]
pub struct Failed(pub(crate) Status);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClaimMail: {:?} {}", self.0.code(), reason(&self.0))?;
        if self.may_have_counted() {
            f.write_str(" (it may have counted as one of three claims)")?;
        }
        Ok(())
    }
}

impl Failed {
    /// Whether the service may have made a token, so that one claim less is left. Not if it said
    /// why it made none, or if there was no connection to it.
    #[must_use]
    pub fn may_have_counted(&self) -> bool {
        let is_late = self.0.code() == Code::DeadlineExceeded;
        is_late || (reason(&self.0).is_empty() && !is_unconnected(&self.0))
    }
}

fn is_unconnected(status: &Status) -> bool {
    let mut causes = std::iter::successors(status.source(), |it| Error::source(*it));
    causes.any(<dyn Error>::is::<ConnectError>)
}

pub struct Claims {
    client: MailServiceClient<Channel>,
    authorization: MetadataValue<Ascii>,
}

impl Claims {
    /// Connects at the first call, and again when the connection ends.
    pub fn new(settings: &settings::Auth) -> anyhow::Result<Self> {
        let mut endpoint = Endpoint::from_shared(settings.url.clone())?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_while_idle(true);
        if let Some(pem) = &settings.authority {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            endpoint = endpoint.tls_config(tls)?;
        }
        let mut authorization: MetadataValue<_> = format!("Bearer {}", settings.token).parse()?;
        authorization.set_sensitive(true);
        Ok(Self {
            client: MailServiceClient::new(endpoint.connect_lazy()),
            authorization,
        })
    }

    /// `None` if the mail is no longer wanted. Each claim makes a new token, at most three for a
    /// request: do not claim what cannot be sent.
    pub async fn claim(&self, request_id: &str) -> Result<Option<Mail>, Failed> {
        let mut request = Request::new(ClaimMailRequest {
            request_id: request_id.to_owned(),
        });
        request.set_timeout(DEADLINE);
        let authorization = self.authorization.clone();
        request
            .metadata_mut()
            .insert("authorization", authorization);
        let answer = tokio::time::timeout(DEADLINE, self.client.clone().claim_mail(request)).await;
        match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
            Ok(answer) => {
                let mail = mail(request_id, answer.into_inner());
                let unknown = || Failed(Status::internal("it has an unknown purpose or no time"));
                mail.ok_or_else(unknown).map(Some)
            }
            Err(status) if is_final(&status) => Ok(None),
            Err(status) => Err(Failed(status)),
        }
    }
}

fn mail(request_id: &str, answer: ClaimMailResponse) -> Option<Mail> {
    Some(Mail {
        request_id: request_id.to_owned(),
        purpose: Purpose::parse(answer.purpose)?,
        email: answer.email,
        token: answer.token,
        expires_at: answer.expires_at?.try_into().ok()?,
        locale: answer.locale,
    })
}

/// No later call can succeed. `INVALID_ARGUMENT` means that the id cannot be one of the service.
fn is_final(status: &Status) -> bool {
    ["MAIL_REQUEST_NOT_FOUND", "INVALID_ARGUMENT"].contains(&reason(status).as_str())
}

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map(|info| info.reason).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    async fn claim_at(port: u16) -> Failed {
        let claims = Claims::new(&settings::Auth {
            url: format!("http://127.0.0.1:{port}"),
            token: "token".to_owned(),
            authority: None,
        });
        let claimed = claims.unwrap().claim("id").await;
        claimed.err().expect("no service is there")
    }

    #[tokio::test]
    async fn a_claim_may_have_counted_if_the_service_was_reached_and_did_not_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accept = async {
            // It breaks the connection after the request has come.
            let (stream, _) = listener.accept().await.unwrap();
            stream.readable().await.unwrap();
            drop(listener);
        };
        let (failed, ()) = tokio::join!(claim_at(port), accept);
        assert!(failed.may_have_counted(), "{failed}");
        let failed = claim_at(port).await;
        assert!(!failed.may_have_counted(), "{failed}");
    }

    #[test]
    fn a_claim_that_was_late_may_have_counted_and_one_that_was_refused_has_not() {
        let answer = |code, reason: &str| {
            let mut details = tonic_types::ErrorDetails::new();
            details.set_error_info(reason, "auth.realchat", HashMap::new());
            Failed(Status::with_error_details(code, "", details))
        };
        assert!(answer(Code::DeadlineExceeded, "DEADLINE_EXCEEDED").may_have_counted());
        assert!(Failed(Status::deadline_exceeded("")).may_have_counted());
        assert!(!answer(Code::PermissionDenied, "PERMISSION_DENIED").may_have_counted());
        assert!(!answer(Code::Internal, "INTERNAL").may_have_counted());
    }

    #[test]
    fn an_answer_with_an_unknown_purpose_is_no_mail() {
        let answer = |purpose| ClaimMailResponse {
            purpose,
            expires_at: Some(prost_types::Timestamp::default()),
            ..ClaimMailResponse::default()
        };
        assert!(mail("id", answer(2)).is_some());
        assert!(mail("id", answer(99)).is_none());
    }

    #[test]
    fn a_mail_whose_link_is_nearly_over_is_claimed_again() {
        let with_life = |minutes| Mail {
            request_id: "id".to_owned(),
            purpose: Purpose::ResetPassword,
            email: "ana@example.com".to_owned(),
            token: "rcm_a-token".to_owned(),
            expires_at: SystemTime::now() + Duration::from_mins(minutes),
            locale: String::new(),
        };
        assert!(!with_life(7).is_stale());
        assert!(with_life(4).is_stale());
        let ended = Mail {
            expires_at: SystemTime::UNIX_EPOCH,
            ..with_life(0)
        };
        assert!(ended.is_stale());
        assert_eq!(ended.life(), Duration::ZERO);
    }
}
