//! Takes one request from its claim to the SMTP server.
//!
//! A request can be claimed three times, so a connection to the SMTP server is there first: an
//! outage costs no claims, and a mail that waited through one gets a token with its full life.
//! A mail that was not taken is tried with the same token until that is nearly over, and then
//! claimed again. The service ends it after the third token: a recipient whose server is never
//! ready is given up after an hour and a half (reset), two days (verification) or two weeks
//! (revert), or sooner if many others wait.

mod outcome;

pub use self::outcome::Left;

use tokio::{sync::Semaphore, time::sleep};
use tokio_util::sync::CancellationToken;

use self::outcome::{End, Fault};
use crate::{
    backoff::{self, Backoff},
    claim::{self, Claims, Mail},
    put_off::{Place, PutOff},
    render::Renderer,
    send::{Sender, Sent},
    settings::Settings,
    smtp,
};

/// Attempts at one time, each with a connection to the SMTP server.
const ATTEMPTS: usize = 8;

/// Of these, for mails that were put off before: the server may think long about each.
const LATER_ATTEMPTS: usize = 2;

/// A server that takes mails and does not say so gets each of them this often, and not for ever.
/// The README and `End` say twice.
const MOST_UNANSWERED: u32 = 2;

pub struct Delivery {
    claims: Claims,
    renderer: Renderer,
    sender: Sender,
    attempts: Semaphore,
    later_attempts: Semaphore,
    put_off: PutOff,
}

/// A request, and what is known of it after the first attempt.
struct Request<'a> {
    id: &'a str,
    /// Cancelled when there are no more attempts.
    end: CancellationToken,
    mail: Option<Mail>,
    unanswered: u32,
    /// After it was put off.
    place: Option<Place<'a>>,
}

impl Delivery {
    /// Connects to nothing yet.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self {
            claims: Claims::new(&settings.auth)?,
            renderer: Renderer::new(&settings.words),
            sender: Sender::new(&settings.smtp)?,
            attempts: Semaphore::new(ATTEMPTS),
            later_attempts: Semaphore::new(LATER_ATTEMPTS),
            put_off: PutOff::default(),
        })
    }

    /// Mails in work that wait because their recipients were put off.
    pub fn put_off(&self) -> usize {
        self.put_off.count()
    }

    /// Returns what is left to do for the request, which is something only if `stop` came first. An
    /// attempt is not interrupted after the SMTP server was reached. One that a mailer before has
    /// claimed waits first: restarts must not use the claims up.
    pub async fn deliver(
        &self,
        request_id: &str,
        was_claimed: bool,
        stop: &CancellationToken,
    ) -> Left {
        let mut request = Request {
            id: request_id,
            end: stop.child_token(),
            mail: None,
            unanswered: 0,
            place: None,
        };
        let mut backoff = Backoff::default();
        if was_claimed {
            eprintln!("mail request {request_id}: it was claimed before; it is tried in minutes");
            request.place = Some(self.put_off.add(request.end.clone()));
            let pause = Backoff::default().pause(backoff::CLAIM);
            request.end.run_until_cancelled(sleep(pause)).await;
        }
        while let Some(result) = self.attempt(&mut request).await {
            match result {
                Ok(end) => {
                    eprintln!("mail request {request_id}: {end}");
                    return Left::Nothing;
                }
                Err(fault) => request.pause(&fault, &mut backoff).await,
            }
        }
        if stop.is_cancelled() {
            let is_claimed = was_claimed || request.mail.is_some();
            return if is_claimed { Left::Claimed } else { Left::All };
        }
        let end = End::NotSent("its recipient was put off, as were too many newer ones".to_owned());
        eprintln!("mail request {request_id}: {end}");
        Left::Nothing
    }

    /// `None` if the request ended before the SMTP server was reached.
    async fn attempt<'a>(&'a self, request: &mut Request<'a>) -> Option<Result<End, Fault>> {
        let is_later = request.place.is_some();
        let begin = async {
            let later = if is_later {
                Some(self.later_attempts.acquire().await)
            } else {
                None
            };
            let permit = self.attempts.acquire().await;
            ((later, permit), self.sender.connect().await)
        };
        let end = request.end.clone();
        let (_permits, connection) = end.run_until_cancelled(begin).await?;
        Some(match connection {
            Ok(connection) => self.send(request, connection).await,
            Err(failed) => Err(Fault::Smtp(failed)),
        })
    }

    async fn claim<'a>(
        &self,
        request: &'a mut Request<'_>,
    ) -> Result<Option<&'a Mail>, claim::Failed> {
        if request.mail.as_ref().is_none_or(Mail::is_stale) {
            request.mail = self.claims.claim(request.id).await?;
        }
        Ok(request.mail.as_ref())
    }

    async fn send<'a>(
        &'a self,
        request: &mut Request<'a>,
        connection: smtp::Connection,
    ) -> Result<End, Fault> {
        let mail = match self.claim(request).await {
            Ok(Some(mail)) => mail,
            other => {
                self.sender.keep(connection);
                return other.map(|_| End::NotWanted).map_err(Fault::Claim);
            }
        };
        let sent = self
            .sender
            .send(connection, mail, self.renderer.render(mail));
        match sent.await.map_err(Fault::Smtp)? {
            Sent::Taken => Ok(End::Sent),
            Sent::Refused(why) => Ok(End::NotSent(why)),
            Sent::PutOff(code) => {
                let add = || self.put_off.add(request.end.clone());
                request.place.get_or_insert_with(add);
                Err(Fault::PutOff(code))
            }
            Sent::Unanswered => {
                request.unanswered += 1;
                if request.unanswered < MOST_UNANSWERED {
                    return Err(Fault::Unanswered);
                }
                Ok(End::Unanswered)
            }
        }
    }
}

impl Request<'_> {
    /// Logs the fault, and waits for the next attempt or the end.
    async fn pause(&self, fault: &Fault, backoff: &mut Backoff) {
        let pause = backoff.pause(fault.pauses());
        if backoff.is_news() {
            eprintln!("mail request {}: {fault}; it is tried again", self.id);
        }
        self.end.run_until_cancelled(sleep(pause)).await;
    }
}
