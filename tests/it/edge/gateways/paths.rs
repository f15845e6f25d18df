//! Paths that need no token open no other path.

use super::on_each_gateway;

/// Paths that begin or end below `/public/`, as a client sends them.
const TRICKS: [&str; 20] = [
    "/public/../chat",
    "/public/./../chat",
    "/public/x/../../chat",
    "/public/%2e%2e/chat",
    "/public/.%2e/chat",
    "/public/%2E%2E/chat",
    "/public/..%2fchat",
    "/public/..%2Fchat",
    "/public%2f..%2fchat",
    "/public/..%5cchat",
    "//public/../chat",
    "/public//../../chat",
    "/public/..",
    "/public\\..\\chat",
    "http://chat.example/public/../chat",
    "/PUBLIC/../chat",
    "/chat/../public/rooms",
    "/chat/..%2fpublic/rooms",
    "/chat/%2e%2e/public/rooms",
    "/chat?/public/rooms",
];

/// Whether an application would take this path for one below `/public/`, whatever it makes of dots
/// and of encoded characters.
fn is_public(path: &str) -> bool {
    let decoded = path.to_ascii_lowercase();
    let decoded = decoded.replace("%2e", ".").replace("%2f", "/");
    path.starts_with("/public/") && !decoded.contains("/../") && !decoded.ends_with("/..")
}

on_each_gateway! {
    async fn public_paths_need_no_token(scene: Scene) {
        for path in ["/public/rooms", "/public/", "/public/rooms?a=b%2fc&d=%20"] {
            let reached = scene.ask(&format!("GET {path}"), &[]).await.reached();
            assert_eq!(reached.path(), path);
        }
        for path in ["/", "/chat", "/publicity", "/Public/rooms", "/x/public/rooms"] {
            assert_eq!(scene.ask(&format!("GET {path}"), &[]).await.status, 401, "{path}");
        }
    }

    async fn no_trick_with_a_path_opens_another_one(scene: Scene) {
        for trick in TRICKS {
            let answer = scene.ask(&format!("GET {trick}"), &[]).await;
            if answer.status == 200 {
                let reached = answer.reached();
                assert!(is_public(reached.path()), "{trick} becomes {}", reached.path());
            }
        }
    }
}
