//! The address of a client, which only an internal caller may state.

use tonic::Request;

use super::{
    ANA,
    Outcome::{self, In, Wait, Wrong},
    SECOND, each_its_own, enter, from, with_ana, wrong,
};
use crate::harness::{INTERNAL_TOKEN, TestDatabase, both, login, refused, register, violation};

both! {
    async fn only_an_internal_caller_states_the_address_of_a_client(database: TestDatabase) {
        let service = with_ana(database).await;
        for n in 0..5 {
            let mut request = Request::new(wrong(ANA));
            request.metadata_mut().insert("x-client-address", each_its_own(n).parse().unwrap());
            if n % 2 == 0 {
                let token = format!("Bearer not-{INTERNAL_TOKEN}");
                request.metadata_mut().insert("authorization", token.parse().unwrap());
            }
            assert_eq!(Outcome::of(service.client().login(request).await), Wrong);
        }
        let mut request = Request::new(login(ANA));
        request.metadata_mut().insert("x-client-address", "junk".parse().unwrap());
        let outcome = Outcome::of(service.client().login(request).await);
        assert_eq!(outcome, Wait(SECOND), "they all counted as without an address");
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
    }

    async fn an_internal_caller_may_pass_a_users_token_next_to_its_own(database: TestDatabase) {
        let service = with_ana(database).await;
        for n in 0..6 {
            let mut request = Request::new(wrong(ANA));
            let metadata = request.metadata_mut();
            metadata.append("authorization", "Bearer a.jwt.of-somebody".parse().unwrap());
            metadata.append("authorization", format!("Bearer {INTERNAL_TOKEN}").parse().unwrap());
            metadata.insert("x-client-address", each_its_own(n).parse().unwrap());
            assert_eq!(Outcome::of(service.client().login(request).await), Wrong);
        }
    }

    async fn the_stated_address_must_be_one_address(database: TestDatabase) {
        let service = with_ana(database).await;
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
