//! Sessions and refresh tokens. The format of a token is written here a second time, so that the
//! tests do not check the code of the service with itself.

use auth_service::{
    model::Timestamp,
    proto::{
        self, account_service_client::AccountServiceClient,
        admin_service_client::AdminServiceClient,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use super::{
    START, Service, TestDatabase, bearer, login, logout, refresh, register, settings::DATA_KEY,
};

/// A client that sends an access token.
pub type Account = AccountServiceClient<InterceptedService<Channel, Bearer>>;

pub fn account(channel: Channel, access_token: &str) -> Account {
    let bearer = bearer(access_token).parse().expect("a header");
    AccountServiceClient::with_interceptor(channel, Bearer(bearer))
}

/// A client of an internal service with the right to administrate.
pub type Admin = AdminServiceClient<InterceptedService<Channel, Bearer>>;

pub fn admin(channel: Channel, token: &str) -> Admin {
    let bearer = bearer(token).parse().expect("a header");
    AdminServiceClient::with_interceptor(channel, Bearer(bearer))
}

#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        Ok(request)
    }
}

pub struct Session {
    pub id: String,
    pub user_id: String,
    /// The first tokens of the session.
    pub tokens: proto::TokenPair,
}

impl Service {
    /// Registers an account with a session.
    pub async fn sign_up(&self, email: &str) -> Session {
        let request = proto::RegisterRequest {
            start_session: true,
            ..register(email)
        };
        let answer = self.client().register(request).await.unwrap().into_inner();
        Session {
            id: answer.session_id,
            user_id: answer.user_id,
            tokens: answer.tokens.expect("a session was wanted"),
        }
    }

    /// Starts another session of an account.
    pub async fn sign_in(&self, email: &str) -> Session {
        let answer = self.client().login(login(email)).await.unwrap();
        let answer = answer.into_inner();
        Session {
            id: answer.session_id,
            user_id: answer.user_id,
            tokens: answer.tokens.expect("a login has tokens"),
        }
    }

    pub async fn refresh(&self, token: &str) -> Result<proto::TokenPair, Status> {
        let answer = self.client().refresh(refresh(token)).await?;
        Ok(answer.into_inner().tokens.expect("a refresh has tokens"))
    }

    /// A client without an access token.
    pub fn account_without_token(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(self.channel())
    }

    pub fn account(&self, session: &Session) -> Account {
        self.account_with(&session.tokens.access_token)
    }

    pub fn account_with(&self, access_token: &str) -> Account {
        account(self.channel(), access_token)
    }

    pub async fn log_out(&self, token: &str) -> Result<(), Status> {
        self.client().logout(logout(token)).await.map(|_| ())
    }
}

/// The parts of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenParts {
    /// 16 bytes that name the session.
    pub handle: Vec<u8>,
    /// 32 bytes that change with every rotation.
    pub secret: Vec<u8>,
}

impl TokenParts {
    /// Takes a token apart. Fails if its format is not the documented one.
    pub fn of(text: &str) -> Self {
        let encoded = text.strip_prefix("rcr_").expect("the prefix");
        let bytes = BASE64URL.decode(encoded).expect("unpadded base64url");
        assert_eq!(bytes.len(), 16 + 32 + 8 + 4);
        let parts = Self {
            handle: bytes[..16].to_vec(),
            secret: bytes[16..48].to_vec(),
        };
        assert_eq!(bytes, parts.bytes(), "the tag and the checksum");
        parts
    }

    pub fn random() -> Self {
        let mut bytes = [0; 48];
        getrandom::fill(&mut bytes).expect("randomness");
        Self {
            handle: bytes[..16].to_vec(),
            secret: bytes[16..].to_vec(),
        }
    }

    /// The parts with their tag and checksum, before they are encoded.
    pub fn bytes(&self) -> Vec<u8> {
        let random = [&*self.handle, &*self.secret].concat();
        let tag = hmac(&data_subkey("refresh token"), &random);
        self.bytes_with(&tag[..8])
    }

    fn bytes_with(&self, tag: &[u8]) -> Vec<u8> {
        let body = [&*self.handle, &*self.secret, tag].concat();
        let checksum = crc32(&body).to_be_bytes();
        [&*body, &checksum].concat()
    }

    /// The token, with the right tag and checksum.
    pub fn text(&self) -> String {
        format!("rcr_{}", BASE64URL.encode(self.bytes()))
    }

    /// Takes a token without tag apart: the release before `DATA_KEY` made it.
    pub fn of_old(text: &str) -> Self {
        let encoded = text.strip_prefix("rcr_").expect("the prefix");
        let bytes = BASE64URL.decode(encoded).expect("unpadded base64url");
        assert_eq!(bytes.len(), 16 + 32 + 4);
        let parts = Self {
            handle: bytes[..16].to_vec(),
            secret: bytes[16..48].to_vec(),
        };
        assert_eq!(text, parts.old_text(), "the checksum");
        parts
    }

