//! The words of the mails. To add a language, add a `Language` and its tag in `super::language`.

use super::Purpose;

pub struct Language {
    /// BCP 47, for HTML's `lang`.
    pub tag: &'static str,
    /// Units of which there is more than one.
    pub minutes: &'static str,
    pub hours: &'static str,
    pub days: &'static str,
    pub expires: &'static str,
    /// Before the token, for readers who cannot follow the link.
    pub code: &'static str,
    verify_email: Words,
    reset_password: Words,
    change_email: Words,
    revert_email: Words,
}

/// `{{product}}` and `{{life}}` are replaced in all words.
pub struct Words {
    pub subject: &'static str,
    pub lead: &'static str,
    /// The text of the link.
    pub action: &'static str,
    /// For a reader who did not ask for it.
    pub ignore: &'static str,
}

impl Language {
    pub fn words(&self, purpose: Purpose) -> &Words {
        match purpose {
            Purpose::VerifyEmail => &self.verify_email,
            Purpose::ResetPassword => &self.reset_password,
            Purpose::ChangeEmail => &self.change_email,
            Purpose::RevertEmail => &self.revert_email,
        }
    }
}

pub static ENGLISH: Language = Language {
    tag: "en",
    minutes: "minutes",
    hours: "hours",
    days: "days",
    expires: "The link works for {{life}} and only once.",
    code: "If the page asks for a code, copy this one:",
    verify_email: Words {
        subject: "Confirm your e-mail address for {{product}}",
        lead: "Please confirm that this is your e-mail address for {{product}}.",
        action: "Confirm the address",
        ignore: "If you did not sign up for {{product}}, ignore this mail.",
    },
    reset_password: Words {
        subject: "Choose a new {{product}} password",
        lead: "Somebody asked to replace the password of your {{product}} account. \
               If it was you, choose a new one.",
        action: "Choose a new password",
        ignore: "If it was not you, ignore this mail: your password stays as it is.",
    },
    change_email: Words {
        subject: "Confirm your new e-mail address for {{product}}",
        lead: "Please confirm that your {{product}} account should use this e-mail address \
               from now on.",
        action: "Use this address",
        ignore: "If you did not ask for this, ignore this mail: nothing changes.",
    },
    revert_email: Words {
        subject: "The e-mail address of your {{product}} account was changed",
        lead: "Your {{product}} account now has another e-mail address. If you did not change \
               it, take your account back: this address returns, all devices are signed out, \
               and you choose a new password.",
        action: "Take my account back",
        ignore: "If you changed it yourself, ignore this mail.",
    },
};

pub static GERMAN: Language = Language {
    tag: "de",
    minutes: "Minuten",
    hours: "Stunden",
    days: "Tage",
    expires: "Gültigkeit des Links: {{life}}, nur einmal verwendbar.",
    code: "Falls die Seite nach einem Code fragt, kopieren Sie diesen:",
    verify_email: Words {
        subject: "Bestätigen Sie Ihre E-Mail-Adresse für {{product}}",
        lead: "Bitte bestätigen Sie, dass dies Ihre E-Mail-Adresse für {{product}} ist.",
        action: "Adresse bestätigen",
        ignore: "Falls Sie sich nicht bei {{product}} angemeldet haben, ignorieren Sie diese Mail.",
    },
    reset_password: Words {
        subject: "Wählen Sie ein neues Passwort für {{product}}",
        lead: "Jemand möchte das Passwort Ihres Kontos bei {{product}} ersetzen. \
               Falls Sie das waren, wählen Sie ein neues.",
        action: "Neues Passwort wählen",
        ignore: "Falls Sie es nicht waren, ignorieren Sie diese Mail: Ihr Passwort bleibt, wie es ist.",
    },
    change_email: Words {
        subject: "Bestätigen Sie Ihre neue E-Mail-Adresse für {{product}}",
        lead: "Bitte bestätigen Sie, dass Ihr Konto bei {{product}} ab jetzt diese \
               E-Mail-Adresse verwenden soll.",
        action: "Diese Adresse verwenden",
        ignore: "Falls Sie das nicht wollten, ignorieren Sie diese Mail: Es ändert sich nichts.",
    },
    revert_email: Words {
        subject: "Die E-Mail-Adresse Ihres Kontos bei {{product}} wurde geändert",
        lead: "Ihr Konto bei {{product}} hat jetzt eine andere E-Mail-Adresse. Falls Sie das nicht \
               waren, holen Sie Ihr Konto zurück: Diese Adresse gilt wieder, alle Geräte werden \
               abgemeldet, und Sie wählen ein neues Passwort.",
        action: "Mein Konto zurückholen",
        ignore: "Falls Sie die Adresse selbst geändert haben, ignorieren Sie diese Mail.",
    },
};
