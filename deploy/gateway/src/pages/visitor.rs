//! What the pages know of the browser that asks.

use std::{convert::Infallible, net::IpAddr};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{
        HeaderMap,
        header::{ACCEPT_LANGUAGE, USER_AGENT},
        request::Parts,
    },
};

use crate::{cookies, routes::Client};

pub struct Visitor {
    /// `None` only if the server was started without connection info.
    pub address: Option<IpAddr>,
    /// For the list of sessions, such as "Firefox on Windows". Empty if unknown.
    pub device_name: String,
    /// Empty if the device is not a known one.
    pub device_token: String,
    /// The language that the browser prefers, for mails. Empty if it names none.
    pub locale: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let client = Client::from_request_parts(parts, state).await.ok();
        let headers = &parts.headers;
        let user_agent = text(headers, USER_AGENT.as_str());
        Ok(Self {
            address: client.map(|ConnectInfo(client)| client.ip()),
            device_name: device_name(user_agent),
            device_token: cookies::DEVICE.get(headers).unwrap_or_default(),
            locale: locale(text(headers, ACCEPT_LANGUAGE.as_str())),
        })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// Fixed words only, so that a forged header cannot write into the list of sessions.
fn device_name(user_agent: &str) -> String {
    // The first match counts: Edge and Opera also say that they are Chrome, and Chrome Safari.
    let browsers = [
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("FxiOS/", "Firefox"),
        ("CriOS/", "Chrome"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ];
    let systems = [
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("Mac OS X", "Mac"),
        ("CrOS", "ChromeOS"),
        ("Linux", "Linux"),
    ];
    let find = |names: &[(&str, &'static str)]| {
        let found = names.iter().find(|(part, _)| user_agent.contains(part));
        found.map(|(_, name)| *name)
    };
    match (find(&browsers), find(&systems)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        (None, None) => String::new(),
    }
}

/// The first language tag. The service refuses a malformed one, so this returns none then.
fn locale(accept_language: &str) -> String {
    let first = accept_language.split([',', ';']).next().unwrap_or_default();
    let first = first.trim();
    let is_subtag = |part: &str| {
        (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let begins_with_letters = first
        .split('-')
        .next()
        .is_some_and(|language| language.bytes().all(|byte| byte.is_ascii_alphabetic()));
    let is_tag = first.len() <= 35 && begins_with_letters && first.split('-').all(is_subtag);
    if is_tag {
        first.to_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_after_its_browser_and_system() {
        let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                      Chrome/140.0.0.0 Safari/537.36";
        assert_eq!(device_name(chrome), "Chrome on Linux");
        assert_eq!(device_name(&format!("{chrome} Edg/140.0")), "Edge on Linux");
        let iphone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 \
                      (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1";
        assert_eq!(device_name(iphone), "Safari on iPhone");
        assert_eq!(device_name("curl/8 <b>\u{202E}"), "");
    }

    #[test]
    fn a_locale_is_the_first_well_formed_tag() {
        assert_eq!(locale("pt-BR,pt;q=0.9,en;q=0.8"), "pt-BR");
        assert_eq!(locale("de;q=1"), "de");
        for malformed in [
            "",
            "*",
            "en_US",
            "1en",
            "en--us",
            "a\u{e9}",
            &"a".repeat(36),
        ] {
            assert_eq!(locale(malformed), "", "{malformed}");
        }
    }
}
