//! The key is replaced as the README describes, one replica at a time, while users use their
//! sessions and gateways verify with keys that they fetched up to `max_age` ago.
//!
//! These gateways never ask for an unknown `kid`: the procedure alone must be enough.

use std::sync::Arc;

use auth_service::model::{Clock as _, Timestamp};

use super::*;
use crate::harness::ManualClock;

const OLD: &str = JWT_SECRET;
const NEW: &str = NEXT_SECRET;
const TOKEN_TTL: Duration = Duration::from_mins(10);
const TICK: Duration = Duration::from_secs(20);

/// A gateway that keeps its keys for as long as they are valid.
struct Gateway {
    /// The replica that it asks.
    home: usize,
    keys: proto::GetSigningKeyResponse,
    fetched_at: Timestamp,
}

impl Gateway {
    fn accepts(&self, token: &Jwt, now: Timestamp) -> bool {
        let claims = &token.claims;
        let is_ours = claims["iss"] == self.keys.issuer && claims["aud"] == self.keys.audience;
        let is_fresh = claims["exp"].as_i64().unwrap() > now.as_secs();
        is_ours && is_fresh && token.verifies_with(&self.keys)
    }

    fn max_age(&self) -> Duration {
        self.keys.max_age.unwrap().try_into().unwrap()
    }
}

struct World {
    database: TestDatabase,
    clock: Arc<ManualClock>,
    replicas: Vec<Service>,
    gateways: Vec<Gateway>,
    refresh_token: String,
    /// The tokens that have not expired.
    tokens: Vec<Jwt>,
    /// The number of times that a gateway refused a valid token.
    refused: usize,
}

impl World {
    async fn new(database: TestDatabase) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let mut replicas = Vec::new();
        for _ in 0..2 {
            replicas.push(start(&database, &clock, &["--jwt-secret", OLD]).await);
        }
        let session = replicas[0].sign_up("ana@example.com").await;
        let mut world = Self {
            database,
            clock,
            replicas,
            gateways: Vec::new(),
            refresh_token: session.tokens.refresh_token,
            tokens: Vec::new(),
            refused: 0,
        };
        // Their caches end at different times, in every phase of a rolling restart.
        for index in 0..15 {
            let home = index % 2;
            world.gateways.push(Gateway {
                home,
                keys: keys_of(&world.replicas[home]).await,
                fetched_at: world.clock.now(),
            });
            world.tick().await;
        }
        world
    }

    /// The time moves: gateways renew keys that are too old, each replica issues a token, and each
    /// gateway verifies all tokens.
    async fn tick(&mut self) {
        self.clock.advance(TICK);
        let now = self.clock.now();
        for gateway in &mut self.gateways {
            if now.since(gateway.fetched_at) >= gateway.max_age() {
                gateway.keys = keys_of(&self.replicas[gateway.home]).await;
                gateway.fetched_at = now;
            }
        }
        for replica in &self.replicas {
            let pair = replica.refresh(&self.refresh_token).await.unwrap();
            self.refresh_token = pair.refresh_token;
            self.tokens.push(Jwt::of(&pair.access_token));
        }
        let now_secs = now.as_secs();
        self.tokens
            .retain(|token| token.claims["exp"].as_i64().unwrap() > now_secs);
        for token in &self.tokens {
            let refusals = self
                .gateways
                .iter()
                .filter(|gateway| !gateway.accepts(token, now));
            self.refused += refusals.count();
        }
    }

    /// Replaces one replica after the other, with a pause between them.
    async fn roll_out(&mut self, options: &[&str]) {
        for index in 0..self.replicas.len() {
            let new = start(&self.database, &self.clock, options).await;
            let old = std::mem::replace(&mut self.replicas[index], new);
            // The old replica serves until its end, so a gateway may ask it at the last moment.
            for gateway in self
                .gateways
                .iter_mut()
                .filter(|gateway| gateway.home == index)
                .take(1)
            {
                gateway.keys = keys_of(&old).await;
                gateway.fetched_at = self.clock.now();
            }
            old.stop().await.0.unwrap();
            for _ in 0..2 {
                self.tick().await;
            }
        }
    }

    async fn wait(&mut self, how_long: Duration) {
        let until = self.clock.now() + how_long;
        while self.clock.now() < until {
            self.tick().await;
        }
    }

    /// The number of valid tokens that this key signed.
    fn signed_with(&self, secret: &str) -> usize {
        let tokens = self.tokens.iter();
        tokens
            .filter(|token| token.is_signed_with(secret.as_bytes()))
            .count()
    }
}

async fn start(database: &TestDatabase, clock: &Arc<ManualClock>, options: &[&str]) -> Service {
    let ttl = format!("{}s", TOKEN_TTL.as_secs());
    let options = [&["--access-token-ttl", &ttl], options].concat();
    Service::start_at(database.clone(), Arc::clone(clock), &options).await
}

both! {
    async fn in_three_steps_no_valid_token_is_ever_refused(database: TestDatabase) {
        let mut world = World::new(database).await;
        let max_age = world.gateways[0].max_age();
        assert_eq!(max_age, Duration::from_mins(5));

        world.roll_out(&["--jwt-secret", OLD, "--jwt-next-secret", NEW]).await;
        world.wait(max_age).await;
        assert_eq!(world.signed_with(NEW), 0);
        world.roll_out(&["--jwt-secret", NEW, "--jwt-previous-secrets", OLD]).await;
        assert!(world.signed_with(OLD) > 0 && world.signed_with(NEW) > 0);
        world.wait(TOKEN_TTL).await;
        assert_eq!(world.signed_with(OLD), 0);
        world.roll_out(&["--jwt-secret", NEW]).await;
        world.wait(max_age).await;
        assert_eq!(world.refused, 0);
    }

    async fn a_key_that_signs_before_gateways_can_know_it_is_noticed(database: TestDatabase) {
        let mut world = World::new(database).await;
        world.roll_out(&["--jwt-secret", NEW, "--jwt-previous-secrets", OLD]).await;
        assert!(world.refused > 0);
    }

    async fn a_wait_for_gateways_that_is_too_short_is_noticed(database: TestDatabase) {
        let mut world = World::new(database).await;
        world.roll_out(&["--jwt-secret", OLD, "--jwt-next-secret", NEW]).await;
        world.roll_out(&["--jwt-secret", NEW, "--jwt-previous-secrets", OLD]).await;
        assert!(world.refused > 0);
    }

    async fn an_old_key_that_goes_before_its_tokens_is_noticed(database: TestDatabase) {
        let mut world = World::new(database).await;
        let max_age = world.gateways[0].max_age();
        world.roll_out(&["--jwt-secret", OLD, "--jwt-next-secret", NEW]).await;
        world.wait(max_age).await;
        world.roll_out(&["--jwt-secret", NEW, "--jwt-previous-secrets", OLD]).await;
        assert_eq!(world.refused, 0);
        world.roll_out(&["--jwt-secret", NEW]).await;
        world.wait(max_age).await;
        assert!(world.refused > 0);
    }
}
