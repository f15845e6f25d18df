//! Calls whose secrets the test searches for.

use std::net::SocketAddr;

use auth_service::proto::{self, auth_service_client::AuthServiceClient};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use prost::Message as _;
use tonic::{Code, Status, transport::Channel};

use crate::harness::{
    self, INTERNAL_TOKEN, Needles, RawConnection, change_password_from, connect, delete_account,
    end_session, framed, refresh, with_bearer,
};

const LOGIN: &str = "/realchat.auth.v1.AuthService/Login";

/// All secrets that the test has sent or received.
#[derive(Default)]
pub struct Traffic {
    pub passwords: Vec<String>,
    pub refresh_tokens: Vec<String>,
    pub mail_tokens: Vec<String>,
    /// The service keeps them in memory and in the database. They must not be in the log.
    pub emails: Vec<String>,
}

impl Traffic {
    /// A new password, which no other text contains.
    pub fn password(&mut self) -> String {
        let password = random_text();
        self.passwords.push(password.clone());
        password
    }

    pub fn email(&mut self) -> String {
        let local_part = random_text().to_lowercase();
        let email = format!("{}@example.com", local_part.replace(['-', '_'], "0"));
        self.emails.push(email.clone());
        email
    }

    pub fn token(&mut self, tokens: Option<proto::TokenPair>) -> String {
        let token = tokens.expect("tokens").refresh_token;
        self.refresh_tokens.push(token.clone());
        token
    }

    /// The texts that must be in no place.
    pub fn needles(&self) -> Needles {
        let mut needles = Needles::default();
        for (n, password) in self.passwords.iter().enumerate() {
            needles.add(format!("password {n}"), password.as_bytes());
        }
        for (n, token) in self.refresh_tokens.iter().enumerate() {
            needles.add(format!("refresh token {n}"), token.as_bytes());
            let bytes = BASE64URL.decode(&token["rcr_".len()..]).expect("base64url");
            needles.add(format!("secret of refresh token {n}"), &bytes[16..48]);
        }
        for (n, token) in self.mail_tokens.iter().enumerate() {
            needles.add(format!("mail token {n}"), token.as_bytes());
            let bytes = BASE64URL.decode(&token["rcm_".len()..]).expect("base64url");
            needles.add(format!("secret of mail token {n}"), &bytes[..32]);
        }
        needles
    }
}

/// 48 characters of base64url.
pub fn random_text() -> String {
    let mut bytes = [0; 36];
    getrandom::fill(&mut bytes).expect("randomness");
    BASE64URL.encode(bytes)
}

pub fn registration(email: &str, password: &str) -> proto::RegisterRequest {
    proto::RegisterRequest {
        email: email.to_owned(),
        password: password.to_owned(),
        start_session: true,
        ..Default::default()
    }
}

fn login(email: &str, password: &str) -> proto::LoginRequest {
    proto::LoginRequest {
        email: email.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    }
}

async fn client(addr: SocketAddr) -> AuthServiceClient<Channel> {
    AuthServiceClient::new(connect(addr).await)
}

pub async fn sign_in(
    traffic: &mut Traffic,
    addr: SocketAddr,
    email: &str,
    password: &str,
) -> String {
    let answer = client(addr).await.login(login(email, password)).await;
    traffic.token(answer.expect("the password is right").into_inner().tokens)
}

/// The calls of a correct client: registration, login, refresh with lost replies, logout.
pub async fn use_sessions(traffic: &mut Traffic, addr: SocketAddr) {
    let mut client = client(addr).await;
    let (email, password) = (traffic.email(), traffic.password());
    let registered = client.register(registration(&email, &password)).await;
    let first = traffic.token(registered.expect("registers").into_inner().tokens);
    // Not in normal form, so the service makes a second text from it.
    let (accented, other) = (format!("e\u{301}{}", traffic.password()), traffic.email());
    let registered = client.register(registration(&other, &accented)).await;
    traffic.token(registered.expect("registers").into_inner().tokens);
    sign_in(traffic, addr, &other, &accented).await;

    let mut token = first.clone();
    for _ in 0..3 {
        for _lost_reply in 0..2 {
            let answer = client.refresh(refresh(&token)).await;
            traffic.token(answer.expect("refreshes").into_inner().tokens);
        }
        token.clone_from(traffic.refresh_tokens.last().expect("just pushed"));
    }
    // The first token again counts as reuse.
    expect(client.refresh(refresh(&first)).await, Code::Unauthenticated);
    let token = sign_in(traffic, addr, &email, &password).await;
    let logout = proto::LogoutRequest {
        refresh_token: token,
    };
    client.logout(logout).await.expect("logs out");
}

