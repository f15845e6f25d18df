//! Identity headers of the client never reach the application.

use super::{bearer, on_each_gateway};

/// Every character that may be in the name of a header in place of a dash.
const CHARACTERS: &str = "-_.!#$%&'*+^`|~";

/// The three headers in all forms that an application could take for one of the edge's.
fn forged() -> Vec<String> {
    let mut headers = Vec::new();
    for words in [
        ["x", "user", "id"],
        ["X", "Session", "Id"],
        ["X", "USER", "ROLES"],
    ] {
        let [x, name, end] = words;
        for c in CHARACTERS.chars() {
            headers.push(format!("{x}{c}{name}{c}{end}: forged"));
            headers.push(format!("{x}-{name}{c}{end}: forged"));
            headers.push(format!("{x}{c}{name}-{end}: forged"));
        }
    }
    headers
}

on_each_gateway! {
    async fn forged_headers_are_replaced_or_removed(scene: Scene) {
        let with_roles = scene.user_with_roles("ana@example.com").await;
        let without_roles = scene.user("ben@example.com").await;
        let forged = forged();
        let forged: Vec<_> = forged.iter().map(String::as_str).collect();
        // Envoy takes at most 100 headers.
        for forged in forged.chunks(50) {
            for user in [&with_roles, &without_roles] {
                let token = bearer(&user.access_token);
                let headers = [&[&*token], forged].concat();
                let reached = scene.ask("GET /chat", &headers).await.reached();
                assert_eq!(reached.identity(), user.identity());
                // Where no token is needed there is no identity at all.
                let public = scene.ask("GET /public/rooms", &headers).await.reached();
                assert!(public.identity().is_empty(), "{public:?}");
            }
            let reached = scene.application.requests();
            assert_eq!(scene.ask("GET /chat", forged).await.status, 401);
            assert_eq!(scene.application.requests(), reached);
        }
    }

    // A proxy removes the headers that `Connection` names.
    async fn a_client_cannot_remove_the_identity(scene: Scene) {
        let ana = scene.user_with_roles("ana@example.com").await;
        let token = bearer(&ana.access_token);
        for connection in [
            "connection: close, x-user-id, X-Session-Id, x-user-roles",
            "connection: x-user-roles, close",
            "Connection: close\r\nConnection: X-User-Roles",
        ] {
            let headers = [&*token, connection, "x-user-roles: forged"];
            let reached = scene.ask_exactly("GET /chat", &headers, b"").await.reached();
            assert_eq!(reached.identity(), ana.identity(), "{connection}");
        }
    }
}
