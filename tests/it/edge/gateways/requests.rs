//! Requests with a good token.

use super::{bearer, on_each_gateway};

on_each_gateway! {
    async fn a_good_token_passes_with_any_method(scene: Scene) {
        let ana = scene.user_with_roles("ana@example.com").await;
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let line = format!("{method} /chat?room=1");
            let reached = scene.ask(&line, &[&bearer(&ana.access_token)]).await.reached();
            assert_eq!(reached.line, format!("{line} 0"));
            assert_eq!(reached.identity(), ana.identity());
        }
    }

    async fn a_body_passes_to_the_application_alone(scene: Scene) {
        let ana = scene.user("ana@example.com").await;
        let body = vec![b'x'; 100_000];
        let length = format!("content-length: {}", body.len());
        // On a connection to the edge that is used again, a part of the body would be the next request.
        for _ in 0..3 {
            let headers = [&*bearer(&ana.access_token), &length, "connection: close"];
            let reached = scene.ask_exactly("POST /upload", &headers, &body).await.reached();
            assert_eq!(reached.line, "POST /upload 100000");
            assert_eq!(reached.identity(), ana.identity());
        }
    }

    async fn large_headers_pass(scene: Scene) {
        let ana = scene.user("ana@example.com").await;
        let large = "x".repeat(14_000);
        let headers = ["cookie", "x-other", "x-more"].map(|name| format!("{name}: {large}"));
        let headers = [&*bearer(&ana.access_token), &headers[0], &headers[1], &headers[2]];
        let reached = scene.ask("GET /chat", &headers).await.reached();
        assert_eq!(reached.identity(), ana.identity());
        assert_eq!(reached.header("cookie"), Some(&*large));
    }
}
