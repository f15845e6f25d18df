//! Takes one request from its claim to the SMTP server.
//!
//! A request can be claimed three times, so the server is asked first whether it is there: an
//! outage costs no claims, and a mail that waited through one gets a token with its full life.
//! A mail that the server puts off (4xx) is tried with the same token until that is nearly over,
//! and then claimed again. After the third token the service ends it: a recipient whose server
//! is never ready is given up after an hour and a half.

use std::fmt;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    claim::{self, Claims, Mail},
    render::Renderer,
    send::{self, Sent, Smtp},
    settings::Settings,
};

/// Attempts at one time, each with a connection to the SMTP server.
const ATTEMPTS: u32 = 8;

pub struct Delivery {
    claims: Claims,
    renderer: Renderer,
    smtp: Smtp,
    attempts: Semaphore,
}

/// The end of a request.
enum End {
    Sent,
    NotWanted,
    Refused(String),
}

/// A fault that may end.
enum Fault {
    Claim(claim::Failed),
    Smtp(send::Failed),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(failed) => failed.fmt(f),
            Self::Smtp(failed) => failed.fmt(f),
        }
    }
}

impl Delivery {
    /// Connects to nothing yet.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self {
            claims: Claims::new(&settings.auth)?,
            renderer: Renderer::new(&settings.words),
            smtp: Smtp::new(&settings.smtp, ATTEMPTS)?,
            attempts: Semaphore::new(ATTEMPTS as usize),
        })
    }

    /// Returns true when nothing is left to do for the request, and false if `stop` came first.
    /// An attempt that has begun is not interrupted.
    pub async fn deliver(&self, request_id: &str, stop: &CancellationToken) -> bool {
        let mut mail = None;
        let mut backoff = Backoff::default();
        while !stop.is_cancelled() {
            match self.attempt(request_id, &mut mail, stop).await {
                Ok(Some(end)) => {
                    log(request_id, &end);
                    return true;
                }
                Ok(None) => return false,
                Err(fault) => pause(request_id, &fault, &mut backoff, stop).await,
            }
        }
        false
    }

    /// `None` if it was stopped before it began.
    async fn attempt(
        &self,
        request_id: &str,
        mail: &mut Option<Mail>,
        stop: &CancellationToken,
    ) -> Result<Option<End>, Fault> {
        let permit = stop.run_until_cancelled(self.attempts.acquire()).await;
        let Some(Ok(_permit)) = permit else {
            return Ok(None);
        };
        self.smtp.check().await.map_err(Fault::Smtp)?;
        if mail.as_ref().is_none_or(Mail::is_stale) {
            *mail = self.claims.claim(request_id).await.map_err(Fault::Claim)?;
        }
        let Some(mail) = mail else {
            return Ok(Some(End::NotWanted));
        };
        let sent = self.smtp.send(mail, self.renderer.render(mail)).await;
        Ok(Some(match sent.map_err(Fault::Smtp)? {
            Sent::Taken => End::Sent,
            Sent::Refused(why) => End::Refused(why),
        }))
    }
}

fn log(request_id: &str, end: &End) {
    match end {
        End::Sent => eprintln!("mail request {request_id}: sent"),
        End::NotWanted => eprintln!("mail request {request_id}: used, too old or not wanted"),
        End::Refused(why) => eprintln!("mail request {request_id}: NOT SENT: {why}"),
    }
}

async fn pause(request_id: &str, fault: &Fault, backoff: &mut Backoff, stop: &CancellationToken) {
    let pause = backoff.pause();
    if backoff.is_news() {
        eprintln!("mail request {request_id}: {fault}; it is tried again");
    }
    stop.run_until_cancelled(tokio::time::sleep(pause)).await;
}
