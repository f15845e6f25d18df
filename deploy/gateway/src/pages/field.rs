//! The fields of the forms, each with its label, hint and error.

use maud::{Markup, html};

use super::failure::Failure;

/// A field of a form. Its name is the service's, whose errors name fields.
#[derive(Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    label: &'static str,
    hint: Option<&'static str>,
    kind: &'static str,
    /// What a password manager fills in or keeps.
    autocomplete: &'static str,
    keyboard: Option<&'static str>,
}

/// Not of the type `email`, which changes and refuses addresses in other scripts.
pub const EMAIL: Field = Field {
    name: "email",
    label: "Email address",
    hint: None,
    kind: "text",
    autocomplete: "username",
    keyboard: Some("email"),
};

/// Not a user name: the current one stays in the password manager until the change is confirmed.
pub const NEW_EMAIL: Field = Field {
    name: "new_email",
    label: "New email address",
    autocomplete: "email",
    ..EMAIL
};

pub const PASSWORD: Field = Field {
    name: "password",
    label: "Password",
    hint: None,
    kind: "password",
    autocomplete: "current-password",
    keyboard: None,
};

/// A new password, by the name that Register gives it.
pub const CHOSEN_PASSWORD: Field = Field {
    name: PASSWORD.name,
    label: PASSWORD.label,
    ..NEW_PASSWORD
};

pub const CURRENT_PASSWORD: Field = Field {
    name: "current_password",
    label: "Current password",
    ..PASSWORD
};

pub const NEW_PASSWORD: Field = Field {
    name: "new_password",
    label: "New password",
    hint: Some("At least 8 characters. Three or four unusual words work well."),
    autocomplete: "new-password",
    ..PASSWORD
};

/// The token of a mail, for a person who has only its text.
pub const CODE: Field = Field {
    name: "token",
    label: "Code from the mail",
    hint: Some("It begins with rcm_."),
    kind: "text",
    autocomplete: "off",
    keyboard: None,
};

/// A label, a hint, the error and the input. A password is never filled in.
pub fn input(field: Field, value: &str, failure: &Failure) -> Markup {
    let Field { name, .. } = field;
    let error = failure.at(name);
    let is_password = field.kind == "password";
    let described = [
        field.hint.map(|_| format!("{name}-hint")),
        error.map(|_| format!("{name}-error")),
    ];
    let described = described
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ");
    let described = Some(described).filter(|ids| !ids.is_empty());
    html! {
        div.field.invalid[error.is_some()] {
            label for=(name) { (field.label) }
            @if let Some(hint) = field.hint { p.hint id={ (name) "-hint" } { (hint) } }
            @if let Some(error) = error { p.error id={ (name) "-error" } { (error) } }
            input id=(name) name=(name) type=(field.kind) autocomplete=(field.autocomplete)
                value=[(!is_password).then_some(value)] required
                inputmode=[field.keyboard]
                autocapitalize="none" spellcheck="false"
                aria-describedby=[described] aria-invalid=[error.map(|_| "true")]
                autofocus[error.is_some()];
        }
    }
}

/// The token of a mail: hidden if the link had it, else a field.
pub fn token(value: &str, failure: &Failure) -> Markup {
    html! {
        @if value.is_empty() {
            (input(CODE, value, failure))
        } @else {
            input type="hidden" name="token" value=(value);
        }
    }
}

/// The name of the account for password managers: they keep the new password with it.
pub fn username(email: &str) -> Markup {
    html! {
        input.unseen type="text" name="email" autocomplete="username" value=(email) readonly
            tabindex="-1" aria-hidden="true";
    }
}
