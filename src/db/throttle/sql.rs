//! The SQL of the throttle, written once for both databases.
//!
//! Diesel cannot express an upsert that reads other rows, and does not keep a raw query
//! prepared. These are templates, in which `:name` stands for a value.

/// Counts an attempt unless one of its rows is blocked. The conditions are checked again when a
/// row is raised: another attempt may have blocked it since the statement began. They are those
/// of [`ThrottleLimits::held_until`](crate::model::ThrottleLimits::held_until): a time beyond
/// `:latest_block` or `:latest_day` counts as past. It is then replaced.
///
/// A failure moves `free_from` forward by the time in which one failure fades (`:fade`). As long
/// as `free_from` is in the past, the failure was free. Each `:fade` by which it lies in the
/// future is one failure more, and doubles the wait.
pub(super) const ADMIT: &str = "\
INSERT INTO login_throttle AS kept
    (key_hash, free_from, blocked_until, day_failures, day_ends_at, known_until)
SELECT column1, column2, column3, column4, column5, column6 FROM (VALUES :rows) AS attempt
WHERE NOT EXISTS (
    SELECT 1 FROM login_throttle AS held WHERE held.key_hash IN (:keys)
    AND ((held.blocked_until > :now AND held.blocked_until <= :latest_block)
        OR (held.day_ends_at > :now AND held.day_ends_at <= :latest_day
            AND held.day_failures >= :daily))
    AND NOT (held.key_hash = :account AND EXISTS (
        SELECT 1 FROM login_throttle AS pair
        WHERE pair.key_hash = :pair AND pair.known_until > :now)))
ORDER BY column1
ON CONFLICT (key_hash) DO UPDATE SET
    (free_from, blocked_until) = (
        SELECT raised, CASE WHEN raised > :now THEN :now + :least(:longest,
            :first << CAST(((raised - :now - 1) - (raised - :now - 1) % :fade) / :fade AS integer))
            ELSE 0 END
        FROM (SELECT :least(CASE
            WHEN kept.free_from > :latest_free THEN excluded.free_from
            ELSE :greatest(kept.free_from + :fade, excluded.free_from) END, :most)
            AS raised) AS next),
    day_failures = excluded.day_failures
        + CASE WHEN kept.day_ends_at > :now AND kept.day_ends_at <= :latest_day
            THEN kept.day_failures ELSE 0 END,
    day_ends_at = CASE WHEN kept.day_ends_at > :now AND kept.day_ends_at <= :latest_day
        THEN kept.day_ends_at ELSE excluded.day_ends_at END
WHERE NOT ((kept.blocked_until > :now AND kept.blocked_until <= :latest_block)
    OR (kept.day_ends_at > :now AND kept.day_ends_at <= :latest_day
        AND kept.day_failures >= :daily))
RETURNING key_hash, blocked_until, known_until,
    (SELECT id FROM users WHERE email = :email),
    (SELECT password_hash FROM users WHERE email = :email),
    (SELECT password_changed_at FROM users WHERE email = :email)";

/// An upsert, although the rows exist, because it locks them in the given order. In the given
/// row `free_from` is the time to take back, or 0 to clear the counter. A block that another
/// attempt has caused since then stays.
pub(super) const SETTLE: &str = "\
INSERT INTO login_throttle AS kept
    (key_hash, free_from, blocked_until, day_failures, day_ends_at, known_until)
VALUES :rows
ON CONFLICT (key_hash) DO UPDATE SET
    free_from = CASE WHEN excluded.free_from = 0 THEN 0
        ELSE kept.free_from - excluded.free_from END,
    blocked_until = CASE
        WHEN excluded.free_from = 0 OR kept.blocked_until = excluded.blocked_until THEN 0
        ELSE kept.blocked_until END,
    day_failures = :greatest(kept.day_failures - excluded.day_failures, 0),
    known_until = :greatest(kept.known_until, excluded.known_until)";

/// Skips rows that a call has locked: they have not faded.
pub(super) const DELETE_FADED: &str = "\
DELETE FROM login_throttle WHERE key_hash IN (
    SELECT key_hash FROM login_throttle WHERE key_hash > :after AND key_hash <= :last
    AND free_from < :faded AND blocked_until < :faded AND day_ends_at < :faded
    AND known_until < :faded
    ORDER BY key_hash :skip_locked)";
