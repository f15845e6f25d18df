//! Claims mails from the service.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use tonic::{
    Request, Status,
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
pub struct Failed(Status);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClaimMail: {:?} {}", self.0.code(), reason(&self.0))
    }
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
            Ok(answer) => Ok(mail(request_id, answer.into_inner())),
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
    use super::*;

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
