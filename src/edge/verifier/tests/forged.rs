//! Random changes of a valid token, and random text.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn a_token_with_one_other_byte_is_refused(
        at in any::<prop::sample::Index>(),
        byte in 0..128_u8,
    ) {
        let token = valid();
        let mut bytes = token.clone().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        let other = String::from_utf8(bytes).unwrap();
        prop_assert!(edge().verify(&other, iat()).is_err());
    }

    #[test]
    fn a_token_with_one_letter_more_or_less_is_refused(
        at in any::<prop::sample::Index>(),
        letter in any::<char>(),
    ) {
        let mut token = valid();
        let at = at.index(token.len());
        let removed = token.remove(at);
        prop_assert!(edge().verify(&token, iat()).is_err());
        token.insert(at, removed);
        token.insert(at, letter);
        prop_assert!(edge().verify(&token, iat()).is_err());
    }

    #[test]
    fn a_part_of_a_token_is_refused(from in 0..300_usize, to in 0..300_usize) {
        let token = valid();
        let part = token.get(from..to).unwrap_or_default();
        prop_assert!(edge().verify(part, iat()).is_err());
    }

    #[test]
    fn any_text_is_refused_without_a_panic(text in any::<String>(), parts in "[\\w.=-]{0,200}") {
        prop_assert!(edge().verify(&text, iat()).is_err());
        prop_assert!(edge().verify(&parts, iat()).is_err());
    }

    #[test]
    fn any_signed_text_is_read_without_a_panic(
        header in any::<Vec<u8>>(),
        payload in "[{}\\[\\]:,\"0-9a-z\\\\.e+-]{0,200}",
        more in any::<String>(),
    ) {
        let text = BASE64URL.encode(HEADER) + "." + &BASE64URL.encode(&payload);
        prop_assert!(edge().verify(&sign(&text, KEY), iat()).is_err());
        let text = BASE64URL.encode(header) + "." + &BASE64URL.encode(PAYLOAD);
        prop_assert!(edge().verify(&sign(&text, KEY), iat()).is_err());
        let _ = edge().verify(&signed(HEADER, &with(PAYLOAD, "}", &more), KEY), iat());
    }

    /// Also where the numbers overflow.
    #[test]
    fn the_times_are_checked_as_if_numbers_had_no_end(
        [iat, exp, nbf, now] in prop::array::uniform4(time()),
    ) {
        let times = format!(r#""iat":{iat},"exp":{exp},"nbf":{nbf}"#);
        let payload = with(PAYLOAD, r#""iat":1764500000,"exp":1764503600"#, &times);
        let Some(clock) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(now)) else {
            return Ok(());
        };
        let [iat, exp, nbf, now] = [iat, exp, nbf, now].map(i128::from);
        let has_begun = iat <= now + 60 && nbf <= now + 60;
        let expected = now < exp && has_begun && (0..=3600).contains(&(exp - iat));
        let verdict = edge().verify(&signed(HEADER, &payload, KEY), clock);
        // A time may be too large for this machine.
        let is_known = i64::try_from(exp).is_ok();
        prop_assert_eq!(verdict.is_ok(), expected && is_known, "{:?}", verdict);
    }
}

fn time() -> impl Strategy<Value = u64> {
    let around = |time: u64| (0..4_000_u64).prop_map(move |by| time.saturating_add(by));
    prop_oneof![
        around(0),
        around(1_764_500_000),
        around(i64::MAX as u64 - 2_000),
        around(u64::MAX - 3_000),
    ]
}
