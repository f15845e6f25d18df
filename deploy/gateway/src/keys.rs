//! Verifies access tokens with the service's keys, which are fetched and kept in memory.
//!
//! Keys are renewed before `max_age` is over and, in between, on a `kid` that we do not
//! know, but not within seconds of the last try, even a failed one: anybody can invent a
//! `kid`. Without fresh keys nobody is let in. The keys are secret: whoever has one can
//! issue tokens.

use std::{
    sync::{Arc, RwLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::Sha256;
use tokio::sync::Mutex;
use tonic::Status;

use crate::{
    auth::{Auth, is_temporary, retrying},
    error::Error,
    proto::{GetSigningKeyRequest, GetSigningKeyResponse},
};

const BETWEEN_FETCHES: Duration = Duration::from_secs(2);

pub struct Keys {
    auth: Auth,
    current: RwLock<Arc<Fetched>>,
    /// Held by whoever fetches; when that was tried last.
    fetching: Mutex<Instant>,
}

struct Fetched {
    answer: GetSigningKeyResponse,
    at: Instant,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// Who a request comes from.
#[derive(Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: String,
    /// The session.
    pub sid: String,
    iss: String,
    aud: String,
    exp: u64,
}

impl Keys {
    pub async fn fetch(auth: Auth) -> Result<Self, Status> {
        let fetched = fetch(&auth).await?;
        Ok(Self {
            auth,
            fetching: Mutex::new(fetched.at),
            current: RwLock::new(Arc::new(fetched)),
        })
    }

    /// Fetches the keys again and again, well before they are too old.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            let keys = self.current();
            let fresh = (keys.max_age() / 2).saturating_sub(keys.at.elapsed());
            tokio::time::sleep(fresh.max(BETWEEN_FETCHES)).await;
            if let Err(status) = self.renew().await {
                eprintln!("cannot fetch the keys: {:?}", status.code());
            }
        }
    }

    pub async fn verify(&self, token: &str) -> Result<Claims, Error> {
        let header: Header = token
            .split('.')
            .next()
            .and_then(json)
            .ok_or(Error::InvalidToken)?;
        if header.alg != "HS256" || header.typ != "at+jwt" {
            return Err(Error::InvalidToken);
        }
        if self.current().find(&header.kid).is_none() {
            self.renew().await?;
        }
        let keys = self.current();
        if keys.at.elapsed() > keys.max_age() {
            return Err(Error::Unavailable);
        }
        let claims = keys.claims(token, &header.kid);
        claims.ok_or(Error::InvalidToken)
    }

    fn current(&self) -> Arc<Fetched> {
        Arc::clone(&self.current.read().expect("nobody panics with the lock"))
    }

    /// Fetches, unless that was tried just now. Many may want new keys at once; one of them
    /// fetches, and the others find what it left.
    async fn renew(&self) -> Result<(), Status> {
        let mut tried = self.fetching.lock().await;
        if tried.elapsed() < BETWEEN_FETCHES {
            return Ok(());
        }
        // Before, since we may be dropped while we wait; and after, since it may take longer
        // than `BETWEEN_FETCHES`, and those who waited for it are not to try in turn.
        *tried = Instant::now();
        let fetched = fetch(&self.auth).await;
        *tried = Instant::now();
        *self.current.write().expect("nobody panics with the lock") = Arc::new(fetched?);
        Ok(())
    }
}

async fn fetch(auth: &Auth) -> Result<Fetched, Status> {
    // Their age counts from when we asked.
    let at = Instant::now();
    let answer = retrying(is_temporary, || {
        let request = auth.request(GetSigningKeyRequest {}, None);
        let mut client = auth.client();
        async move { client.get_signing_key(request).await }
    });
    let answer = answer.await?;
    Ok(Fetched { answer, at })
}

impl Fetched {
    fn max_age(&self) -> Duration {
        let max_age = self.answer.max_age;
        max_age
            .and_then(|age| age.try_into().ok())
            .unwrap_or_default()
    }

    fn find(&self, kid: &str) -> Option<&[u8]> {
        let mut keys = self.answer.verification_keys.iter();
        keys.find(|key| key.key_id == kid)
            .map(|key| &key.secret[..])
    }

    /// What the token says, if the key signed it and it is for us, now.
    fn claims(&self, token: &str, kid: &str) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let mut mac = Hmac::<Sha256>::new_from_slice(self.find(kid)?).ok()?;
        mac.update(signed.as_bytes());
        // In constant time.
        mac.verify_slice(&BASE64URL.decode(signature).ok()?).ok()?;
        let claims: Claims = json(signed.split_once('.')?.1)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let is_ours = claims.iss == self.answer.issuer && claims.aud == self.answer.audience;
        (is_ours && now < claims.exp).then_some(claims)
    }
}

fn json<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64URL.decode(part).ok()?).ok()
}
