//! The table of errors: one test for each row that a client can cause, and what no error may
//! contain.

use std::time::Duration;

use auth_service::proto;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{Code, Request, Status};

use crate::harness::{
    BareConnection, INTERNAL_TOKEN, Service, TestDatabase, bearer, both, error_line, login, logout,
    reason, refresh, refused, register, retry_after, signing_keys, with_bearer,
};

/// A secret that no error may contain.
const NEEDLE: &str = "n33dle-in-a-haystack";

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|part| part == needle.as_bytes())
}

fn assert_no_echo(status: &Status) {
    assert!(!status.message().contains(NEEDLE), "{}", status.message());
    assert!(!contains(status.details(), NEEDLE), "in the details");
    let metadata = format!("{:?}", status.metadata());
    assert!(!metadata.contains(NEEDLE), "{metadata}");
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "`is_err_and` hands the error over"
)]
fn is_overloaded(status: Status) -> bool {
    reason(&status) == (Code::ResourceExhausted, "OVERLOADED".to_owned())
}

/// A service with the account of `ana@example.com`, and the refresh token of her session. Her hash
/// has cost 10, also if `options` set another cost.
async fn slow_service(database: TestDatabase, options: &[&str]) -> (Service, String) {
    let quick = Service::start(database, &[]).await;
    let request = proto::RegisterRequest {
        start_session: true,
        ..register("ana@example.com")
    };
    let registered = quick.client().register(request).await.expect("registered");
    let tokens = registered
        .into_inner()
        .tokens
        .expect("a session was wanted");
    let (_, database) = quick.stop().await;
    (
        Service::start(database, options).await,
        tokens.refresh_token,
    )
}

