//! All rules against guessing passwords, and against asking for too many mails.
//!
//! Failures are counted by counters: of a device, an account, a network, a session, and of the
//! registrations of a network. Some failures are free. Each one beyond them doubles a wait, in
//! which every attempt of the counter is refused. Failures are forgotten one after the other (the
//! generic cell rate algorithm, ITU-T I.371), so a counter needs no list of them: one time says
//! when all are forgotten. [`db`](crate::db) only stores counters and settles races.
//!
//! [`Counter::count`] counts an attempt as a failure before its hash begins. If it is none,
//! [`Counter::take_back`] takes exactly this count back, whatever was counted since.
//!
//! A replica's clock may be a little ahead of another one's: at the one behind, a wait then lasts
//! longer by the difference, at most by [`CLOCK_SKEW`]. A stored time that no such clock can have
//! written counts as past: no other clock makes a wait longer than configured.

use std::time::Duration;

use super::{
    ClientAddress, DataKey, DeviceToken, MailRequestId, Network, SessionId, Timestamp, UserId,
};

const DAY: Duration = Duration::from_hours(24);

const HOUR: Duration = Duration::from_hours(1);

/// Mails that persons may ask for in an hour: to one address, and from one network.
const MAILS_OF_AN_ACCOUNT: u32 = 3;
const MAILS_OF_A_NETWORK: u32 = 10;

/// How far the clocks of two replicas may differ.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// A /48 of IPv6 is a site with many lines: its limits are those of so many networks.
const NETWORKS_OF_A_SITE: u32 = 10;

/// How many attempts may fail without a wait, and how long the wait is after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Free failures of a known device with its account, and of a session.
    pub free_per_device: u32,
    /// Free failures of an account on devices that are not known.
    pub free_per_account: u32,
    /// Free failures of a network on devices that are not known.
    pub free_per_network: u32,
    /// Free registrations of a network.
    pub registrations_per_network: u32,
    /// Failures of an account in one day, on devices that are not known.
    pub daily_per_account: u32,
    /// The wait after the free failures. Each further failure doubles it.
    pub first_wait: Duration,
    pub longest_wait: Duration,
    /// The time in which one failure is forgotten.
    pub fade: Duration,
    /// The same for networks.
    pub network_fade: Duration,
}

/// The identity of a counter of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterId<'a> {
    /// A device with a genuine token of this account.
    Device(UserId, &'a DeviceToken),
    /// The normalised address of an account, which need not exist.
    Account(&'a str),
    Network(Network),
    /// A signed-in user who shows the password again.
    Session(SessionId),
    Registrations(Network),
    /// Resets that persons asked for to this address, which need not have an account.
    Mails(&'a str),
    /// Mails that a user asked for, signed in or by a login: strangers cannot use these up.
    OwnMails(UserId),
    /// Changes of addresses to this one that users asked for.
    MailsToNew(&'a str),
    NetworkMails(Network),
    /// Uses of the tokens of a mail.
    MailTokens(MailRequestId),
}

/// The party that shows a password.
#[derive(Clone, Copy, Debug)]
pub enum Claimant<'a> {
    /// A login on a device that the account has used before.
    KnownDevice(UserId, &'a DeviceToken),
    /// Another login. The e-mail is `None` if it is malformed.
    Unknown {
        email: Option<&'a str>,
        address: Option<ClientAddress>,
    },
    SignedIn(SessionId),
}

impl<'a> Claimant<'a> {
    /// A known device and a signed-in user are held back by their own failures only: no other
    /// party can lock them out.
    pub fn counters(self) -> Vec<CounterId<'a>> {
        match self {
            Self::KnownDevice(user_id, token) => vec![CounterId::Device(user_id, token)],
            Self::SignedIn(session) => vec![CounterId::Session(session)],
            Self::Unknown { email, address } => {
                let account = email.map(CounterId::Account);
                let networks = networks(address).map(CounterId::Network);
                account.into_iter().chain(networks).collect()
            }
        }
    }
}

/// The counters of a registration. It counts whatever its outcome is.
pub fn registration_counters(address: Option<ClientAddress>) -> Vec<CounterId<'static>> {
    networks(address).map(CounterId::Registrations).collect()
}

/// The counters of a mail that a person asks for: these, and those of the caller's networks.
pub fn mail_counters<'a>(
    counters: &[CounterId<'a>],
    address: Option<ClientAddress>,
) -> Vec<CounterId<'a>> {
    let networks = networks(address).map(CounterId::NetworkMails);
    counters.iter().copied().chain(networks).collect()
}

fn networks(address: Option<ClientAddress>) -> impl Iterator<Item = Network> {
    address.into_iter().flat_map(ClientAddress::networks)
}

