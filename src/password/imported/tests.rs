use proptest::prelude::*;

use super::*;
use crate::password::Password;

/// Published, with their passwords: by PHP's manual, Spring Security's reference, the test data of
/// Python's `bcrypt`, and Laravel's factory of users.
const PUBLISHED: [(&str, &str); 4] = [
    (
        "$2a$07$usesomesillystringfore2uDLvp1Ii2e./U9C8sBjqp8I90dH6hi",
        "rasmuslerdorf",
    ),
    (
        "$2a$10$dXJ3SW6G7P50lGmMkkmwe.20cQQubK3.HZWzG3YB1tlRy.fqvM/BG",
        "password",
    ),
    (
        "$2b$04$cVWp4XaNU8a4v1uMRum2SO026BWLIoQMD/TXg5uZV.0P.uO8m3YEm",
        "Kk4DQuMMfZL9o",
    ),
    (
        "$2y$10$92IXUNpkjO0rOQ5byMi.Ye4oKoEa3Ro9llC/.og/at2.uheWG/igi",
        "password",
    ),
];

/// The beginnings of hashes in other formats.
const OTHERS: &[(&str, &str)] = &[
    (
        "$2x$12$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8",
        "$2x$, a faulty variant of bcrypt",
    ),
    (
        "{bcrypt}$2x$12$If6bvum7DFjUnE9p2uDeDu0YHzrH",
        "$2x$, a faulty variant of bcrypt",
    ),
    (
        "$2$05$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8",
        "$2$, the first version of bcrypt",
    ),
    (
        "bcrypt_sha256$$2b$12$If6bvum7DFjUnE9p2uDeDu",
        "bcrypt of a SHA-256 digest",
    ),
    (
        "$bcrypt-sha256$v=2,t=2b,r=12$n79VH.0Q2TMWmt",
        "bcrypt of a SHA-256 digest",
    ),
    (
        "bcrypt$$2b$12$If6bvum7DFjUnE9p2uDeDu0YHzrHM",
        "Django's bcrypt, whose prefix must be removed",
    ),
    ("$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ", "argon2id"),
    ("$argon2i$v=19$m=65536,t=3,p=4$c29tZXNhbHQ", "argon2i"),
    ("$argon2d$v=19$m=65536,t=3,p=4$c29tZXNhbHQ", "argon2d"),
    ("argon2$argon2id$v=19$m=102400,t=2,p=8$UUZ", "argon2"),
    ("{argon2}$argon2id$v=19$m=4096,t=3,p=1$c29", "argon2"),
    ("{argon2@SpringSecurity_v5_8}$argon2id$v=1", "argon2"),
    ("{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$", "argon2id"),
    ("$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lq", "scrypt"),
    ("$7$CU..../....If6bvum7DFjUnE9p2uDeDu$0YHzrH", "scrypt"),
    (
        "$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=ou9t",
        "Firebase's scrypt",
    ),
    ("{scrypt}$e0801$8bWJaSu2IKSn9Z9kM+TPXfOc/9b", "scrypt"),
    ("scrypt:32768:8:1$k7Lbq3kxJ4yvCzRZ$a1b2c3d4", "scrypt"),
    ("pbkdf2_sha256$260000$Xh0aSq9n1l9x$yJb9o0s=", "PBKDF2"),
    ("$pbkdf2-sha256$29000$N2YMIWQsBWBMae09x1jrPQ", "PBKDF2"),
    ("{pbkdf2}5d923b44a6d129f3ddf3e3c8d29412723dc", "PBKDF2"),
    ("pbkdf2:sha256:600000$k7Lbq3kxJ4yv$a1b2c3d4", "PBKDF2"),
    ("$y$j9T$If6bvum7DFjUnE9p2uDeDu$0YHzrHM6tfiqN", "yescrypt"),
    (
        "$gy$j9T$If6bvum7DFjUnE9p2uDeDu$0YHzrHM6tfiq",
        "gost-yescrypt",
    ),
    ("$1$If6bvum7$DFjUnE9p2uDeDu0YHzrHM6", "md5-crypt"),
    (
        "$apr1$If6bvum7$DFjUnE9p2uDeDu0YHzrHM6",
        "md5-crypt of Apache",
    ),
    (
        "$5$rounds=5000$If6bvum7$DFjUnE9p2uDeDu0YHzr",
        "sha256-crypt",
    ),
    (
        "$6$If6bvum7DFjUnE9p$2uDeDu0YHzrHM6tf.iqN8.y",
        "sha512-crypt",
    ),
    ("$P$9IQRaTwmfeRo7ud9Fh4E2PdI0S3r.L0", "phpass"),
    ("$H$9IQRaTwmfeRo7ud9Fh4E2PdI0S3r.L0", "phpass"),
    (
        "$S$DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILE",
        "Drupal's SHA-512",
    ),
    ("{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", "SHA"),
    ("{SSHA}0c0blFTXXNuAMHECS4uxrj3ZieMoWImr", "salted SHA"),
    ("{MD5}CY9rzUYh03PK3k6DJie09g==", "MD5"),
    ("{SMD5}4QWGWZpj9GCmfuqEvm8HtZhZS6E=", "salted MD5"),
    (
        "{CRYPT}$6$If6bvum7DFjUnE9p$2uDeDu0YHzrHM6tf",
        "LDAP's crypt",
    ),
    ("{noop}hunter2", "plain text"),
];

