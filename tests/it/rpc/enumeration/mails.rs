//! Asking for a reset does not show whether the address has an account, in any mode of
//! `EMAIL_VERIFICATION`.

use std::{collections::BTreeSet, time::Instant};

use auth_service::proto::RequestPasswordResetRequest;
use futures::future::join_all;
use prost::Message as _;

use super::{ALPHA, SUSPENDED, accounts, detectable, median, p_value};
use crate::harness::{Random, RawConnection, Service, TestDatabase, both, framed};

const REQUEST: &str = "/realchat.auth.v1.RecoveryService/RequestPasswordReset";
const EACH: usize = 250;
/// An answer takes a tenth of a second, so several clients ask at the same time.
const CLIENTS: usize = 10;

fn request(email: String) -> Vec<u8> {
    let locale = String::new();
    framed(&RequestPasswordResetRequest { email, locale }.encode_to_vec())
}

/// The times of one client's requests for known, suspended and unknown addresses, and the answers.
async fn client(service: &Service, number: usize) -> ([Vec<f64>; 3], BTreeSet<String>) {
    let connection = RawConnection::open(service.addr).await;
    let (mut random, mut answers) = (Random::new(), BTreeSet::new());
    let mut times = [const { Vec::new() }; 3];
    for n in number * EACH / CLIENTS..(number + 1) * EACH / CLIENTS {
        let mut order = [(0, "known-a"), (1, SUSPENDED), (2, "unknown")];
        random.shuffle(&mut order);
        for (kind, name) in order {
            let body = request(format!("{name}-{n}@example.com"));
            let started = Instant::now();
            let answer = connection.call(REQUEST, &[], body).await;
            times[kind].push(started.elapsed().as_secs_f64() * 1e3);
            answers.insert(answer.expect("an answer").fingerprint());
        }
    }
    (times, answers)
}

fn assert_same_times(mode: &str, one: &[f64], other: &[f64]) {
    let (p, seen) = (p_value(one, other), detectable(one, other));
    eprintln!(
        "{mode}: {} and {} samples, medians {:.2} and {:.2} ms, p = {p:.3}, a difference of \
         {seen:.2} ms would have been seen",
        one.len(),
        other.len(),
        median(one),
        median(other),
    );
    assert!(p > ALPHA, "they differ: p = {p:e}");
    // Answers wait for a multiple of 100 ms: a difference shows as a whole one at least.
    let shown = median(one).max(median(other));
    assert!(
        seen < shown,
        "the test is blind: it sees {seen} of {shown} ms"
    );
}

async fn assert_alike(database: TestDatabase, mode: &str) {
    let service = Service::start(database, &["--email-verification", mode]).await;
    accounts(&service, EACH).await;
    let clients = (0..CLIENTS).map(|number| client(&service, number));
    let (mut times, mut answers) = ([const { Vec::new() }; 3], BTreeSet::new());
    for (more, more_answers) in join_all(clients).await {
        for (times, more) in times.iter_mut().zip(more) {
            times.extend(more);
        }
        answers.extend(more_answers);
    }
    assert_eq!(answers.len(), 1, "{answers:#?}");
    let [known, suspended, unknown] = &times;
    assert_same_times(mode, known, unknown);
    assert_same_times(mode, suspended, unknown);
    let mails =
        "SELECT count(DISTINCT user_id) FROM outbox_events WHERE event_type = 'MAIL_REQUESTED'";
    let asked = service.database.count(mails).await;
    assert!(
        asked >= i64::try_from(EACH).expect("few"),
        "only {asked} known addresses get a mail"
    );
}

both! {
    async fn a_reset_does_not_show_whether_an_account_exists(database: TestDatabase) {
        assert_alike(database, "off").await;
    }

    async fn nor_does_it_with_optional_verification(database: TestDatabase) {
        assert_alike(database, "optional").await;
    }

    async fn nor_does_it_with_required_verification(database: TestDatabase) {
        assert_alike(database, "required").await;
    }
}
