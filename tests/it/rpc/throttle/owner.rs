//! Nobody is locked out by others, and no answer shows whether an account exists.

use tonic::Code;

use super::{
    ANA, MINUTE,
    Outcome::{In, Wait, Wrong},
    SECOND, always, device_of, each_its_own, enter, exhaust, exhaust_with, from, guess, on_device,
    send, with_ana, wrong,
};
use crate::harness::{
    Service, TestDatabase, both, change_password, delete_account, login, refused, register,
};

/// Logs in with the right password on a known device.
async fn enter_on(service: &Service, device: &str, address: &str) -> super::Outcome {
    send(service, address, on_device(device, login(ANA))).await
}

both! {
    async fn guesses_from_a_shared_network_leave_a_known_device_alone(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        let device = device_of(&service, ANA).await;
        for n in 0..50 {
            assert_eq!(guess(&service, &format!("{n}@example.com"), "192.0.2.1").await, Wrong);
        }
        assert_eq!(enter(&service, ANA, "192.0.2.1").await, Wait(SECOND), "an unknown device");
        assert_eq!(enter_on(&service, &device, "192.0.2.1").await, In);
        assert_eq!(enter_on(&service, &device, "192.0.2.1").await, In);
    }

    async fn guesses_from_many_addresses_do_not_keep_the_owner_out(database: TestDatabase) {
        let service = with_ana(database, &[("--throttle-daily-per-account", "21")]).await;
        let device = device_of(&service, ANA).await;
        let session = service.sign_in(ANA).await;
        assert_eq!(exhaust(&service, ANA, each_its_own).await, (20, SECOND));
        service.clock.advance(SECOND);
        assert_eq!(guess(&service, ANA, "192.0.2.7").await, Wrong);
        assert!(matches!(guess(&service, ANA, "192.0.2.8").await, Wait(wait) if wait > MINUTE));
        // The day is spent. A new network does not matter to a known device or a signed-in user.
        assert!(matches!(enter(&service, ANA, "192.0.2.9").await, Wait(_)));
        assert_eq!(enter_on(&service, &device, "192.0.2.9").await, In);
        let request = change_password("quiet meadow brass lantern");
        let changed = service.account(&session).change_password(request).await;
        let device = changed.expect("she is signed in").into_inner().device_token;
        let request = auth_service::proto::LoginRequest {
            password: "quiet meadow brass lantern".to_owned(),
            ..on_device(&device, login(ANA))
        };
        assert_eq!(send(&service, "192.0.2.9", request).await, In);
    }

    async fn a_device_is_known_after_a_registration_with_a_session_too(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        let request = auth_service::proto::RegisterRequest {
            start_session: true,
            ..register("ben@example.com")
        };
        let device = service.client().register(request).await.unwrap().into_inner().device_token;
        assert_eq!(exhaust(&service, "ben@example.com", each_its_own).await, (20, SECOND));
        let request = on_device(&device, login("ben@example.com"));
        assert_eq!(send(&service, "192.0.2.1", request).await, In);
    }

    async fn a_token_that_is_not_genuine_is_no_exemption(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        let session = service.sign_in(ANA).await;
        service.client().register(register("ben@example.com")).await.unwrap();
        let of_ben = device_of(&service, "ben@example.com").await;
        let of_old_password = device_of(&service, ANA).await;
        service.clock.advance(SECOND);
        let new = "quiet meadow brass lantern";
        service.account(&session).change_password(change_password(new)).await.unwrap();
        assert_eq!(exhaust(&service, ANA, each_its_own).await, (20, SECOND));
        for device in [of_ben, of_old_password.clone(), "junk".to_owned()] {
            assert_eq!(enter_on(&service, &device, "192.0.2.1").await, Wait(SECOND), "{device}");
        }
        // A token ends with the account, too.
        let request = delete_account(new);
        service.account(&session).delete_account(request).await.unwrap();
        service.client().register(register(ANA)).await.unwrap();
        assert_eq!(enter_on(&service, &of_old_password, "192.0.2.1").await, Wait(SECOND));
    }

    async fn a_device_token_opens_nothing(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        let device = device_of(&service, ANA).await;
        let guess = on_device(&device, wrong(ANA));
        assert_eq!(exhaust_with(&service, &guess, always("")).await, (10, SECOND));
        for _ in 0..5 {
            service.clock.advance(15 * MINUTE);
            assert_eq!(send(&service, "", guess.clone()).await, Wrong);
            assert!(matches!(send(&service, "", guess.clone()).await, Wait(_)));
        }
    }

    async fn an_unknown_account_is_throttled_like_a_known_one(database: TestDatabase) {
        let service = with_ana(database, &[]).await;
        service.client().register(register("ben@example.com")).await.unwrap();
        // None, one of another account, and a malformed one.
        let of_ben = device_of(&service, "ben@example.com").await;
        for device in ["", &of_ben, &of_ben[4..]] {
            let mut answers_of = Vec::new();
            for email in [ANA, "nobody@example.com"] {
                let mut answers = Vec::new();
                for n in 0..25 {
                    // The address in two spellings.
                    let email = if n % 2 == 0 { email.to_owned() } else { email.to_uppercase() };
                    let request = from(&each_its_own(n), on_device(device, wrong(&email)));
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
            assert_eq!(refused.count(), 5);
            service.database.execute("DELETE FROM login_throttle").await;
        }
    }
}
