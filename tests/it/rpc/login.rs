//! Login.

use auth_service::proto;
use tonic::{Code, Status};

use crate::harness::{
    PASSWORD, Service, TestDatabase, both, login, reason, refresh, refused, register, violation,
};

fn with_password(email: &str, password: &str) -> proto::LoginRequest {
    proto::LoginRequest {
        password: password.to_owned(),
        ..login(email)
    }
}

fn assert_wrong_credentials(status: &Status) {
    let expected = (Code::Unauthenticated, "INVALID_CREDENTIALS".to_owned());
    assert_eq!(reason(status), expected);
}

both! {
    async fn each_login_starts_a_session_of_its_own(service: Service) {
        let mut client = service.client();
        let registered = client.register(register("ana@example.com")).await.unwrap();
        let mut sessions = Vec::new();
        for device in ["phone", "laptop"] {
            let request = proto::LoginRequest {
                device_name: device.to_owned(),
                ..login("ana@example.com")
            };
            let answer = client.login(request).await.unwrap().into_inner();
            assert_eq!(answer.user_id, registered.get_ref().user_id);
            let id: uuid::Uuid = answer.session_id.parse().unwrap();
            assert_eq!((id.get_version_num(), id.to_string()), (7, answer.session_id.clone()));
            let tokens = answer.tokens.expect("tokens");
            assert_eq!(tokens.token_type, "Bearer");
            client.refresh(refresh(&tokens.refresh_token)).await.expect("the session lives");
            sessions.push(answer.session_id);
        }
        assert_ne!(sessions[0], sessions[1]);
        let devices = "SELECT device_name FROM sessions ORDER BY device_name";
        let devices = service.database.texts(devices).await;
        assert_eq!(devices, [Some("laptop".to_owned()), Some("phone".to_owned())]);
    }

    async fn a_password_is_the_same_in_either_normal_form(service: Service) {
        let mut client = service.client();
        let forms = ["sch\u{f6}ne gr\u{fc}\u{df}e vK3", "scho\u{308}ne gru\u{308}\u{df}e vK3"];
        for (email, form) in [("nfc@example.com", forms[0]), ("nfd@example.com", forms[1])] {
            let request = proto::RegisterRequest { password: form.to_owned(), ..register(email) };
            client.register(request).await.unwrap();
            for form in forms {
                client.login(with_password(email, form)).await.unwrap();
            }
            let status = refused(client.login(with_password(email, "schone gru\u{df}e vK3")).await);
            assert_wrong_credentials(&status);
        }
    }

    async fn a_password_that_cannot_match_is_wrong_and_the_policy_is_not_applied(service: Service) {
        let mut client = service.client();
        let longest = "vK3#qT9z".repeat(9);
        let request = proto::RegisterRequest {
            password: longest.clone(),
            ..register("ana@example.com")
        };
        client.register(request).await.unwrap();
        for (email, password) in [
            ("ana@example.com", "vK3#qT9".to_owned()),
            ("ana@example.com", "password1".to_owned()),
            ("ana@example.com", longest.to_lowercase()),
            ("ana@example.com", longest[..71].to_owned()),
            // bcrypt would ignore the 73rd byte, and all bytes after a NUL.
            ("ana@example.com", format!("{longest}x")),
            ("ana@example.com", format!("{longest}\0")),
            ("ana@example.com", "x".repeat(60_000)),
            ("ana@example.com", "\0".to_owned()),
            ("nobody@example.com", longest.clone()),
            ("no address", longest.clone()),
            (" ", longest.clone()),
            ("ana@example.com\0", longest.clone()),
            (&"x".repeat(300), longest.clone()),
        ] {
            assert_wrong_credentials(&refused(client.login(with_password(email, &password)).await));
        }
        assert_eq!(service.database.count("SELECT count(*) FROM sessions").await, 0);
        client.login(with_password("ana@example.com", &longest)).await.unwrap();
    }

    async fn an_empty_field_is_named(service: Service) {
        let mut client = service.client();
        for (email, password, field) in [
            ("", PASSWORD, "email"),
            ("ana@example.com", "", "password"),
        ] {
            let status = refused(client.login(with_password(email, password)).await);
            assert_eq!(violation(&status), (field.to_owned(), "must not be empty".to_owned()));
        }
    }

    async fn an_unknown_user_and_a_wrong_password_get_the_same_answer(service: Service) {
        let mut client = service.client();
        client.register(register("ana@example.com")).await.unwrap();
        let answers = [
            with_password("ana@example.com", "wrong"),
            login("nobody@example.com"),
            login("no address"),
            with_password("ana@example.com", &"x".repeat(73)),
        ].map(|request| {
            let mut client = client.clone();
            async move {
                let status = refused(client.login(request).await);
                let mut metadata = status.metadata().clone();
                metadata.remove("date");
                let metadata = format!("{metadata:?}");
                (status.code(), status.message().to_owned(), status.details().to_vec(), metadata)
            }
        });
        let [wrong_password, others @ ..] = answers;
        let wrong_password = wrong_password.await;
        assert!(!wrong_password.2.is_empty());
        for other in others {
            assert_eq!(other.await, wrong_password);
        }
    }

    async fn a_login_brings_the_hash_to_the_configured_cost(database: TestDatabase) {
        let service = Service::start(database, &["--bcrypt-cost", "10"]).await;
        service.client().register(register("ana@example.com")).await.unwrap();
        let (_, database) = service.stop().await;
        let old = database.password_hash("ana@example.com").await;
        assert!(old.starts_with("$2b$10$"), "{old}");

        let service = Service::start(database, &["--bcrypt-cost", "11"]).await;
        let (mut client, database) = (service.client(), &service.database);
        refused(client.login(with_password("ana@example.com", "wrong")).await);
        assert_eq!(database.password_hash("ana@example.com").await, old, "a wrong password upgrades nothing");

        client.login(login("ana@example.com")).await.unwrap();
        let new = database.password_hash("ana@example.com").await;
        assert!(new.starts_with("$2b$11$"), "{new}");
        client.login(login("ana@example.com")).await.unwrap();
        assert_eq!(database.password_hash("ana@example.com").await, new, "nothing is left to upgrade");
        assert_wrong_credentials(
            &refused(client.login(with_password("ana@example.com", "wrong")).await)
        );
    }
}