both! {
    async fn every_error_has_its_code_reason_and_text(service: Service) {
        let mut client = service.client();
        client.register(register("ana@example.com")).await.unwrap();
        let answers = [
            refused(client.register(register("ana@example")).await),
            refused(client.register(proto::RegisterRequest {
                password: "short".to_owned(),
                ..register("ben@example.com")
            }).await),
            refused(client.register(proto::RegisterRequest {
                device_name: "\n".to_owned(),
                ..register("ben@example.com")
            }).await),
            refused(client.register(register("ana@example.com")).await),
            refused(client.login(proto::LoginRequest::default()).await),
            refused(client.login(login("nobody@example.com")).await),
            refused(client.refresh(refresh("")).await),
            refused(client.refresh(refresh("junk")).await),
            refused(client.logout(logout("")).await),
            refused(client.logout(logout("junk")).await),
            refused(client.get_signing_key(proto::GetSigningKeyRequest {}).await),
        ];
        let table: Vec<_> = answers.iter().map(error_line).collect();
        insta::allow_duplicates! {
            insta::assert_snapshot!(table.join("\n"), @r"
            InvalidArgument INVALID_ARGUMENT: email: must be an e-mail address such as name@example.com
            InvalidArgument INVALID_ARGUMENT: password: must have at least 8 characters
            InvalidArgument INVALID_ARGUMENT: device_name: must not contain control, bidirectional or invisible characters
            AlreadyExists EMAIL_TAKEN: the e-mail address is already registered
            InvalidArgument INVALID_ARGUMENT: email: must not be empty
            Unauthenticated INVALID_CREDENTIALS: wrong e-mail address or password
            InvalidArgument INVALID_ARGUMENT: refresh_token: must not be empty
            Unauthenticated INVALID_TOKEN: the token is not valid
            InvalidArgument INVALID_ARGUMENT: refresh_token: must not be empty
            Unauthenticated INVALID_TOKEN: the token is not valid
            PermissionDenied PERMISSION_DENIED: only authorised internal services may call this
            ");
        }
        for status in &answers {
            assert_eq!(retry_after(status), None, "asking again changes nothing");
        }
    }

    async fn no_error_echoes_what_was_sent(service: Service) {
        let mut client = service.client();
        let taken = format!("{NEEDLE}@example.com");
        client.register(register(&taken)).await.unwrap();
        let registration = |email: &str, password: &str, device_name: &str| proto::RegisterRequest {
            email: email.to_owned(),
            password: password.to_owned(),
            start_session: true,
            device_name: device_name.to_owned(),
            locale: String::new(),
        };
        let good = register("ben@example.com");
        let too_long = format!("{NEEDLE}@{}", "x".repeat(254));
        for request in [
            registration(NEEDLE, &good.password, ""),
            registration(&too_long, &good.password, ""),
            registration(&good.email, &NEEDLE.repeat(4), ""),
            registration(&good.email, &format!("{NEEDLE}\0"), ""),
            registration(&format!("{NEEDLE}@example.org"), NEEDLE, ""),
            registration(&good.email, &good.password, &format!("{NEEDLE}\n")),
            registration(&good.email, &good.password, &NEEDLE.repeat(6)),
            registration(&taken, &good.password, ""),
        ] {
            assert_no_echo(&refused(client.register(request).await));
        }
        let wrong = proto::LoginRequest { password: NEEDLE.to_owned(), ..login(&taken) };
        assert_no_echo(&refused(client.login(wrong).await));
        assert_no_echo(&refused(client.login(login(NEEDLE)).await));
        assert_no_echo(&refused(client.refresh(refresh(NEEDLE)).await));
        assert_no_echo(&refused(client.logout(logout(NEEDLE)).await));
        let request = with_bearer(proto::GetSigningKeyRequest {}, NEEDLE);
        assert_no_echo(&refused(client.get_signing_key(request).await));
    }

    async fn the_signing_key_is_for_authorised_internal_services_only(service: Service) {
        let almost = format!("Bearer {}", INTERNAL_TOKEN.to_uppercase());
        let basic = format!("Basic {INTERNAL_TOKEN}");
        for authorization in [
            None, Some(""), Some("Bearer "), Some(INTERNAL_TOKEN), Some(&almost), Some(&basic),
        ] {
            let status = refused(signing_keys(service.channel(), authorization).await);
            let expected = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
            assert_eq!(reason(&status), expected, "{authorization:?}");
        }
        let right = bearer(INTERNAL_TOKEN);
        signing_keys(service.channel(), Some(&right)).await.expect("the right token");
    }

    async fn a_busy_hasher_refuses_logins_and_nothing_else(database: TestDatabase) {
        let options = [
            "--bcrypt-cost", "16", "--password-threads", "1", "--password-max-wait", "50ms",
        ];
        let (service, refresh_token) = slow_service(database, &options).await;
        let mut client = service.client();
        // An unknown user costs a hash too: these logins keep all lanes of the only thread busy
        // for seconds. One that is refused shows that the others have just begun.
        let (busy, mut is_busy) = mpsc::channel(1);
        let mut others = JoinSet::new();
        for _ in 0..12 {
            let (mut unknown, busy) = (client.clone(), busy.clone());
            others.spawn(async move {
                while unknown.login(login("nobody@example.com")).await.is_err_and(is_overloaded) {
                    busy.try_send(()).ok();
                    sleep(Duration::from_millis(5)).await;
                }
            });
        }
        let refused_one = timeout(Duration::from_mins(1), is_busy.recv()).await;
        refused_one.expect("it gets busy");
        let answers = [
            refused(client.login(login("ana@example.com")).await),
            refused(client.login(login("somebody@example.com")).await),
            refused(client.login(login("no address")).await),
            // A known and an unknown address.
            refused(client.register(register("ana@example.com")).await),
            refused(client.register(register("ben@example.com")).await),
        ];
        client.refresh(refresh(&refresh_token)).await.expect("no hash is needed");
        client.logout(logout(&refresh_token)).await.expect("no hash is needed");
        others.shutdown().await;

        for status in answers {
            insta::allow_duplicates! {
                insta::assert_snapshot!(
                    error_line(&status),
                    @"ResourceExhausted OVERLOADED: too busy, try again later"
                );
            }
            let retry_after = retry_after(&status).expect("it is worth another try later");
            assert!(retry_after > Duration::from_millis(50), "{retry_after:?}");
        }
        assert_eq!(service.database.count("SELECT count(*) FROM users").await, 1);
    }

    async fn of_a_flood_of_logins_some_are_served(database: TestDatabase) {
        let options = [
            "--bcrypt-cost", "12", "--password-threads", "1", "--password-max-wait", "150ms",
        ];
        let service = Service::start(database, &options).await;
        service.client().register(register("ana@example.com")).await.unwrap();
        let flood = (0..30).map(|_| {
            let mut client = service.client();
            tokio::spawn(async move { client.login(login("ana@example.com")).await })
        });
        let answers = futures::future::join_all(flood).await;
        let mut served = 0;
        for answer in answers {
            match answer.unwrap() {
                Ok(_) => served += 1,
                Err(status) => {
                    assert!(retry_after(&status).is_some());
                    assert!(is_overloaded(status));
                }
            }
        }
        assert!((1..30).contains(&served), "{served} of 30 were served");
    }

    async fn the_callers_deadline_ends_a_call(database: TestDatabase) {
        let service = Service::start(database, &["--bcrypt-cost", "14"]).await;
        let mut client = BareConnection::open(service.addr).await.client();
        let mut request = Request::new(login("nobody@example.com"));
        request.set_timeout(Duration::from_millis(100));
        let status = refused(client.login(request).await);
        insta::allow_duplicates! {
            insta::assert_snapshot!(
                error_line(&status),
                @"DeadlineExceeded DEADLINE_EXCEEDED: the deadline passed"
            );
        }
    }

    async fn the_request_timeout_ends_a_call(database: TestDatabase) {
        let options = [
            "--bcrypt-cost", "16", "--request-timeout", "2s", "--password-max-wait", "1s",
        ];
        let service = Service::start(database, &options).await;
        let mut client = BareConnection::open(service.addr).await.client();
        let mut other = client.clone();
        let mut request = Request::new(login("nobody@example.com"));
        request.set_timeout(Duration::from_hours(1));
        let (with_none, with_a_long_one) = tokio::join!(
            other.login(login("somebody@example.com")),
            client.login(request),
        );
        for status in [refused(with_none), refused(with_a_long_one)] {
            let expected = (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned());
            assert_eq!(reason(&status), expected);
        }
    }
}
