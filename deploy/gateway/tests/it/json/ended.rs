//! Access tokens of ended sessions, at a gateway that does not end them.

use super::*;
use crate::proxy::Proxy;

impl Browser {
    /// Another browser, at a gateway of its own, which watches the service by this URL.
    async fn that_watches(service: &Service, url: &str) -> Self {
        Self {
            app: service.gateway_that_watches(url).await,
            cookie: String::new(),
            device: String::new(),
        }
    }

    async fn log_in(&mut self, email: &str) -> String {
        let login = self.post("/login", credentials(email)).await;
        assert_eq!(login.status, StatusCode::OK, "{}", login.body);
        access_token(&login)
    }

    async fn refuses(&mut self, token: &str) {
        let refused = eventually("the refusal", async || {
            let me = self.me(token).await;
            (me.status != StatusCode::OK).then_some(me)
        });
        assert_error(&refused.await, StatusCode::UNAUTHORIZED, "INVALID_TOKEN");
    }
}

#[tokio::test]
async fn after_a_logout_every_gateway_refuses_the_access_token() {
    let service = Service::start(&[]).await;
    let (mut first, mut second) = (Browser::of(&service).await, Browser::of(&service).await);
    let token = first.register("ana@example.com").await;
    let other = second.log_in("ana@example.com").await;
    assert_eq!(second.me(&token).await.status, StatusCode::OK);
    first.post("/logout", Value::Null).await;
    second.refuses(&token).await;
    first.refuses(&token).await;
    for gateway in [&mut first, &mut second] {
        assert_eq!(gateway.me(&other).await.status, StatusCode::OK);
    }
    // A gateway that starts later receives it in its snapshot.
    let mut third = Browser::of(&service).await;
    assert_eq!(third.me(&token).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(third.me(&other).await.status, StatusCode::OK);
}

#[tokio::test]
async fn all_tokens_of_a_suspended_user_are_refused() {
    let service = Service::start(&[]).await;
    let mut browser = Browser::of(&service).await;
    let stranger = browser.register("eve@example.com").await;
    let first = browser.register("ana@example.com").await;
    let second = browser.log_in("ana@example.com").await;
    let user_id = browser.me(&first).await.body["user_id"].clone();
    support::suspend(&service, user_id.as_str().unwrap(), None).await;
    browser.refuses(&first).await;
    browser.refuses(&second).await;
    assert_eq!(browser.me(&stranger).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_gateway_whose_connection_is_silent_uses_another_one_and_misses_nothing() {
    let service = Service::start(&[]).await;
    let proxy = Proxy::start(service.addr).await;
    let mut near = Browser::of(&service).await;
    let mut far = Browser::that_watches(&service, &proxy.url).await;
    let token = near.register("ana@example.com").await;
    assert_eq!(far.me(&token).await.status, StatusCode::OK);
    proxy.fall_silent();
    near.post("/logout", Value::Null).await;
    far.refuses(&token).await;
}

#[tokio::test]
async fn a_logout_before_a_restart_of_the_service_is_known_after_it() {
    let mut service = Service::start(&[]).await;
    let proxy = Proxy::start(service.addr).await;
    let mut near = Browser::of(&service).await;
    let mut far = Browser::that_watches(&service, &proxy.url).await;
    let token = near.register("ana@example.com").await;
    let other = far.log_in("ana@example.com").await;
    proxy.fall_silent();
    near.post("/logout", Value::Null).await;
    service.restart(&[]).await;
    far.refuses(&token).await;
    assert_eq!(far.me(&other).await.status, StatusCode::OK);
}
