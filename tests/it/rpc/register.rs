//! Registration.

use std::sync::Arc;

use auth_service::proto;
use futures::future::join_all;
use prost_types::Timestamp;
use tokio::sync::Barrier;
use tonic::Code;
use uuid::Uuid;

use crate::harness::{
    EVENTS, START, Service, TestDatabase, both, login, reason, refresh, refused, register,
    violation,
};

const COUNT_USERS: &str = "SELECT count(*) FROM users";
const COUNT_SESSIONS: &str = "SELECT count(*) FROM sessions";

fn at_start_plus(seconds: i64) -> Timestamp {
    let seconds = START.as_secs() + seconds;
    Timestamp { seconds, nanos: 0 }
}

fn assert_is_id(text: &str) {
    let id: Uuid = text.parse().expect("a UUID");
    assert_eq!(id.get_version_num(), 7);
    assert_eq!(
        text,
        id.hyphenated().to_string(),
        "the lower-case form with hyphens"
    );
}

fn with_session(email: &str) -> proto::RegisterRequest {
    proto::RegisterRequest {
        start_session: true,
        ..register(email)
    }
}

fn with_password(email: &str, password: &str) -> proto::RegisterRequest {
    proto::RegisterRequest {
        password: password.to_owned(),
        ..register(email)
    }
}

