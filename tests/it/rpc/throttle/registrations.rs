//! Registrations count for the network whatever their outcome is, and tell nothing before a hash.

use prost::Message as _;
use tokio::task::JoinSet;
use tonic::Code;

use super::{
    Outcome::{self, In, Wait},
    SECOND, enter, from, limits,
};
use crate::harness::{
    INTERNAL_TOKEN, RawConnection, Service, TestDatabase, both, framed, reason, refused, register,
};

const REGISTER: &str = "/realchat.auth.v1.AuthService/Register";
const ADDRESS: &str = "192.0.2.1";

/// The failures of a network have no day, so this is what is left of them.
const COUNTED: &str =
    "SELECT COALESCE(max((free_from - failed_at + 29999999) / 30000000), 0) FROM login_throttle";

async fn sign_up(service: &Service, email: &str, address: &str) -> Outcome {
    let request = from(address, register(email));
    Outcome::of(service.client().register(request).await)
}

/// Registers with a deadline of 200 ms. On a busy machine a call with less may end before it is
/// read, and is not counted then.
async fn probe(connection: &RawConnection, email: &str) -> Code {
    let authorization = format!("Bearer {INTERNAL_TOKEN}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("x-client-address", ADDRESS),
        ("grpc-timeout", "200m"),
    ];
    let body = framed(&register(email).encode_to_vec());
    let answer = connection.call(REGISTER, &headers, body).await;
    answer
        .expect("an answer")
        .status()
        .expect("a status")
        .code()
}

both! {
    async fn a_network_registers_so_many_accounts_and_then_waits(database: TestDatabase) {
        let options = limits(&[("--throttle-registrations-per-network", "3")]);
        let service = Service::start(database, &options).await;
        assert_eq!(sign_up(&service, "a@example.com", ADDRESS).await, In);
        assert_eq!(sign_up(&service, "b@example.com", ADDRESS).await, In);
        let taken = from(ADDRESS, register("a@example.com"));
        let taken = refused(service.client().register(taken).await);
        assert_eq!(reason(&taken).1, "EMAIL_TAKEN");
        for email in ["a@example.com", "c@example.com"] {
            assert_eq!(sign_up(&service, email, ADDRESS).await, Wait(SECOND));
        }
        assert_eq!(sign_up(&service, "c@example.com", "192.0.2.2").await, In);
        assert_eq!(sign_up(&service, "d@example.com", "").await, In);
        assert_eq!(enter(&service, "a@example.com", ADDRESS).await, In, "logins go on");
        service.clock.advance(SECOND);
        assert_eq!(sign_up(&service, "e@example.com", ADDRESS).await, In);
        assert_eq!(sign_up(&service, "f@example.com", ADDRESS).await, Wait(2 * SECOND));
    }

    async fn a_short_deadline_shows_nothing_and_counts(database: TestDatabase) {
        // A hash takes much longer than the deadline.
        let slow = ["--bcrypt-cost", "15"];
        let options = limits(&[("--throttle-registrations-per-network", "9")]);
        let service = Service::start(database.clone(), &options).await;
        service.client().register(register("ana@example.com")).await.expect("registers");
        let (_, database) = service.stop().await;
        let service = Service::start(database, &[&options[..], &slow].concat()).await;
        let connection = RawConnection::open(service.addr).await;
        for n in 0..4 {
            for email in ["ana@example.com", &format!("nobody-{n}@example.com")] {
                let code = probe(&connection, email).await;
                // Which of the two is a matter of time.
                let tells_nothing = [Code::DeadlineExceeded, Code::ResourceExhausted].contains(&code);
                assert!(tells_nothing, "{email}: {code:?}");
            }
        }
        service.database.wait_for(COUNTED, 8).await;
        assert_eq!(service.database.count("SELECT count(*) FROM users").await, 1);
    }

    async fn an_overloaded_or_cancelled_registration_stays_counted(database: TestDatabase) {
        let slow = ["--bcrypt-cost", "16", "--password-threads", "1", "--password-max-wait", "1ms",
            "--request-timeout", "60s"];
        let service = Service::start(database, &[&limits(&[])[..], &slow].concat()).await;
        let mut calls = JoinSet::new();
        for n in 0..20 {
            let (mut client, request) = (service.client(), from(ADDRESS, register(&format!("{n}@example.com"))));
            calls.spawn(async move { client.register(request).await.is_ok() });
        }
        service.database.wait_for(COUNTED, 20).await;
        calls.shutdown().await;
        assert_eq!(service.database.count(COUNTED).await, 20);
    }
}