/// The calls of `AccountService`, with right and wrong input.
pub async fn manage_account(traffic: &mut Traffic, addr: SocketAddr) {
    let (email, password, new) = (traffic.email(), traffic.password(), traffic.password());
    let registered = client(addr)
        .await
        .register(registration(&email, &password))
        .await;
    let tokens = registered.expect("registers").into_inner().tokens;
    let mut account = harness::account(
        connect(addr).await,
        &tokens.as_ref().expect("tokens").access_token,
    );
    traffic.token(tokens);
    sign_in(traffic, addr, &email, &password).await;

    for (current, new, code) in [
        (
            traffic.password(),
            traffic.password(),
            Code::Unauthenticated,
        ),
        (password.clone(), password.clone(), Code::InvalidArgument),
        (password.clone(), new.repeat(2), Code::InvalidArgument),
        (password.clone(), format!("{new}\0"), Code::InvalidArgument),
        (
            traffic.password().repeat(2),
            new.clone(),
            Code::Unauthenticated,
        ),
    ] {
        expect(
            account
                .change_password(change_password_from(&current, &new))
                .await,
            code,
        );
    }
    let changed = account
        .change_password(change_password_from(&password, &new))
        .await;
    traffic.token(changed.expect("it is right").into_inner().tokens);
    let accented = format!("e\u{301}{}", traffic.password());
    let changed = account
        .change_password(change_password_from(&new, &accented))
        .await;
    traffic.token(changed.expect("it is right").into_inner().tokens);
    let misplaced = traffic.password();
    expect(
        account.end_session(end_session(&misplaced)).await,
        Code::InvalidArgument,
    );
    let mut wrong_token = harness::account(connect(addr).await, &misplaced);
    expect(
        wrong_token.end_session(end_session(&misplaced)).await,
        Code::Unauthenticated,
    );

    sign_in(traffic, addr, &email, &accented).await;
    account
        .list_sessions(proto::ListSessionsRequest {})
        .await
        .expect("signed in");
    account
        .end_other_sessions(proto::EndOtherSessionsRequest {})
        .await
        .expect("signed in");
    for wrong in [password, new] {
        expect(
            account.delete_account(delete_account(&wrong)).await,
            Code::Unauthenticated,
        );
    }
    account
        .delete_account(delete_account(&accented))
        .await
        .expect("it is right");
}

/// Calls with secrets that are wrong, too long or in the wrong field.
pub async fn mistype(traffic: &mut Traffic, addr: SocketAddr) {
    let mut client = client(addr).await;
    let known = traffic.emails[0].clone();
    let unknown = traffic.email();
    for email in [known.as_str(), &unknown, "no address"] {
        let wrong = traffic.password();
        let too_long = traffic.password().repeat(2);
        let with_nul = format!("{}\0{}", traffic.password(), traffic.password());
        let immense = traffic.password().repeat(1000);
        // Its decomposed form is compared too.
        let accented = format!("\u{e9}{}", traffic.password());
        for password in [wrong, too_long, with_nul, immense, accented] {
            expect(
                client.login(login(email, &password)).await,
                Code::Unauthenticated,
            );
        }
    }
    for password in [
        traffic.password().repeat(2),
        format!("{}\0", traffic.password()),
    ] {
        let request = registration(&traffic.email(), &password);
        expect(client.register(request).await, Code::InvalidArgument);
    }
    expect(
        client
            .register(registration(&known, &traffic.password()))
            .await,
        Code::AlreadyExists,
    );
    // A password in the field of the e-mail address.
    let swapped = traffic.password();
    expect(
        client.login(login(&swapped, &unknown)).await,
        Code::Unauthenticated,
    );
    expect(
        client.register(registration(&swapped, &unknown)).await,
        Code::InvalidArgument,
    );
    // A refresh token in place of the internal token, and a broken refresh token.
    let token = traffic.refresh_tokens[0].clone();
    let request = with_bearer(proto::GetSigningKeyRequest {}, &token);
    expect(
        client.get_signing_key(request).await,
        Code::PermissionDenied,
    );
    expect(
        client.refresh(refresh(&format!("{token}A"))).await,
        Code::Unauthenticated,
    );
    expect(
        client.refresh(refresh(&traffic.password())).await,
        Code::Unauthenticated,
    );
    // The right internal token.
    let request = with_bearer(proto::GetSigningKeyRequest {}, INTERNAL_TOKEN);
    client
        .get_signing_key(request)
        .await
        .expect("the token is right");
}

/// Calls that end too early or cannot be read.
pub async fn break_off(traffic: &mut Traffic, addr: SocketAddr) {
    // A dropped call resets its stream. The first is dropped before it is sent. The server has
    // the second one, since it has answered a later call.
    for wait_for_server in [false, true] {
        let (mut client, request) = (
            client(addr).await,
            login("a@example.com", &traffic.password()),
        );
        let mut later = client.clone();
        tokio::select! {
            biased;
            _ = client.login(request) => {}
            _ = later.refresh(refresh("junk")), if wait_for_server => {}
            () = std::future::ready(()), if !wait_for_server => {}
        }
    }
    let raw = RawConnection::open(addr).await;
    let whole = framed(&login("a@example.com", &traffic.password()).encode_to_vec());
    // A length above the body's, a password that is not UTF-8, a frame that is too large.
    let cut = whole[..whole.len() - 1].to_vec();
    let mut no_utf8 = framed(&login("a@example.com", &traffic.password()).encode_to_vec());
    *no_utf8.last_mut().expect("not empty") = 0xff;
    let too_large =
        framed(&login("a@example.com", &traffic.password().repeat(2000)).encode_to_vec());
    for body in [cut, no_utf8, too_large] {
        raw.call(LOGIN, &[], body).await.ok();
    }
    let header = traffic.password();
    for headers in [
        ("authorization", header.as_str()),
        ("x-password", &header),
        ("traceparent", &header),
    ] {
        raw.call(LOGIN, &[headers], whole.clone())
            .await
            .expect("an answer");
    }
    let path = format!("/realchat.auth.v1.AuthService/{}", traffic.password());
    raw.call(&path, &[], whole.clone())
        .await
        .expect("an answer");
    let late = [("grpc-timeout", "1m")];
    raw.call(LOGIN, &late, whole).await.expect("an answer");
}

pub fn expect<T>(answer: Result<T, Status>, code: Code) {
    assert_eq!(answer.err().map(|status| status.code()), Some(code));
}
