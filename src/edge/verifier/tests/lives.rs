//! Users log in, refresh and log out in random order. An [`Edge`] that receives each revocation
//! refuses exactly the tokens of ended sessions.

use proptest::prelude::*;

use super::{revoked::session_started, *};

#[derive(Clone, Copy, Debug)]
enum Act {
    LogIn { user: u128 },
    Refresh(prop::sample::Index),
    LogOut(prop::sample::Index),
    EndAll { user: u128 },
    Forget,
    Repeat,
}

struct World {
    edge: Edge,
    /// Microseconds since 1970.
    now: u64,
    sessions: Vec<Session>,
    tokens: Vec<Token>,
    /// The revocations that the edge has received, and when each session ended.
    ended: Vec<(Ended, SystemTime)>,
}

enum Ended {
    Session(Uuid),
    AllOf(Uuid),
}

struct Session {
    id: Uuid,
    user: Uuid,
    is_live: bool,
}

struct Token {
    session: usize,
    text: String,
    expires_at: SystemTime,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn exactly_the_tokens_of_ended_sessions_are_refused(
        acts in prop::collection::vec((act(), pause()), 1..60),
    ) {
        let mut world = World::new();
        for (act, pause) in acts {
            world.now += pause;
            world.play(act);
            world.check();
        }
        world.edge.forget_expired(world.time() + LIFE + Duration::from_secs(62));
        prop_assert_eq!(world.edge.revocations(), 0);
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (1..3_u128).prop_map(|user| Act::LogIn { user }),
        3 => any::<prop::sample::Index>().prop_map(Act::Refresh),
        2 => any::<prop::sample::Index>().prop_map(Act::LogOut),
        2 => (1..3_u128).prop_map(|user| Act::EndAll { user }),
        1 => Just(Act::Forget),
        1 => Just(Act::Repeat),
    ]
}

/// At least a millisecond, because a session id has whole milliseconds: two acts of the same one
/// cannot be ordered.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![
        1_000..2_000_u64,
        1_000..900_000_u64,
        1_000_000..1_000_000_000_u64,
    ]
}

impl World {
    fn new() -> Self {
        Self {
            edge: edge(),
            now: 1_764_500_000_000_000,
            sessions: Vec::new(),
            tokens: Vec::new(),
            ended: Vec::new(),
        }
    }

    fn play(&mut self, act: Act) {
        match act {
            Act::LogIn { user } => {
                let id = session_started(self.now / 1000);
                let user = Uuid::from_u128(user);
                self.sessions.push(Session {
                    id,
                    user,
                    is_live: true,
                });
                self.issue(self.sessions.len() - 1);
            }
            Act::Refresh(which) => {
                if let Some(session) = self.pick(which) {
                    self.issue(session);
                }
            }
            Act::LogOut(which) => {
                if let Some(session) = self.pick(which) {
                    self.sessions[session].is_live = false;
                    self.revoke(Ended::Session(self.sessions[session].id), self.time());
                }
            }
            Act::EndAll { user } => {
                let user = Uuid::from_u128(user);
                let own = self
                    .sessions
                    .iter_mut()
                    .filter(|session| session.user == user);
                own.for_each(|session| session.is_live = false);
                self.revoke(Ended::AllOf(user), self.time());
            }
            Act::Forget => self.edge.forget_expired(self.time()),
            // A snapshot, after a lost connection.
            Act::Repeat => {
                for (ended, when) in std::mem::take(&mut self.ended) {
                    self.revoke(ended, when);
                }
            }
        }
    }

    fn pick(&self, which: prop::sample::Index) -> Option<usize> {
        let live = (0..self.sessions.len()).filter(|at| self.sessions[*at].is_live);
        let live: Vec<_> = live.collect();
        (!live.is_empty()).then(|| *which.get(&live))
    }

    fn issue(&mut self, session: usize) {
        let Session { id, user, .. } = &self.sessions[session];
        let iat = self.now / 1_000_000;
        let payload = with(PAYLOAD, &SESSION.to_string(), &id.to_string());
        let payload = with(&payload, &USER.to_string(), &user.to_string());
        let times = format!(r#""iat":{iat},"exp":{}"#, iat + LIFE.as_secs());
        let payload = with(&payload, r#""iat":1764500000,"exp":1764503600"#, &times);
        self.tokens.push(Token {
            session,
            text: signed(HEADER, &payload, KEY),
            expires_at: at(iat * 1000) + LIFE,
        });
    }

    fn revoke(&mut self, ended: Ended, when: SystemTime) {
        match ended {
            Ended::Session(session) => self.edge.revoke_session(session, when + LIFE),
            Ended::AllOf(user) => self.edge.revoke_user(user, when, when + LIFE),
        }
        self.ended.push((ended, when));
    }

    fn check(&self) {
        for token in &self.tokens {
            let expected = if token.expires_at <= self.time() {
                Err(Refusal::Expired)
            } else if self.sessions[token.session].is_live {
                Ok(())
            } else {
                Err(Refusal::Revoked)
            };
            let verdict = self.edge.verify(&token.text, self.time()).map(drop);
            assert_eq!(verdict, expected);
        }
    }

    fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(self.now)
    }
}
