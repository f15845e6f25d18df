//! `outbox advance-versions`, for the time after a restore from a backup.

use std::{env, sync::Arc, time::Duration};

use auth_service::outbox::Outcome;

use super::{Fake, created, poller};
use crate::harness::{Ended, PASSWORD, Process, Service, TestDatabase, both, delete_account};

async fn advance(database: &TestDatabase, options: &[&str]) -> Ended {
    let url = database.url();
    let arguments = [&["outbox", "advance-versions"], options].concat();
    Process::run(&env::temp_dir(), &arguments, &[("DATABASE_URL", &url)]).await
}

async fn versions(database: &TestDatabase) -> Vec<i64> {
    let events = database.events().await.into_iter();
    events.map(|event| event.user_version).collect()
}

both! {
    async fn the_versions_of_all_users_rise_by_a_gap(service: Service) {
        let (ana, ben) = (service.sign_up("ana@example.com").await, service.sign_up("ben@example.com").await);
        let database = &service.database;
        let advanced = advance(database, &[]).await;
        assert_eq!(advanced.code, Some(0), "{}", advanced.stderr);
        assert_eq!(advanced.stdout, "raised the versions of 2 users by 1000000\n");
        // The events that wait keep theirs, and come first.
        assert_eq!(versions(database).await, [1, 1]);
        service.log_out(&ana.tokens.refresh_token).await.unwrap();
        assert_eq!(versions(database).await, [1, 1, 1_000_002]);

        // A second run raises them again.
        let again = advance(database, &["--by", "5"]).await;
        assert_eq!(again.stdout, "raised the versions of 2 users by 5\n");
        service.account(&ben).delete_account(delete_account(PASSWORD)).await.unwrap();
        assert_eq!(versions(database).await, [1, 1, 1_000_002, 1_000_007, 1_000_008]);

        let fake = Arc::new(Fake::default());
        assert_eq!(poller(database, &fake).tick().await.unwrap(), Outcome::Progress);
        let deleted = ("USER_DELETED".to_owned(), 1_000_008);
        let offered = fake.offered();
        assert!(offered.contains(&created(1)) && offered.contains(&deleted), "{offered:?}");
    }

    async fn many_users_are_advanced_in_steps_while_they_act(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let database = &service.database;
        let id = database.dialect("randomblob(16)", "gen_random_uuid()");
        let now = database.dialect("0", "now()");
        let users = format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)
             INSERT INTO users (id, email, password_hash, event_version, created_at,
                 password_changed_at)
             SELECT {id}, 'user' || i || '@example.com', 'x', 1, {now}, {now} FROM n"
        );
        database.execute(&users).await;
        let mut sessions = Vec::new();
        for _ in 0..5 {
            sessions.push(service.sign_in("ana@example.com").await);
        }
        let acts = async {
            for session in &sessions {
                service.log_out(&session.tokens.refresh_token).await.unwrap();
            }
        };
        let (advanced, ()) = tokio::join!(advance(database, &["--by", "70"]), acts);
        assert_eq!(advanced.stdout, "raised the versions of 2501 users by 70\n");
        let behind = "SELECT count(*) FROM users WHERE event_version < 71";
        assert_eq!(database.count(behind).await, 0);
        let mut versions = versions(database).await;
        assert!(versions.is_sorted(), "{versions:?}");
        versions.dedup();
        assert_eq!(versions.len(), 6);
        service.clock.advance(Duration::from_secs(1));
        service.log_out(&ana.tokens.refresh_token).await.unwrap();
    }

    async fn the_gap_is_a_positive_number(database: TestDatabase) {
        for by in ["0", "-1", "1.5", "many", "1000000000001", "99999999999999999999"] {
            let refused = advance(&database, &[&format!("--by={by}")]).await;
            assert_eq!(refused.code, Some(64), "{by}: {}", refused.stderr);
        }
    }
}