const DIGITS: &str = "If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";

fn imported(text: &str) -> String {
    let hash = PasswordHash::import(text);
    hash.expect("a bcrypt hash").as_str().to_owned()
}

fn refused(text: &str) -> String {
    let refused = PasswordHash::import(text).err();
    refused.unwrap_or_else(|| panic!("{text}")).to_string()
}

fn assert_is_named(text: &str, name: &str) {
    let expected = format!("the format is {name}; only bcrypt is supported");
    assert_eq!(refused(text), expected, "{text}");
}

fn computes(hash: &PasswordHash, password: &str) -> bool {
    let mut lanes = bcrypt_lanes::Lanes::default();
    lanes.join(&hash.work(Password::of(password).key().unwrap()), ());
    lanes.advance(u32::MAX);
    lanes.complete()[0].1 == *hash.digest()
}

#[test]
fn published_hashes_of_other_systems_match_their_passwords() {
    for (text, password) in PUBLISHED {
        let hash = PasswordHash::import(text).unwrap();
        assert_eq!(hash.as_str(), text);
        assert!(bcrypt::verify(password, text).unwrap(), "{text}");
        assert!(computes(&hash, password), "{text}");
        assert!(!computes(&hash, "another"), "{text}");
    }
}

#[test]
fn the_prefix_of_spring_security_is_removed() {
    for version in ["2a", "2b", "2y"] {
        let hash = format!("${version}$12${DIGITS}");
        for prefix in ["{bcrypt}", "{BCRYPT}", "{Bcrypt}", ""] {
            assert_eq!(imported(&format!("{prefix}{hash}")), hash);
        }
    }
}

#[test]
fn costs_from_4_to_16_are_imported_and_others_named() {
    for cost in 4..=16 {
        let text = format!("$2b${cost:02}${DIGITS}");
        assert_eq!(PasswordHash::import(&text).unwrap().cost(), cost);
    }
    for cost in ["00", "03", "17", "31", "99"] {
        let cost_number: u32 = cost.parse().unwrap();
        assert_eq!(
            refused(&format!("{{bcrypt}}$2y${cost}${DIGITS}")),
            format!("the cost {cost_number} is not between 4 and 16")
        );
    }
}

#[test]
fn bits_that_bcrypt_does_not_use_become_zero() {
    // PHP's manual gives the salt `usesomesillystringfors`, whose last character is also an `e`.
    let (canonical, password) = PUBLISHED[0];
    let salt = canonical.replace("fore2u", "fors2u");
    let digest = format!("{}j", canonical.strip_suffix('i').unwrap());
    for written in [salt, digest] {
        assert!(
            bcrypt::verify(password, &written).is_err(),
            "the crate refuses it"
        );
        assert_eq!(imported(&written), canonical);
    }
}

