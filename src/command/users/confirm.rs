//! The question before an act that cannot be undone.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use anyhow::bail;
use auth_service::model::User;

use super::{Usage, table::visible};

/// Longer than any address.
const LONGEST_ANSWER: u64 = 1024;

/// Without a terminal nobody can answer.
pub(super) fn require_terminal() -> Result<(), Usage> {
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        return Ok(());
    }
    let what = "the deletion cannot be undone: confirm it with --yes";
    Err(Usage(what.to_owned()))
}

pub(super) fn ask(user: &User) -> anyhow::Result<()> {
    let (email, id) = (&user.email, user.id);
    let shown = visible(email);
    let question = format!("Delete {shown} ({id}) for good? Type the address or yes: ");
    io::stderr().write_all(question.as_bytes())?;
    let mut answer = String::new();
    let mut input = io::stdin().lock().take(LONGEST_ANSWER);
    input.read_line(&mut answer)?;
    if !is_consent(&answer, email) {
        bail!("nothing was deleted");
    }
    Ok(())
}

fn is_consent(answer: &str, email: &str) -> bool {
    let answer = answer.trim();
    answer.eq_ignore_ascii_case("yes") || answer.to_lowercase() == email.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_and_the_address_are_consent() {
        let is_consent = |answer| is_consent(answer, "ana@example.com");
        assert!(is_consent("yes\n") && is_consent("YES") && is_consent(" Ana@Example.com\n"));
        for answer in [
            "",
            "\n",
            "y\n",
            "no\n",
            "yes please",
            "bo@example.com",
            "ana",
        ] {
            assert!(!is_consent(answer), "{answer:?}");
        }
    }
}
