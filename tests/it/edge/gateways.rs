//! The edge behind Envoy, Caddy and nginx, with the configurations of `deploy/edge/`.
//!
//! The service, the edge and the gateway are processes. The application behind the gateway is part
//! of the test and answers with what it was asked. Each test runs on each gateway.

mod application;
mod gateway;
mod http;
mod identity;
mod outages;
mod paths;
mod requests;
mod revocation;
mod rotation;
mod scene;
mod secrets;
mod tokens;
mod users;
mod web_socket;

pub use self::{
    gateway::{Gateway, Running},
    scene::Scene,
    users::{User, bearer},
};

/// Defines tests that run on each gateway. The argument is a [`Scene`].
macro_rules! on_each_gateway {
    ($($(#[$meta:meta])* async fn $name:ident($scene:ident: Scene) $body:block)+) => {$(
        mod $name {
            #[allow(clippy::allow_attributes, unused_imports, reason = "not every test needs all")]
            use super::*;
            use crate::edge::gateways::{Gateway, Scene};

            $(#[$meta])*
            #[allow(clippy::allow_attributes, unused_mut, reason = "some tests stop processes")]
            async fn test(mut $scene: Scene) $body

            #[tokio::test(flavor = "multi_thread")]
            async fn envoy() {
                if let Some(scene) = Scene::start(Gateway::Envoy).await {
                    test(scene).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn caddy() {
                if let Some(scene) = Scene::start(Gateway::Caddy).await {
                    test(scene).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn nginx() {
                if let Some(scene) = Scene::start(Gateway::Nginx).await {
                    test(scene).await;
                }
            }
        }
    )+};
}
use on_each_gateway;
