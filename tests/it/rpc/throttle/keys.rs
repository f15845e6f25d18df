//! A dump of the counters shows no address, not even to one who tries all of them.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::{ANA, Outcome::Wrong, device_of, guess, on_device, send, with_ana, wrong};
use crate::harness::{TestDatabase, both, bytes_of};

const ADDRESS: [u8; 4] = [192, 0, 2, 1];

/// What one may guess that is hashed, with the kinds of this version and of earlier ones.
fn guesses() -> Vec<Vec<u8>> {
    let identities: [&[u8]; 5] = [
        ANA.as_bytes(),
        &ADDRESS,
        b"192.0.2.1",
        b"ana@example.com\0",
        b"",
    ];
    let kinds: [&[u8]; 12] = [
        b"",
        b"account",
        b"account\0",
        b"network",
        b"network\0",
        b"address\0\0",
        b"pair\0",
        b"throttle",
        &[2],
        &[3, 32],
        b"device",
        b"registration\0\0",
    ];
    let ends: [&[u8]; 3] = [b"", b"\0", &[0, 192, 0, 2, 1]];
    let mut guesses = Vec::new();
    for identity in identities {
        for kind in kinds {
            guesses.extend(ends.map(|end| [kind, identity, end].concat()));
        }
    }
    guesses
}

fn hmac_of(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length");
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

both! {
    async fn the_key_of_a_counter_is_no_hash_that_one_can_try(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        let device = device_of(&service, ANA).await;
        assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wrong);
        assert_eq!(send(&service, "", on_device(&device, wrong(ANA))).await, Wrong);
        let keys = format!("SELECT {} FROM login_throttle", service.database.hex("key_hash"));
        let keys = service.database.texts(&keys).await.into_iter().flatten();
        let keys: Vec<_> = keys.map(|key| bytes_of(&key)).collect();
        assert_eq!(keys.len(), 3, "the account, the network, the device");
        let words: [&[u8]; 6] =
            [b"", b"throttle", b"realchat", b"login_throttle", &[0; 32], b"auth-service"];
        for guess in guesses() {
            let mut hashes = vec![guess.clone(), Sha256::digest(&guess).to_vec()];
            hashes.extend(words.map(|word| hmac_of(word, &guess)));
            assert!(!hashes.iter().any(|hash| keys.contains(hash)), "{guess:?}");
        }
    }
}
