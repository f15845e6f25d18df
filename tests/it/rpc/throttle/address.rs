//! The address of a client, which only an internal caller may state.

use tonic::Request;

use super::{
    ANA,
    Outcome::{self, In, Wait, Wrong},
    SECOND, enter, from, guess, with_ana, wrong,
};
use crate::harness::{INTERNAL_TOKEN, TestDatabase, both, login, refused, register, violation};

const ONE: [(&str, &str); 1] = [("--throttle-free-per-network", "1")];

both! {
    async fn only_an_internal_caller_states_the_address_of_a_client(database: TestDatabase) {
        let service = with_ana(database, &ONE).await;
        for n in 0..5 {
            let mut request = Request::new(wrong(ANA));
            request.metadata_mut().insert("x-client-address", "192.0.2.1".parse().unwrap());
            if n % 2 == 0 {
                let token = format!("Bearer not-{INTERNAL_TOKEN}");
                request.metadata_mut().insert("authorization", token.parse().unwrap());
            }
            assert_eq!(Outcome::of(service.client().login(request).await), Wrong);
        }
        let mut request = Request::new(login(ANA));
        request.metadata_mut().insert("x-client-address", "junk".parse().unwrap());
        assert_eq!(Outcome::of(service.client().login(request).await), In, "it is not read");
        // They all counted as without an address.
        assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wrong);
        assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wait(SECOND));
    }

    async fn an_internal_caller_may_pass_a_users_token_next_to_its_own(database: TestDatabase) {
        let service = with_ana(database, &ONE).await;
        for expected in [Wrong, Wait(SECOND)] {
            let mut request = Request::new(wrong(ANA));
            let metadata = request.metadata_mut();
            metadata.append("authorization", "Bearer a.jwt.of-somebody".parse().unwrap());
            metadata.append("authorization", format!("Bearer {INTERNAL_TOKEN}").parse().unwrap());
            metadata.insert("x-client-address", "192.0.2.1".parse().unwrap());
            assert_eq!(Outcome::of(service.client().login(request).await), expected);
        }
    }

    async fn an_ipv6_address_counts_for_its_line_and_for_its_site(database: TestDatabase) {
        let service = with_ana(database, &ONE).await;
        let line = |n: usize| format!("2001:db8:0:{n:x}::{n}");
        // Ten lines of one site, each with its free failure.
        for n in 0..10 {
            assert_eq!(guess(&service, "no address", &line(n)).await, Wrong);
            let neighbour = format!("2001:db8:0:{n:x}:ffff::9");
            assert_eq!(guess(&service, "no address", &neighbour).await, Wait(SECOND));
        }
        assert_eq!(guess(&service, "no address", &line(10)).await, Wait(SECOND), "the site");
        assert_eq!(enter(&service, ANA, "2001:db8:1::1").await, In, "another site");
    }

    async fn an_address_that_stands_for_an_ipv4_address_counts_as_that(database: TestDatabase) {
        let service = with_ana(database, &ONE).await;
        assert_eq!(guess(&service, "no address", "192.0.2.1").await, Wrong);
        for same in ["::ffff:192.0.2.1", "64:ff9b::192.0.2.1", "2002:c000:201:7::1"] {
            assert_eq!(guess(&service, "no address", same).await, Wait(SECOND), "{same}");
        }
        assert_eq!(guess(&service, "no address", "64:ff9b::192.0.2.2").await, Wrong);
    }

    async fn the_stated_address_must_be_one_address(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        let mut twice = from("192.0.2.1", login(ANA));
        twice.metadata_mut().append("x-client-address", "192.0.2.2".parse().unwrap());
        let mut answers = vec![refused(service.client().login(twice).await)];
        for address in ["unknown", "192.0.2.1:4711", "192.0.2.1, 192.0.2.2"] {
            answers.push(refused(service.client().login(from(address, login(ANA))).await));
            let request = from(address, register("ben@example.com"));
            answers.push(refused(service.client().register(request).await));
        }
        for status in answers {
            let expected = ("x-client-address", "must be one IP address without a port");
            assert_eq!(violation(&status), (expected.0.to_owned(), expected.1.to_owned()));
        }
    }
}
