//! Refresh tokens with changed bits, and tokens made from a copy of the database.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use sha2::{Digest as _, Sha256};

use crate::harness::{
    Backend, Proxy, RawConnection, START, Service, Statements, TestDatabase, TokenParts,
    assert_invalid_token, both, bytes_of, data_subkey, framed, hmac, insert_sessions, logout,
    reason, refresh, refused, register, soak,
};

const DAY: Duration = Duration::from_hours(24);

/// The id of a session and its columns of bytes.
async fn dump(database: &TestDatabase, id: &str) -> Vec<Vec<u8>> {
    let columns = [
        "id",
        "handle_hash",
        "token_hash",
        "previous_token_hash",
        "sealed_successor",
    ];
    let mut values = Vec::new();
    for column in columns {
        let (hex, id) = (database.hex(column), database.id(id));
        let sql = format!("SELECT {hex} FROM sessions WHERE id = {id}");
        values.push(bytes_of(&database.text(&sql).await.expect("not NULL")));
    }
    values
}

/// The bytes that seal a successor by XOR.
fn seal_pad(secret: &[u8; 32]) -> [u8; 32] {
    hmac(secret, &data_subkey("refresh successor"))
}

/// The pads that a thief without `DATA_KEY` can compute from a secret, also one from a retired
/// token: with the public words in place of the key.
fn guessed_pads(secret: &[u8; 32]) -> [[u8; 32]; 4] {
    let words = b"refresh successor";
    let zero_root = hmac(&[0; 32], &[0; 32]);
    let zero_key = hmac(&zero_root, &[&words[..], &[1]].concat());
    [
        hmac(secret, words),
        hmac(words, secret),
        hmac(secret, b""),
        hmac(secret, &zero_key),
    ]
}

fn xor(a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
    std::array::from_fn(|n| a[n] ^ b[n])
}

fn to_16(bytes: &[u8]) -> [u8; 16] {
    bytes.try_into().expect("16 bytes")
}

fn to_32(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().expect("32 bytes")
}

/// The reason why a refresh with these bytes, which need not be UTF-8, is refused.
async fn refresh_bytes(raw: &RawConnection, token: &[u8]) -> String {
    // Field 1, length-delimited. A token is shorter than 128 bytes.
    let length = u8::try_from(token.len()).expect("short");
    let message = [&[0x0a, length], token].concat();
    let path = "/realchat.auth.v1.AuthService/Refresh";
    let answer = raw.call(path, &[], framed(&message)).await;
    let answer = answer.expect("an answer");
    let status = answer.status().expect("a status");
    reason(&status).1
}