    /// The token without tag.
    pub fn old_text(&self) -> String {
        format!("rcr_{}", BASE64URL.encode(self.bytes_with(&[])))
    }

    /// The token as one makes it without the key: with this tag and a right checksum.
    pub fn forged(&self, tag: [u8; 8]) -> String {
        format!("rcr_{}", BASE64URL.encode(self.bytes_with(&tag)))
    }
}

/// The subkey of [`DATA_KEY`] for this purpose.
pub fn data_subkey(purpose: &str) -> [u8; 32] {
    subkey_of(DATA_KEY, purpose)
}

/// The subkey of a `DATA_KEY` for this purpose: HKDF-SHA256 (RFC 5869), written out.
pub fn subkey_of(data_key: &str, purpose: &str) -> [u8; 32] {
    let root = hmac(&[0; 32], data_key.as_bytes());
    hmac(&root, &[purpose.as_bytes(), &[1]].concat())
}

/// HMAC-SHA256.
pub fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length");
    mac.chain_update(message).finalize().into_bytes().into()
}

/// CRC-32/ISO-HDLC, bit by bit like its definition.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let polynomial = if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
            crc = (crc >> 1) ^ polynomial;
        }
    }
    !crc
}

/// Texts that are no refresh tokens, with what is wrong. Most are made from a real token.
pub fn malformed_tokens(session: &Session) -> Vec<(&'static str, String)> {
    let token = &session.tokens.refresh_token;
    let (prefix, encoded) = token.split_at(4);
    let parts = TokenParts::of(token);
    let with_secret = |secret: &[u8]| TokenParts {
        secret: secret.to_vec(),
        ..parts.clone()
    };
    let mut wrong_checksum = BASE64URL.decode(encoded).unwrap();
    *wrong_checksum.last_mut().unwrap() ^= 1;
    vec![
        ("no prefix", encoded.to_owned()),
        ("another prefix", format!("rct_{encoded}")),
        ("the prefix in capitals", format!("RCR_{encoded}")),
        ("nothing but the prefix", prefix.to_owned()),
        ("all lower case", token.to_ascii_lowercase()),
        ("all upper case", token.to_ascii_uppercase()),
        (
            "a body in lower case",
            format!("rcr_{}", encoded.to_ascii_lowercase()),
        ),
        (
            "a body in upper case",
            format!("rcr_{}", encoded.to_ascii_uppercase()),
        ),
        (
            "a wrong checksum",
            format!("rcr_{}", BASE64URL.encode(wrong_checksum)),
        ),
        ("a byte missing", with_secret(&parts.secret[1..]).text()),
        (
            "a byte too many",
            with_secret(&[&*parts.secret, &[0]].concat()).text(),
        ),
        ("a character missing", token[..token.len() - 1].to_owned()),
        ("a character too many", format!("{token}A")),
        ("padding", format!("{token}==")),
        (
            "the standard alphabet",
            with_secret(&[0xff; 32]).text().replace('_', "/"),
        ),
        (
            "the standard alphabet after the prefix",
            format!(
                "rcr_{}",
                with_secret(&[0xff; 32]).text()[4..].replace('_', "/")
            ),
        ),
        ("a space before", format!(" {token}")),
        ("a space after", format!("{token} ")),
        ("a line feed after", format!("{token}\n")),
        ("a space within", format!("rcr_ {encoded}")),
        ("a NUL after", format!("{token}\0")),
        ("two tokens", format!("{token}{token}")),
        ("white space", " ".to_owned()),
        ("junk", "junk".to_owned()),
        ("junk that is no ASCII", "rcr_🦀".to_owned()),
        ("much junk", format!("rcr_{}", "A".repeat(20_000))),
        ("an access token", session.tokens.access_token.clone()),
    ]
}

/// Inserts sessions of the only user, by their id and first token. That costs no hash.
pub async fn insert_sessions(
    database: &TestDatabase,
    sessions: impl IntoIterator<Item = (&str, &TokenParts)>,
    expires_at: Timestamp,
    ends_at: Timestamp,
) {
    let [start, expires, ends] = [START, expires_at, ends_at].map(|time| database.time(time));
    let hash = |bytes: &[u8]| database.bytes(&Sha256::digest(bytes));
    let mut sql = String::new();
    for (id, token) in sessions {
        let id = database.id(id);
        let (handle, secret) = (hash(&token.handle), hash(&token.secret));
        let insert = format!(
            "INSERT INTO sessions (id, user_id, handle_hash, token_hash, generation, created_at, \
             rotated_at, expires_at, ends_at) SELECT {id}, id, {handle}, {secret}, 1, {start}, \
             {start}, {expires}, {ends} FROM users;"
        );
        sql.push_str(&insert);
    }
    database.execute(&sql).await;
}
