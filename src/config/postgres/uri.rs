//! Splits a connection URL into parameters, as libpq's `conninfo_uri_parse_options` does.

/// The decoded parameters, the parts before the `?` first. A later one of the same name wins. A
/// password may be any bytes.
pub(super) type Given = Vec<(String, Vec<u8>)>;

pub(super) fn parse(url: &str) -> Result<Given, String> {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let mut given = Given::new();
    let mut keep = |name: &str, encoded: &str| {
        if !encoded.is_empty() {
            given.push((name.to_owned(), decode(encoded)?));
        }
        Ok::<_, String>(())
    };
    // An `@` behind a `/` belongs to no user name.
    let start = rest
        .find(['@', '/'])
        .filter(|at| rest[*at..].starts_with('@'));
    let rest = match start {
        Some(at) => {
            let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
            keep("user", user)?;
            keep("password", password)?;
            &rest[at + 1..]
        }
        None => rest,
    };
    let (places, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (hosts, ports) = split_places(places)?;
    keep("host", &hosts)?;
    keep("port", &ports)?;
    let (name, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    keep("dbname", name.strip_prefix('/').unwrap_or(name))?;
    // One `&` may end the list.
    let parameters = parameters.strip_suffix('&').unwrap_or(parameters);
    for parameter in parameters.split('&').filter(|_| !parameters.is_empty()) {
        given.push(split_parameter(parameter)?);
    }
    Ok(given)
}

/// The hosts and the ports of `host:port,..`, each as a list with as many entries.
fn split_places(places: &str) -> Result<(String, String), String> {
    let split = |place| split_place(place).ok_or("host has a malformed address in brackets");
    let places = places.split(',').map(split);
    let (hosts, ports): (Vec<_>, Vec<_>) =
        places.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    Ok((hosts.join(","), ports.join(",")))
}

fn split_place(place: &str) -> Option<(&str, &str)> {
    let Some(address) = place.strip_prefix('[') else {
        return Some(place.split_once(':').unwrap_or((place, "")));
    };
    let (host, rest) = address
        .split_once(']')
        .filter(|(host, _)| !host.is_empty())?;
    match rest {
        "" => Some((host, "")),
        _ => Some((host, rest.strip_prefix(':')?)),
    }
}

fn split_parameter(parameter: &str) -> Result<(String, Vec<u8>), String> {
    let (name, value) = parameter.split_once('=').unwrap_or_default();
    if name.is_empty() || value.contains('=') {
        return Err(
            "must have parameters like ?name=value&name=value (write = in a value as %3D)".into(),
        );
    }
    let name = String::from_utf8(decode(name)?).map_err(|_| "has an unknown parameter")?;
    let value = decode(value)?;
    // libpq's concession to URLs of JDBC.
    Ok(match (name.as_str(), value.as_slice()) {
        ("ssl", b"true") => ("sslmode".to_owned(), b"require".to_vec()),
        _ => (name, value),
    })
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let high = bytes.next().and_then(digit);
                let low = bytes.next().and_then(digit);
                let code = high.zip(low).map(|(high, low)| 16 * high + low);
                let code = code.and_then(|code| u8::try_from(code).ok());
                code.filter(|code| *code != 0).ok_or(
                    "has a % that two hexadecimal digits do not follow (write % as %25), or %00",
                )?
            }
            byte => byte,
        });
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> String {
        let given = parse(url).unwrap();
        let pairs = given
            .iter()
            .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)));
        pairs.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_url_has_the_parts_that_libpq_finds() {
        for (url, expected) in [
            ("postgres://", ""),
            ("postgresql:///", ""),
            ("postgres://h", "host=h"),
            ("postgres://h:1/db", "host=h port=1 dbname=db"),
            ("postgres://h?user=u", "host=h user=u"),
            ("postgres://h/?user=u&", "host=h user=u"),
            ("postgres://:p@h", "password=p host=h"),
            (
                "postgres://u:p:w?@h/a/b",
                "user=u password=p:w? host=h dbname=a/b",
            ),
            ("postgres://u%40x:%2F%3a@h", "user=u@x password=/: host=h"),
            ("postgres://[::1]/db", "host=::1 dbname=db"),
            ("postgres://[::1]:7,h,i:9", "host=::1,h,i port=7,,9"),
            ("postgres://%2Frun%2Fpg/db", "host=/run/pg dbname=db"),
            (
                "postgres://h/db?ssl=true&ssl=yes",
                "host=h dbname=db sslmode=require ssl=yes",
            ),
            ("postgres://h/a@b", "host=h dbname=a@b"),
            (
                "postgres://h?options=-c%20a%3Db+c",
                "host=h options=-c a=b+c",
            ),
        ] {
            // A list of one empty port is no port.
            assert_eq!(parsed(url), expected, "{url}");
        }
        for url in [
            "postgres://h?x",
            "postgres://h?=x",
            "postgres://h?x=y=z",
            "postgres://h?a=b&&",
            "postgres://h%",
            "postgres://h%4",
            "postgres://h%zz",
            "postgres://h%00",
            "postgres://[::1",
            "postgres://[]",
            "postgres://[::1]x",
        ] {
            assert!(parse(url).is_err(), "{url}");
        }
    }
}
