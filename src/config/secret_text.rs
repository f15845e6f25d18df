//! The text of a secret, the same by variable and by file.
//!
//! One line break at the end is dropped: editors and `echo` write it. All else that cannot be
//! seen, or that a shell or an editor puts around a text, is refused. As a part of the secret it
//! would make another key on one replica than on the next, and nobody could see why.

use crate::model::unicode::is_invisible;

const BYTE_ORDER_MARK: char = '\u{FEFF}';
/// Of 32 random bytes about 30 are different, of 32 hexadecimal digits about 14.
const MOST_REPEATED: usize = 4;
const QUOTES: [char; 8] = ['"', '\'', '`', '“', '”', '„', '‘', '’'];

pub(super) fn without_line_break(text: &str) -> &str {
    match text.strip_suffix('\n') {
        Some(line) => line.strip_suffix('\r').unwrap_or(line),
        None => text,
    }
}

/// Checks a secret, or one of a list. An error says what to change and not what was found.
pub(super) fn check(text: &str) -> Result<(), String> {
    let problem = if text.contains(BYTE_ORDER_MARK) {
        "has a byte order mark: save it as UTF-8 without one"
    } else if text.trim() != text {
        "has white space before or after it"
    } else if is_quoted(text) {
        "is in quotes: leave them out"
    } else if text
        .chars()
        .any(|c| c != ' ' && (c.is_whitespace() || is_invisible(c)))
    {
        "has a line break or another invisible character in it"
    } else {
        return Ok(());
    };
    Err(problem.to_owned())
}

/// One quote is enough before `base64:`, which it would turn into a part of a text.
fn is_quoted(text: &str) -> bool {
    let is_pair = text.chars().count() > 1 && text.starts_with(QUOTES) && text.ends_with(QUOTES);
    let inner = text.trim_start_matches(QUOTES);
    is_pair || inner != text && inner.starts_with("base64:")
}

/// Refuses a key that repeats a few bytes, such as 32 equal characters.
pub(super) fn check_variety(secret: &[u8]) -> Result<(), String> {
    let mut bytes = secret.to_vec();
    bytes.sort_unstable();
    bytes.dedup();
    let is_varied = bytes.len() > MOST_REPEATED;
    is_varied.then_some(()).ok_or_else(|| {
        "repeats a few characters: make a random one with `auth-service keys generate`".into()
    })
}