both! {
    async fn no_flipped_bit_passes(service: Service) {
        service.client().register(register("ana@example.com")).await.unwrap();
        let token = TokenParts::random();
        let id = uuid::Uuid::now_v7().simple().to_string();
        insert_sessions(&service.database, [(id.as_str(), &token)], START + DAY, START + DAY).await;
        let raw = RawConnection::open(service.addr).await;
        let text = token.text();

        // A flipped bit in the text, at every position. Some texts are not UTF-8 then.
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone().into_bytes();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let utf8 = std::str::from_utf8(&flipped).is_ok();
            let reason = refresh_bytes(&raw, &flipped).await;
            let expected = if utf8 { "INVALID_TOKEN" } else { "INVALID_ARGUMENT" };
            assert_eq!(reason, expected, "bit {bit}");
        }
        // A flipped bit in the decoded bytes, tag and checksum included.
        for bit in 0..60 * 8 {
            let mut bytes = token.bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = format!("rcr_{}", BASE64URL.encode(bytes));
            assert_eq!(refresh_bytes(&raw, flipped.as_bytes()).await, "INVALID_TOKEN", "bit {bit}");
        }
        // A flipped bit in the handle, with the right tag: no session has that handle.
        for bit in 0..16 * 8 {
            let mut flipped = token.clone();
            flipped.handle[bit / 8] ^= 1 << (bit % 8);
            let flipped = flipped.text();
            assert_eq!(refresh_bytes(&raw, flipped.as_bytes()).await, "INVALID_TOKEN", "bit {bit}");
        }
        // None of these counts as reuse.
        let ended = "SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL";
        assert_eq!(service.database.count(ended).await, 0);
        service.client().refresh(refresh(&text)).await.expect("the session lives");

        // A flipped bit in the secret, with the right tag: that is reuse by contract.
        let sessions: Vec<_> = (0..32 * 8)
            .map(|_| (uuid::Uuid::now_v7().simple().to_string(), TokenParts::random()))
            .collect();
        let rows = sessions.iter().map(|(id, token)| (id.as_str(), token));
        insert_sessions(&service.database, rows, START + DAY, START + DAY).await;
        for (bit, (_, token)) in sessions.iter().enumerate() {
            let mut flipped = token.clone();
            flipped.secret[bit / 8] ^= 1 << (bit % 8);
            for text in [flipped.text(), token.text()] {
                assert_eq!(refresh_bytes(&raw, text.as_bytes()).await, "INVALID_TOKEN", "bit {bit}");
            }
        }
        assert_eq!(service.database.count(ended).await, 256);
    }

    async fn a_dump_of_the_database_gives_no_token(service: Service) {
        service.client().register(register("ana@example.com")).await.unwrap();
        let first = TokenParts::random();
        let id = uuid::Uuid::now_v7().simple().to_string();
        insert_sessions(&service.database, [(id.as_str(), &first)], START + DAY, START + DAY).await;
        let mut tokens = vec![first];
        for _ in 0..3 {
            let current = tokens.last().expect("the first").text();
            let answer = service.client().refresh(refresh(&current)).await.unwrap().into_inner();
            tokens.push(TokenParts::of(&answer.tokens.expect("tokens").refresh_token));
        }
        let session = dump(&service.database, &id).await;
        assert_eq!(session.len(), 5, "the id and four columns of 32 bytes");

        // Candidates for a secret: the columns and every XOR of them, each also hashed, and as
        // the key of the HMAC that seals a successor. The thief has retired tokens too.
        let mut secrets = Vec::new();
        for some in 1..1_u32 << 4 {
            let columns = session[1..].iter().enumerate();
            let chosen = columns.filter(|(n, _)| some >> n & 1 == 1).map(|(_, column)| column);
            let xor = chosen.fold([0; 32], |sum, column| xor(sum, to_32(column)));
            secrets.extend([xor, Sha256::digest(xor).into()]);
            secrets.extend(guessed_pads(&xor));
        }
        let [retired @ .., last] = &tokens[..] else { unreachable!() };
        secrets.extend(retired.iter().flat_map(|token| guessed_pads(&to_32(&token.secret))));
        for n in 0..secrets.len() {
            for column in &session[1..] {
                secrets.push(xor(secrets[n], to_32(column)));
            }
        }
        let mut handles: Vec<[u8; 16]> = vec![to_16(&session[0])];
        for column in &session[1..] {
            handles.extend([to_16(&column[..16]), to_16(&column[16..])]);
        }
        for token in &tokens {
            assert!(!handles.contains(&to_16(&token.handle)), "the handle can be read");
            assert!(!secrets.contains(&to_32(&token.secret)), "a secret can be read");
        }
        // The search works: with the key it finds the last secret.
        let pad = seal_pad(&to_32(&retired.last().expect("three").secret));
        assert!(session[1..].iter().any(|column| xor(pad, to_32(column)).as_slice() == last.secret));

        let mut tried = 0;
        let mut client = service.client();
        for handle in handles {
            for secret in secrets.iter().take(soak(60, usize::MAX)) {
                let forged = TokenParts { handle: handle.to_vec(), secret: secret.to_vec() }.text();
                assert_invalid_token(&refused(client.refresh(refresh(&forged)).await));
                tried += 1;
            }
        }
        eprintln!("{} secrets and {tried} tokens tried", secrets.len());
        // None of these attempts ended the session.
        client.refresh(refresh(&last.text())).await.expect("the session lives");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_token_never_reaches_the_database() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    let statements = Statements::default();
    let proxy = Proxy::recording(&database, Some(statements.clone())).await;
    let service = Service::start(database, &["--database-url", &proxy.url]).await;
    let ana = service.sign_up("ana@example.com").await;
    let of_sessions = || {
        let sent = statements.take().into_iter();
        sent.filter(|sql| sql.contains("sessions")).count()
    };
    assert!(of_sessions() > 0, "the recorder works");

    // The handle of a session that lives, and any other one.
    for token in [
        TokenParts::of(&ana.tokens.refresh_token),
        TokenParts::random(),
    ] {
        let genuine = &token.bytes()[48..56];
        for flipped in 0..64 {
            let mut tag: [u8; 8] = genuine.try_into().expect("8 bytes");
            tag[flipped / 8] ^= 1 << (flipped % 8);
            let forged = token.forged(tag);
            assert_invalid_token(&refused(service.client().refresh(refresh(&forged)).await));
            assert_invalid_token(&refused(service.client().logout(logout(&forged)).await));
        }
    }
    assert_eq!(of_sessions(), 0);
    service
        .refresh(&ana.tokens.refresh_token)
        .await
        .expect("the session lives");
}
