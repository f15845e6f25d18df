//! The owner of an account logs in while an attacker guesses, and no answer shows whether an
//! account exists.

use auth_service::proto;
use tonic::Code;

use super::{
    ANA, DAY, MICROSECOND, MINUTE,
    Outcome::{In, Wait, Wrong},
    SECOND, always, each_its_own, enter, exhaust, from, guess, with_ana, with_daily_limit, wrong,
};
use crate::harness::{TestDatabase, both, refused, register};

both! {
    async fn a_guesser_cannot_lock_the_owner_out(database: TestDatabase) {
        let service = with_daily_limit(database, "30").await;
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
        let mut failures = 0;
        // All failures that a day allows, from many addresses.
        for n in 0..1000 {
            match guess(&service, ANA, &each_its_own(n)).await {
                Wrong => failures += 1,
                Wait(wait) if wait <= 15 * MINUTE => service.clock.advance(wait),
                Wait(_) => break,
                In => panic!("a wrong password"),
            }
        }
        assert_eq!(failures, 30);
        assert!(matches!(enter(&service, ANA, "192.0.2.2").await, Wait(_)), "a new device waits");
        assert_eq!(guess(&service, ANA, "192.0.2.1").await, Wrong);
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In, "the owner's does not");
        // At the address of the owner the limit of the pair holds as well.
        assert_eq!(exhaust(&service, ANA, always("192.0.2.1")).await, (5, SECOND));
    }

    async fn an_owner_is_known_for_thirty_days(database: TestDatabase) {
        let service = with_ana(database).await;
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
        service.clock.advance((30 * DAY).saturating_sub(MICROSECOND));
        assert_eq!(exhaust(&service, ANA, each_its_own).await, (20, SECOND));
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, In);
        assert_eq!(exhaust(&service, ANA, each_its_own).await.1, SECOND);
        service.clock.advance(30 * DAY);
        assert_eq!(exhaust(&service, ANA, each_its_own).await, (20, SECOND));
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, Wait(SECOND));
    }

    async fn an_owner_is_known_after_a_registration_with_a_session_too(database: TestDatabase) {
        let service = with_ana(database).await;
        let email = "ben@example.com";
        let request = proto::RegisterRequest { start_session: true, ..register(email) };
        service.client().register(from("192.0.2.1", request)).await.expect("registers");
        assert_eq!(exhaust(&service, email, each_its_own).await, (20, SECOND));
        assert_eq!(enter(&service, email, "192.0.2.1").await, In);
    }

    async fn an_owner_is_not_known_without_an_address(database: TestDatabase) {
        let service = with_ana(database).await;
        assert_eq!(enter(&service, ANA, "").await, In);
        assert_eq!(exhaust(&service, ANA, each_its_own).await, (20, SECOND));
        assert_eq!(enter(&service, ANA, "").await, Wait(SECOND));
    }

    async fn an_unknown_account_is_throttled_like_a_known_one(database: TestDatabase) {
        let service = with_ana(database).await;
        let mut answers_of = Vec::new();
        for email in [ANA, "nobody@example.com"] {
            let mut answers = Vec::new();
            for n in 0..30 {
                // The address in two spellings.
                let email = if n % 2 == 0 { email.to_owned() } else { email.to_uppercase() };
                let address = if n < 8 { "192.0.2.1".to_owned() } else { each_its_own(n) };
                let request = from(&address, wrong(&email));
                let status = refused(service.client().login(request).await);
                let mut metadata = status.metadata().clone();
                metadata.remove("date");
                let metadata = format!("{metadata:?}");
                answers.push((status.code(), status.message().to_owned(), status.details().to_vec(), metadata));
            }
            answers_of.push(answers);
        }
        assert_eq!(answers_of[0], answers_of[1]);
        let refused = answers_of[0].iter().filter(|(code, ..)| *code == Code::ResourceExhausted);
        assert_eq!(refused.count(), 3 + 7);
    }
}
