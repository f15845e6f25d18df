//! The key is replaced as the runbook describes, one replica at a time, while users register, log
//! in and refresh at all replicas.

use auth_service::{model::Clock as _, proto};

use super::*;

const OLD: &str = DATA_KEY;
const NEW: &str = OTHER_KEY;
const TICK: Duration = Duration::from_mins(5);
const REFRESH_TOKEN_TTL: Duration = Duration::from_hours(24);

struct World {
    database: TestDatabase,
    clock: Arc<ManualClock>,
    /// The replicas, each with its options.
    replicas: Vec<(Service, Vec<&'static str>)>,
    emails: Vec<String>,
    /// The refresh token of a user who goes on, and that of one who comes back late.
    active: String,
    resting: String,
    /// Calls that should have succeeded.
    failed: usize,
}

impl World {
    async fn new(database: TestDatabase) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let options = vec!["--data-key", OLD];
        let mut replicas = Vec::new();
        for _ in 0..2 {
            let replica = replica(&database, &clock, &options).await;
            replicas.push((replica, options.clone()));
        }
        let [active, resting] = [
            replicas[0].0.sign_up("active@example.com").await,
            replicas[0].0.sign_up("resting@example.com").await,
        ]
        .map(|session| session.tokens.refresh_token);
        let mut world = Self {
            database,
            clock,
            replicas,
            emails: vec!["active@example.com".to_owned()],
            active,
            resting,
            failed: 0,
        };
        world.tick().await;
        world
    }

    /// A user registers at one replica and logs in at all of them. At each replica the active
    /// user refreshes, loses the reply, and tries again at all of them.
    async fn tick(&mut self) {
        self.clock.advance(TICK);
        let email = format!("user{}@example.com", self.emails.len());
        let home = &self.replicas[self.emails.len() % 2].0;
        let registered = home.client().register(register(&email)).await;
        self.failed += usize::from(registered.is_err());
        self.emails.push(email);
        let known = [0, self.emails.len() - 2, self.emails.len() - 1];
        for (replica, _) in &self.replicas {
            for email in known.map(|n| &self.emails[n]) {
                let answer = replica.client().login(login(email)).await;
                self.failed += usize::from(answer.is_err());
            }
        }
        for index in 0..self.replicas.len() {
            let Ok(rotated) = self.replicas[index].0.refresh(&self.active).await else {
                self.failed += 1;
                continue;
            };
            for (replica, _) in &self.replicas {
                let retried = replica.refresh(&self.active).await;
                let is_same = retried.is_ok_and(|it| same_secret(&it, &rotated));
                self.failed += usize::from(!is_same);
            }
            self.active = rotated.refresh_token;
        }
    }

    /// Replaces one replica after the other. Those of both configurations seal in between.
    async fn roll_out(&mut self, options: &[&'static str]) {
        for index in 0..self.replicas.len() {
            if options == SWAPPED {
                // In the end it is the last token of the old key.
                let pair = self.replicas[index].0.refresh(&self.resting).await.unwrap();
                self.resting = pair.refresh_token;
            }
            let new = replica(&self.database, &self.clock, options).await;
            let new = (new, options.to_vec());
            let (old, _) = std::mem::replace(&mut self.replicas[index], new);
            old.stop().await.0.unwrap();
            self.tick().await;
            self.seal().await;
            self.tick().await;
        }
    }

    /// Housekeeping of each replica, and what the last one has counted.
    async fn seal(&self) -> [String; 4] {
        let mut counts = [const { String::new() }; 4];
        for (_, options) in &self.replicas {
            let replica = Replica::new(&self.database, options);
            replica.tick().await;
            counts = replica.counts();
        }
        counts
    }

    /// Almost the life of a refresh token passes, then the resting user comes back.
    async fn rest(&mut self) {
        self.clock
            .set(self.clock.now() + REFRESH_TOKEN_TTL - 12 * TICK);
        match self.replicas[0].0.refresh(&self.resting).await {
            Ok(pair) => self.resting = pair.refresh_token,
            Err(_) => self.failed += 1,
        }
        self.active = self.replicas[0]
            .0
            .sign_in("active@example.com")
            .await
            .tokens
            .refresh_token;
    }
}

/// It waits long enough for a busy machine: no call fails but for a key.
async fn replica(
    database: &TestDatabase,
    clock: &Arc<ManualClock>,
    options: &[&'static str],
) -> Service {
    let limits = ["--request-timeout", "60s", "--password-max-wait", "50s"];
    let options = [options, &limits].concat();
    Service::start_at(database.clone(), Arc::clone(clock), &options).await
}

/// A retry at a replica of another configuration has the same secret and perhaps another tag.
fn same_secret(one: &proto::TokenPair, other: &proto::TokenPair) -> bool {
    // Handle and secret are 48 bytes, which are 64 characters.
    one.refresh_token[..68] == other.refresh_token[..68]
}

const ACCEPTED: [&str; 4] = ["--data-key", OLD, "--data-previous-keys", NEW];
const SWAPPED: [&str; 4] = ["--data-key", NEW, "--data-previous-keys", OLD];
const DONE: [&str; 2] = ["--data-key", NEW];

both! {
    async fn in_three_steps_no_call_fails(database: TestDatabase) {
        let mut world = World::new(database).await;
        world.roll_out(&ACCEPTED).await;
        world.roll_out(&SWAPPED).await;
        let users = world.database.count("SELECT count(*) FROM users").await;
        assert_eq!(world.seal().await, [format!("{users}.0"), "0.0".into(), "0.0".into(), "0.0".into()]);
        world.rest().await;
        world.roll_out(&DONE).await;
        world.rest().await;
        world.tick().await;
        assert_eq!(world.failed, 0);
    }

    async fn a_new_key_that_is_not_accepted_everywhere_is_noticed(database: TestDatabase) {
        let mut world = World::new(database).await;
        world.roll_out(&SWAPPED).await;
        assert!(world.failed > 0);
    }

    async fn an_old_key_that_goes_before_the_seals_is_noticed(database: TestDatabase) {
        let mut world = World::new(database).await;
        world.roll_out(&ACCEPTED).await;
        assert_eq!(world.failed, 0);
        let resting = Replica::new(&world.database, &DONE);
        resting.tick().await;
        assert_ne!(resting.counts()[3], "0.0", "`unknown` gives the alarm");
        let replaced = build(&world.database, Arc::clone(&world.clock), &DONE).await;
        assert!(replaced.is_err(), "no replica is replaced");
        world.tick().await;
        assert_eq!(world.failed, 0);
    }

    async fn an_old_key_that_goes_before_its_tokens_is_noticed(database: TestDatabase) {
        let mut world = World::new(database).await;
        world.roll_out(&ACCEPTED).await;
        world.roll_out(&SWAPPED).await;
        world.seal().await;
        world.roll_out(&DONE).await;
        assert_eq!(world.failed, 0, "the active user has a new token");
        world.rest().await;
        assert_eq!(world.failed, 1, "the resting user has to log in");
    }
}
