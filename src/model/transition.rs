//! The roll-out of the first release that uses `DATA_KEY`. It is deleted in the next release.
//!
//! Replicas of the release before cannot read a sealed password hash, a token with a tag or a
//! successor that was sealed with a key. While replicas of both releases may run, the new ones
//! write the old forms too, so that nobody is kept out. Each form that is written is also
//! accepted, and tokens in the old form for as long as they live.

use std::{iter, time::Duration};

use super::{DataKey, DataKeys, Timestamp};

/// How a password hash, a token or a sealed successor is made.
#[derive(Clone, Copy, Debug)]
pub enum Form<'k> {
    /// With the subkeys of this key.
    Keyed(&'k DataKey),
    /// Without a key, as the release before did.
    Old,
}

/// When replicas of the release before have ended. The default is a database that they never
/// used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transition {
    /// The end of the roll-out, and of the last token in the old form.
    ends: Option<(Timestamp, Timestamp)>,
}

impl Transition {
    /// The longest time of a roll-out.
    pub const LONGEST: Duration = Duration::from_hours(1);

    pub fn new(ends_at: Timestamp, refresh_token_ttl: Duration) -> Self {
        let ends = Some((ends_at, ends_at + refresh_token_ttl));
        Self { ends }
    }

    /// The form of all that is written now.
    pub fn form<'k>(&self, keys: &'k DataKeys, now: Timestamp) -> Form<'k> {
        match self.ends {
            Some((roll_out, _)) if now < roll_out => Form::Old,
            _ => Form::Keyed(keys.current()),
        }
    }

    /// The forms of refresh tokens that are accepted now.
    pub fn accepted<'k>(
        &self,
        keys: &'k DataKeys,
        now: Timestamp,
    ) -> impl Iterator<Item = Form<'k>> {
        let is_alive = self.ends.is_some_and(|(_, last_token)| now < last_token);
        let old = iter::once(Form::Old).filter(move |_| is_alive);
        keys.all().map(Form::Keyed).chain(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS_AT: Timestamp = Timestamp::from_micros(1_764_024_172_000_000);
    const DAY: Duration = Duration::from_hours(24);
    const MICROSECOND: Duration = Duration::from_micros(1);

    /// Whether the old form is written, and whether it is accepted.
    fn old(transition: Transition, now: Timestamp) -> (bool, bool) {
        let keys = DataKeys::for_test(["a", "b"]);
        let mut accepted = transition.accepted(&keys, now);
        let is_written = matches!(transition.form(&keys, now), Form::Old);
        assert_eq!(accepted.by_ref().take(2).count(), 2, "both keys");
        (is_written, accepted.next().is_some())
    }

    #[test]
    fn the_old_form_is_written_until_the_roll_out_ends_and_accepted_until_its_tokens_end() {
        let transition = Transition::new(ENDS_AT, DAY);
        assert_eq!(old(transition, ENDS_AT - DAY), (true, true));
        assert_eq!(old(transition, ENDS_AT - MICROSECOND), (true, true));
        assert_eq!(old(transition, ENDS_AT), (false, true));
        assert_eq!(old(transition, ENDS_AT + DAY - MICROSECOND), (false, true));
        assert_eq!(old(transition, ENDS_AT + DAY), (false, false));
    }

    #[test]
    fn a_new_database_never_has_the_old_form() {
        for now in [ENDS_AT - DAY, ENDS_AT, ENDS_AT + DAY] {
            assert_eq!(old(Transition::default(), now), (false, false));
        }
    }
}
