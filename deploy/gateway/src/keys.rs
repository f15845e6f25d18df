//! Verifies access tokens with the service's keys, which are fetched and kept in memory.
//!
//! Keys are fetched again before `max_age` ends, and on an unknown `kid`. A fetch never
//! follows within two seconds of the last one, even a failed one, because any client can
//! invent a `kid`. Without fresh keys all tokens are refused. The keys are secret: each can
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
    /// The time of the last fetch; locked during a fetch.
    last_fetch: Mutex<Instant>,
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

/// The user and the session of a request.
#[derive(Deserialize)]
pub struct Claims {
    /// The user id.
    pub sub: String,
    /// The session id.
    pub sid: String,
    /// Absent if the service does not verify addresses.
    pub email_verified: Option<bool>,
    /// The roles that an administrator of the service gave. Absent without roles.
    #[serde(default)]
    pub roles: Vec<String>,
    iss: String,
    aud: String,
    exp: u64,
}

impl Claims {
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }

    /// The time until the token expires, by this machine's clock.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default();
        Duration::from_secs(self.exp).saturating_sub(now)
    }
}

impl Keys {
    pub async fn fetch(auth: Auth) -> Result<Self, Status> {
        let fetched = fetch(&auth).await?;
        Ok(Self {
            auth,
            last_fetch: Mutex::new(fetched.at),
            current: RwLock::new(Arc::new(fetched)),
        })
    }

    /// Fetches the keys regularly, at half of their `max_age`.
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
        Arc::clone(&self.current.read().expect("no panic while locked"))
    }

    /// Fetches the keys, unless the last fetch was less than two seconds ago. If several calls
    /// run at once, one fetches; the others wait and use its result.
    async fn renew(&self) -> Result<(), Status> {
        let mut last_fetch = self.last_fetch.lock().await;
        if last_fetch.elapsed() < BETWEEN_FETCHES {
            return Ok(());
        }
        // Set before the fetch, because this future may be dropped during it. Set again after
        // it, because it may take longer than `BETWEEN_FETCHES`, and callers that waited for it
        // must not fetch again.
        *last_fetch = Instant::now();
        let fetched = fetch(&self.auth).await;
        *last_fetch = Instant::now();
        *self.current.write().expect("no panic while locked") = Arc::new(fetched?);
        Ok(())
    }
}

async fn fetch(auth: &Auth) -> Result<Fetched, Status> {
    // The age of the keys counts from the request.
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

    /// The token's claims, if the key signed it, `iss` and `aud` match and it has not expired.
    fn claims(&self, token: &str, kid: &str) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let mut mac = Hmac::<Sha256>::new_from_slice(self.find(kid)?).ok()?;
        mac.update(signed.as_bytes());
        // Compares in constant time.
        mac.verify_slice(&BASE64URL.decode(signature).ok()?).ok()?;
        let claims: Claims = json(signed.split_once('.')?.1)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let is_for_us = claims.iss == self.answer.issuer && claims.aud == self.answer.audience;
        (is_for_us && now < claims.exp).then_some(claims)
    }
}

fn json<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64URL.decode(part).ok()?).ok()
}