impl CounterId<'_> {
    /// The key of the counter's row. It is an HMAC, so that the table shows neither e-mail nor
    /// network addresses, even if somebody tries all of them.
    pub fn key(&self, key: &DataKey) -> [u8; 32] {
        // The kind decides the lengths of the parts, but for an e-mail, which is the last.
        let parts: [&[u8]; 3] = match self {
            Self::Device(user_id, token) => [&[1], user_id.as_bytes(), token.device()],
            Self::Account(email) => [&[2], &[], email.as_bytes()],
            Self::Network(network) => [&[3, network.bits()], &[], network.as_bytes()],
            Self::Session(session) => [&[4], &[], session.as_bytes()],
            Self::Registrations(network) => [&[5, network.bits()], &[], network.as_bytes()],
            Self::Mails(email) => [&[6], &[], email.as_bytes()],
            Self::NetworkMails(network) => [&[7, network.bits()], &[], network.as_bytes()],
            Self::MailTokens(request) => [&[8], &[], request.as_bytes()],
            Self::OwnMails(user_id) => [&[9], &[], user_id.as_bytes()],
            Self::MailsToNew(email) => [&[10], &[], email.as_bytes()],
        };
        key.throttle.tag(&parts)
    }

    pub const fn limits(&self, limits: &ThrottleLimits) -> CounterLimits {
        let (free, fade) = match self {
            Self::Device(..) | Self::Session(_) | Self::MailTokens(_) => {
                (limits.free_per_device, limits.fade)
            }
            Self::Account(_) => (limits.free_per_account, limits.fade),
            Self::Network(network) => (
                share(limits.free_per_network, *network),
                limits.network_fade,
            ),
            Self::Registrations(network) => (
                share(limits.registrations_per_network, *network),
                limits.network_fade,
            ),
            Self::Mails(_) | Self::OwnMails(_) | Self::MailsToNew(_) => {
                return CounterLimits::an_hour(MAILS_OF_AN_ACCOUNT);
            }
            Self::NetworkMails(network) => {
                return CounterLimits::an_hour(share(MAILS_OF_A_NETWORK, *network));
            }
        };
        let window = match self {
            Self::Account(_) => Some(Window {
                most: limits.daily_per_account,
                length: DAY,
            }),
            _ => None,
        };
        CounterLimits {
            free,
            window,
            first_wait: limits.first_wait,
            longest_wait: limits.longest_wait,
            fade,
        }
    }
}

const fn share(free: u32, network: Network) -> u32 {
    match network {
        Network::V4(_) | Network::V6Line(_) => free,
        Network::V6Site(_) => free.saturating_mul(NETWORKS_OF_A_SITE),
    }
}

/// The limits of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterLimits {
    /// At least one.
    pub free: u32,
    pub window: Option<Window>,
    pub first_wait: Duration,
    pub longest_wait: Duration,
    pub fade: Duration,
}

/// A limit for a fixed time, which begins with the first failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// At least one.
    pub most: u32,
    pub length: Duration,
}

/// The failures of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// When all failures are forgotten.
    pub free_from: Timestamp,
    /// The last failure.
    pub failed_at: Timestamp,
    /// The failures of the window that ends at `window_ends_at`, if there is one.
    pub window_failures: i64,
    pub window_ends_at: Timestamp,
}

/// A counted failure: the counter before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raise {
    before: Counter,
    pub after: Counter,
}

impl Counter {
    const LONG_AGO: Timestamp = Timestamp::from_micros(0);

    /// Without a failure.
    pub const NEW: Self = Self {
        free_from: Self::LONG_AGO,
        failed_at: Self::LONG_AGO,
        window_failures: 0,
        window_ends_at: Self::LONG_AGO,
    };

    /// Counts a failure, unless the counter holds attempts back: then the error is the time
    /// until which it does.
    pub fn count(self, limits: &CounterLimits, now: Timestamp) -> Result<Raise, Timestamp> {
        if let Some(until) = self.held_until(limits, now) {
            return Err(until);
        }
        let before = self.at(limits, now);
        // The last failure, also if the one before has the time of a clock that is ahead.
        let is_ahead = now < before.failed_at && is_credible(before.failed_at, now);
        let after = Self {
            free_from: (before.free_from + limits.fade).min(limits.latest(now)),
            failed_at: if is_ahead {
                before.failed_at + Duration::from_micros(1)
            } else {
                now
            },
            window_failures: before.window_failures + i64::from(limits.window.is_some()),
            ..before
        };
        Ok(Raise { before, after })
    }

    /// Takes a count back that was no failure.
    #[must_use]
    pub fn take_back(self, raise: &Raise, now: Timestamp) -> Self {
        let Raise { before, after } = raise;
        // Once all failures up to this one are forgotten, nothing of it is left.
        let is_forgotten = after.free_from <= now;
        let added = after.free_from.since(before.free_from);
        let is_last = self.failed_at == after.failed_at;
        let is_same_window = self.window_ends_at == after.window_ends_at;
        let window_failures =
            self.window_failures - (after.window_failures - before.window_failures);
        Self {
            free_from: if is_forgotten {
                self.free_from
            } else {
                self.free_from - added
            },
            failed_at: if is_last {
                before.failed_at
            } else {
                self.failed_at
            },
            window_failures: if is_same_window {
                window_failures.max(0)
            } else {
                self.window_failures
            },
            ..self
        }
    }

    /// Whether nothing would change if the counter were new.
    pub fn is_new(&self, now: Timestamp) -> bool {
        self.free_from <= now && self.failed_at == Self::LONG_AGO && self.window_failures == 0
    }

