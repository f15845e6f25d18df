//! Sessions that end while their tokens live.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Scene, User, on_each_gateway};
use crate::harness::SOON;

impl Scene {
    /// Waits until the token of this user is refused, and checks that it stays so.
    pub async fn assert_refused_soon(&self, user: &User) {
        let began = Instant::now();
        while self.get(&user.access_token).await.status == 200 {
            assert!(began.elapsed() < SOON, "it is refused soon");
        }
        let reached = self.application.requests();
        for _ in 0..20 {
            let refused = self.get(&user.access_token).await;
            assert_eq!(refused.status, 401);
            let challenge =
                r#"Bearer error="invalid_token", error_description="The session has ended""#;
            assert_eq!(refused.header("www-authenticate"), Some(challenge));
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(self.application.requests(), reached);
    }
}

on_each_gateway! {
    async fn a_logout_refuses_the_tokens_of_that_session(scene: Scene) {
        let ana = scene.user("ana@example.com").await;
        let elsewhere = scene.log_in("ana@example.com").await;
        assert_eq!(scene.get(&ana.access_token).await.status, 200);
        scene.log_out(&ana).await;
        scene.assert_refused_soon(&ana).await;
        let reached = scene.get(&elsewhere.access_token).await.reached();
        assert_eq!(reached.identity(), elsewhere.identity());
    }

    async fn a_suspension_refuses_all_tokens_of_the_user(scene: Scene) {
        let ana = scene.user("ana@example.com").await;
        let elsewhere = scene.log_in("ana@example.com").await;
        let ben = scene.user("ben@example.com").await;
        for user in [&ana, &elsewhere] {
            assert_eq!(scene.get(&user.access_token).await.status, 200);
        }
        scene.operate(&["users", "suspend", "ana@example.com", "--reason", "spam"]).await;
        scene.assert_refused_soon(&ana).await;
        scene.assert_refused_soon(&elsewhere).await;
        assert_eq!(scene.get(&ben.access_token).await.status, 200);
    }
}