#[test]
fn a_damaged_bcrypt_hash_is_malformed() {
    let hash = format!("$2b$12${DIGITS}");
    for damaged in [
        hash[..59].to_owned(),
        format!("{hash}."),
        format!("{hash}\n"),
        hash.replace("$12$", "$+9$"),
        hash.replace("$12$", "$1x$"),
        hash.replace("$12$", "$012$"),
        hash.replace("$12$", "$8$"),
        hash.replace("$12$", "$12"),
        hash.replace("If6b", "If!b"),
        hash.replace("If6b", "I\u{e9}b"),
        hash.replace("uDeDu0", "uDeD\u{e9}"),
        "$2a$".to_owned(),
        "{bcrypt}".to_owned(),
        "{bcrypt}hunter2".to_owned(),
        format!("{{bcrypt}}{{bcrypt}}{hash}"),
        format!("$2b$31${}", &DIGITS[1..]),
    ] {
        assert_eq!(refused(&damaged), "a malformed bcrypt hash", "{damaged}");
    }
}

#[test]
fn other_formats_are_refused_by_name() {
    for (text, name) in OTHERS {
        assert_is_named(text, name);
    }
}

#[test]
fn a_digest_without_a_salt_is_refused_by_name() {
    let [md5, sha1, sha256, sha512] = [32, 40, 64, 128].map(|digits| "5f".repeat(digits / 2));
    for (text, name) in [
        (md5.as_str(), "a bare MD5 digest"),
        (sha1.as_str(), "a bare SHA-1 digest"),
        (&sha256.to_uppercase(), "a bare SHA-256 digest"),
        (sha512.as_str(), "a bare SHA-512 digest"),
    ] {
        assert_is_named(text, name);
    }
}

#[test]
fn a_text_without_a_marker_has_an_unknown_format() {
    for text in [
        "",
        "hunter2",
        "$",
        "$2",
        "$2A$12$",
        " $2b$12$",
        "\u{e9}\u{e9}\u{e9}\u{e9}",
        // Firebase's scrypt is bare Base64.
        "V358E8LdWJXAO7muq0CufVpEOXaj8aFiC7T/rcaGieN04q/ZPJ08WhJEHGjj9lz/2TT+/86N5VjVoc5DdBhBiw==",
        &"f".repeat(1 << 20),
        &"5f".repeat(17),
    ] {
        assert_eq!(refused(text), "an unknown format; only bcrypt is supported");
    }
}

proptest! {
    #[test]
    fn what_is_imported_reads_back(
        version in "2[aby]", cost in COSTS, salt in "[./A-Za-z0-9]{22}", digest in "[./A-Za-z0-9]{31}",
    ) {
        let text = format!("${version}${cost:02}${salt}{digest}");
        let hash = PasswordHash::import(&text).unwrap();
        // Only the last character of the salt and that of the digest can change.
        let mut same = text.clone();
        for at in [28, 59] {
            same.replace_range(at..=at, &hash.as_str()[at..=at]);
        }
        prop_assert_eq!(&same, hash.as_str());
        let stored = PasswordHash::parse(hash.as_str()).unwrap();
        prop_assert_eq!((stored.cost(), stored.digest()), (cost, hash.digest()));
        prop_assert_eq!(&imported(hash.as_str()), hash.as_str());
    }

    #[test]
    fn no_text_makes_the_import_panic_and_no_refusal_repeats_it(
        text in r"(\{bcrypt\})?(\$2[abxy]\$)?[0-9$]{0,4}.{0,70}",
    ) {
        if let Err(refused) = PasswordHash::import(&text) {
            let named = FORMATS.iter().map(|(_, name)| *name).chain(DIGESTS.map(|(_, name)| name));
            let is_fixed = match refused {
                ImportedHashError::Cost(cost) => cost < 100,
                ImportedHashError::Format(name) => named.into_iter().any(|known| known == name),
                ImportedHashError::Malformed | ImportedHashError::Unknown => true,
            };
            prop_assert!(is_fixed);
        }
    }
}