    /// The end of the wait after the last failure, or of the window whose failures are spent.
    fn held_until(&self, limits: &CounterLimits, now: Timestamp) -> Option<Timestamp> {
        let failures = self.failures(limits, now, self.failed_at);
        let wait = limits.wait(failures).map(|wait| self.failed_at + wait);
        let wait = wait.filter(|_| is_credible(self.failed_at, now));
        let wait = wait.map(|end| end.min(now + limits.longest_wait));
        let is_spent = |window: &Window| self.window_failures >= i64::from(window.most);
        let latest = limits
            .window
            .filter(is_spent)
            .map(|window| now + window.length);
        let latest = latest.filter(|latest| is_credible(self.window_ends_at, *latest));
        let window = latest.map(|latest| self.window_ends_at.min(latest));
        wait.max(window).filter(|end| now < *end)
    }

    /// The failures that were not forgotten `then`, by what is known `now`.
    fn failures(&self, limits: &CounterLimits, now: Timestamp, then: Timestamp) -> u32 {
        if !is_credible(self.free_from, limits.latest(now)) {
            return 0;
        }
        let left = self.free_from.since(then).as_micros();
        let failures = left.div_ceil(limits.fade.as_micros().max(1));
        u32::try_from(failures)
            .unwrap_or(u32::MAX)
            .min(limits.most())
    }

    /// The counter without what is forgotten, and what no right clock can have written.
    fn at(self, limits: &CounterLimits, now: Timestamp) -> Self {
        let latest = limits.latest(now);
        let free_from = if is_credible(self.free_from, latest) {
            self.free_from.min(latest)
        } else {
            now
        };
        let (window_failures, window_ends_at) = match limits.window {
            None => (0, Self::LONG_AGO),
            Some(Window { length, .. })
                if now < self.window_ends_at && is_credible(self.window_ends_at, now + length) =>
            {
                (self.window_failures, self.window_ends_at)
            }
            Some(Window { length, .. }) => (0, now + length),
        };
        Self {
            free_from: free_from.max(now),
            window_failures,
            window_ends_at,
            ..self
        }
    }
}

/// Whether a clock can have written a time that is `latest` at most by the clock of this replica.
fn is_credible(time: Timestamp, latest: Timestamp) -> bool {
    time <= latest + CLOCK_SKEW
}

impl CounterLimits {
    /// The only wait is the rest of the hour. Housekeeping keeps the counter for an hour after the
    /// last count.
    const fn an_hour(most: u32) -> Self {
        Self {
            free: 1,
            window: Some(Window { most, length: HOUR }),
            first_wait: Duration::ZERO,
            longest_wait: Duration::ZERO,
            fade: HOUR,
        }
    }

    /// The wait after so many failures, if there is one.
    fn wait(&self, failures: u32) -> Option<Duration> {
        let beyond = failures.checked_sub(self.free)?;
        let doubled = 2_u32.checked_pow(beyond).unwrap_or(u32::MAX);
        let wait = self.first_wait.saturating_mul(doubled);
        Some(wait.min(self.longest_wait))
    }

    /// The failures after which the wait is the longest. More are not counted, so that a flood is
    /// not remembered for ever.
    fn most(&self) -> u32 {
        let is_longest = |beyond: &u32| self.wait(self.free + beyond) == Some(self.longest_wait);
        self.free + (0..32).find(is_longest).unwrap_or(32)
    }

    /// When the most failures are forgotten.
    fn latest(&self, now: Timestamp) -> Timestamp {
        now + self.fade.saturating_mul(self.most())
    }
}

/// The counters that housekeeping may delete: all their failures are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// `free_from` at most.
    pub free_from: Timestamp,
    /// `failed_at` at most: the longest wait has passed.
    pub failed_at: Timestamp,
    /// Or `free_from` at most, counted from `failed_at`: there was no wait.
    pub free: Duration,
    /// `day_ends_at` at most, after it is moved by `day_failure` for each failure of the day.
    pub day_ends_at: Timestamp,
    pub day_failure: Duration,
}

impl ThrottleLimits {
    /// A day that has not ended may be forgotten if its failures took at least their share of it.
    /// Then counting it anew lets no more failures through than the daily limit does: they never
    /// come faster than that many in a day.
    pub fn forgotten(&self, now: Timestamp) -> Forgotten {
        Forgotten {
            free_from: now,
            failed_at: now - self.longest_wait,
            free: self.free_of_any_counter(),
            day_ends_at: now + DAY,
            day_failure: DAY / self.daily_per_account.max(1),
        }
    }

    /// The time in which so many failures are forgotten that no counter has a wait after them.
    fn free_of_any_counter(&self) -> Duration {
        let counters = [
            (self.free_per_device, self.fade),
            (self.free_per_account, self.fade),
            (self.free_per_network, self.network_fade),
            (self.registrations_per_network, self.network_fade),
        ];
        let free = counters.map(|(free, fade)| fade.saturating_mul(free.saturating_sub(1)));
        free.into_iter().min().unwrap_or_default().min(DAY)
    }
}

#[cfg(test)]
mod tests;