both! {
    async fn a_registration_creates_an_account_and_one_event(service: Service) {
        let answer = service.client().register(register("Ana@Example.com")).await.unwrap();
        let answer = answer.into_inner();
        assert_is_id(&answer.user_id);
        assert_eq!(answer.created_at, Some(at_start_plus(0)));
        assert!(answer.tokens.is_none() && answer.session_id.is_empty(), "no session was wanted");

        let database = &service.database;
        let email = database.text("SELECT email FROM users").await;
        assert_eq!(email.as_deref(), Some("ana@example.com"));
        let hash = database.password_hash("ana@example.com").await;
        assert!(hash.starts_with("$2b$10$") && hash.len() == 60, "{hash}");
        assert_eq!(database.count(COUNT_SESSIONS).await, 0);
        let events = database.texts("SELECT event_type FROM outbox_events").await;
        assert_eq!(events, [Some("USER_CREATED".to_owned())]);
    }

    async fn a_registration_starts_a_session_on_request(service: Service) {
        let mut client = service.client();
        let request = proto::RegisterRequest {
            device_name: "Ana's phone".to_owned(),
            ..with_session("ana@example.com")
        };
        let answer = client.register(request).await.unwrap().into_inner();
        assert_is_id(&answer.session_id);
        assert_ne!(answer.session_id, answer.user_id);
        let tokens = answer.tokens.expect("a session was wanted");
        assert_eq!(tokens.token_type, "Bearer");
        assert_eq!(tokens.access_token_expires_at, Some(at_start_plus(60 * 60)));
        assert_eq!(tokens.refresh_token_expires_at, Some(at_start_plus(24 * 60 * 60)));
        assert_eq!(tokens.access_token.split('.').count(), 3);

        let device = service.database.text("SELECT device_name FROM sessions").await;
        assert_eq!(device.as_deref(), Some("Ana's phone"));
        client.refresh(refresh(&tokens.refresh_token)).await.expect("the session lives");
    }

    async fn a_device_name_has_at_most_100_characters_and_no_invisible_one(service: Service) {
        let (mut client, database) = (service.client(), &service.database);
        let named = |name: &str, start_session| proto::RegisterRequest {
            device_name: name.to_owned(),
            start_session,
            ..register("ana@example.com")
        };
        for name in ["é".repeat(101), "a\tb".to_owned(), "a\u{85}b".to_owned(), "\0".to_owned(),
            "a\u{200b}b".to_owned(), "a\u{202e}b".to_owned(), "a\u{2066}b".to_owned()] {
            for start_session in [true, false] {
                let status = refused(client.register(named(&name, start_session)).await);
                assert_eq!(violation(&status).0, "device_name", "{name:?}");
            }
            let request = proto::LoginRequest { device_name: name, ..login("ana@example.com") };
            let status = refused(client.login(request).await);
            assert_eq!(violation(&status).0, "device_name");
        }
        assert_eq!(database.count(COUNT_USERS).await, 0);

        let longest = "é".repeat(100);
        client.register(named(&longest, true)).await.unwrap();
        assert_eq!(database.text("SELECT device_name FROM sessions").await, Some(longest));
    }

    async fn a_session_may_have_no_device_name(service: Service) {
        let mut client = service.client();
        client.register(with_session("ana@example.com")).await.unwrap();
        client.login(login("ana@example.com")).await.unwrap();
        let named = "SELECT count(*) FROM sessions WHERE device_name IS NOT NULL";
        assert_eq!(service.database.count(COUNT_SESSIONS).await, 2);
        assert_eq!(service.database.count(named).await, 0);
    }

    async fn spellings_of_one_address_are_one_account(service: Service) {
        let mut client = service.client();
        let spellings = [
            "jos\u{e9}@b\u{fc}cher.example",
            "  Jose\u{301}@BU\u{308}CHER.Example\t\n",
            "JOS\u{c9}@xn--bcher-kva.example",
        ];
        let answer = client.register(register(spellings[0])).await.unwrap();
        let user_id = answer.into_inner().user_id;
        for spelling in spellings {
            let answer = client.login(login(spelling)).await.unwrap();
            assert_eq!(answer.into_inner().user_id, user_id, "{spelling:?}");
            let status = refused(client.register(register(spelling)).await);
            assert_eq!(reason(&status), (Code::AlreadyExists, "EMAIL_TAKEN".to_owned()));
        }
        assert_eq!(service.database.count(COUNT_USERS).await, 1);
        assert_eq!(service.database.count(EVENTS).await, 1);
    }

    async fn letter_case_does_not_matter_in_any_script(service: Service) {
        let mut client = service.client();
        for (registered, other) in [
            ("γιωργος.παπας@example.gr", "ΓΙΩΡΓΟΣ.ΠΑΠΑΣ@example.gr"),
            ("STRASSE@example.de", "straße@example.de"),
            ("ana@ab--cd.com", "ANA@AB--CD.COM"),
        ] {
            let answer = client.register(register(registered)).await.unwrap();
            let answer = answer.into_inner();
            let found = client.login(login(other)).await.unwrap().into_inner();
            assert_eq!(found.user_id, answer.user_id, "{other}");
            let status = refused(client.register(register(other)).await);
            assert_eq!(reason(&status), (Code::AlreadyExists, "EMAIL_TAKEN".to_owned()));
        }
    }

    async fn a_malformed_address_is_refused(service: Service) {
        let mut client = service.client();
        let (label, rest) = ("l".repeat(63), "r".repeat(61));
        let longest = format!("a{}@{label}.{label}.{rest}", "x".repeat(63));
        assert_eq!(longest.len(), 254);
        let too_long = format!("{longest}r");
        let mut problems = Vec::new();
        for email in [
            "", " ", "ana", "@example.com", "ana@", "ana@localhost", "ana@[127.0.0.1]",
            "ana@@example.com", "a na@example.com", "Ana <ana@example.com>", "\"ana\"@example.com",
            "ana@127.0.0.1", "ana@example.123", "ana@xn--a.com", "ana\0@example.com",
            "ana\u{200b}@example.com", "an\u{ad}a@example.com", "\u{202e}ana@example.com",
            "ana@exam\u{ad}ple.com", "ana\u{fe0f}@example.com", &too_long, &"x".repeat(60_000),
        ] {
            let status = refused(client.register(register(email)).await);
            let (field, problem) = violation(&status);
            assert_eq!(field, "email", "{email:?}");
            problems.push(problem);
        }
        problems.dedup();
        insta::allow_duplicates! {
            insta::assert_snapshot!(problems.join("\n"), @r"
            must not be empty
            must be an e-mail address such as name@example.com
            must not contain control, format or invisible characters
            must be at most 254 bytes
            ");
        }
        assert_eq!(service.database.count(COUNT_USERS).await, 0);

        client.register(register(&longest)).await.expect("254 bytes are not too many");
    }

    async fn a_password_must_be_long_enough_short_enough_and_hard_to_guess(service: Service) {
        let mut client = service.client();
        let mut problems = Vec::new();
        for password in [
            "",
            "vK3#qT9",
            // Eight characters as sent, seven after the accent is composed.
            "vK3#qTe\u{301}",
            &("vK3#qT9z".repeat(9) + "x"),
            // 37 characters, 74 bytes.
            &"\u{e4}\u{f6}".repeat(19)[..74],
            "vK3#q\0T9z",
            "lake tulip harbour\n",
            "lake\u{200b} tulip harbour",
            "password1",
            "aaaaaaaaaaaa",
            "rosalind.elsie",
            "P@ssw0rd123!",
            "Summer2026!",
            "realchat2026",
        ] {
            let request = with_password("rosalind.elsie@example.com", password);
            let status = refused(client.register(request).await);
            let (field, problem) = violation(&status);
            assert_eq!(field, "password", "{password:?}");
            problems.push(problem);
        }
        insta::allow_duplicates! {
            insta::assert_snapshot!(problems.join("\n"), @r"
            must not be empty
            must have at least 8 characters
            must have at least 8 characters
            must have at most 72 bytes in UTF-8
            must have at most 72 bytes in UTF-8
            must not contain control characters, such as a line break or a tab
            must not contain control characters, such as a line break or a tab
            must not contain characters that are invisible or not defined in Unicode
            is too easy to guess
            is too easy to guess
            is too easy to guess
            is too easy to guess
            is too easy to guess
            is too easy to guess
            ");
        }
        assert_eq!(service.database.count(COUNT_USERS).await, 0);

        for (email, password) in [
            ("shortest@example.com", "vK3#qT9z"),
            ("longest@example.com", &"vK3#qT9z".repeat(9)),
            ("wide@example.com", "ｌａｋｅ　ｔｕｌｉｐ　ｈａｒｂｏｕｒ"),
            ("emoji@example.com", "❤\u{fe0f} 👩\u{200d}💻 🐙🪁🦑🌵🧲"),
        ] {
            client.register(with_password(email, password)).await.unwrap();
            let request = proto::LoginRequest { password: password.to_owned(), ..login(email) };
            client.login(request).await.unwrap();
        }
    }

    async fn a_password_is_the_same_with_other_spaces_and_in_another_normal_form(service: Service) {
        let mut client = service.client();
        let spellings = [
            "sch\u{f6}ne gr\u{fc}\u{df}e im mai",
            "sch\u{f6}ne\u{a0}gr\u{fc}\u{df}e\u{3000}im\u{202f}mai",
            "scho\u{308}ne gru\u{308}\u{df}e im mai",
        ];
        for (number, registered) in spellings.iter().enumerate() {
            let email = format!("ana{number}@example.com");
            client.register(with_password(&email, registered)).await.unwrap();
            for password in spellings.map(str::to_owned) {
                let request = proto::LoginRequest { password, ..login(&email) };
                client.login(request).await.expect("the same password");
            }
        }
    }

    async fn the_product_s_words_are_configured(database: TestDatabase) {
        let options = ["--password-context-words", "fluxwave,Blue Heron"];
        let service = Service::start(database, &options).await;
        let mut client = service.client();
        for password in ["Fluxwave2026!", "blueheron#77"] {
            let status = refused(client.register(with_password("ana@example.com", password)).await);
            assert_eq!(violation(&status).1, "is too easy to guess", "{password}");
        }
    }

    async fn fifty_concurrent_registrations_of_one_address_have_one_winner(database: TestDatabase) {
        let options = ["--password-max-wait", "119s", "--request-timeout", "120s"];
        let service = Service::start(database, &options).await;
        let barrier = Arc::new(Barrier::new(50));
        let racers = (0..50).map(|racer| {
            let (mut client, barrier) = (service.client(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                let email = if racer % 2 == 0 { "ana@example.com" } else { "ANA@example.com" };
                client.register(with_session(email)).await
            })
        });
        let answers: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();

        let winners = answers.iter().filter_map(|answer| answer.as_ref().ok());
        let ids: Vec<&str> = winners.map(|winner| winner.get_ref().user_id.as_str()).collect();
        assert_eq!(ids.len(), 1);
        for loser in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!(reason(loser), (Code::AlreadyExists, "EMAIL_TAKEN".to_owned()));
        }
        for count in [COUNT_USERS, COUNT_SESSIONS, EVENTS] {
            assert_eq!(service.database.count(count).await, 1, "{count}");
        }
        let answer = service.client().login(login("ana@example.com")).await.unwrap();
        assert_eq!(answer.into_inner().user_id, ids[0]);
    }
}
