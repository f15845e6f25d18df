//! Configuration by environment: `LISTEN`, `AUTH_URL`, `AUTH_CA_FILE` (with `https://`),
//! and `AUTH_TOKEN_FILE`, the bare internal token.

use std::{env, fs, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use axum::middleware::from_fn;
use realchat_gateway_example::{
    auth::Auth,
    log,
    routes::{Gateway, router},
    verifier::Verifier,
    watch,
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let var = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let token = var("AUTH_TOKEN_FILE", "../../data/internal-token");
    let token = fs::read_to_string(&token).context("AUTH_TOKEN_FILE")?;
    let authority = env::var("AUTH_CA_FILE").ok().map(fs::read).transpose();
    let authority = authority.context("AUTH_CA_FILE")?;
    let url = var("AUTH_URL", "http://127.0.0.1:50051");
    let auth = Auth::new(&url, token.trim(), authority.as_deref())?;

    let verifier = Arc::new(Verifier::default());
    tokio::spawn(watch::run(auth.clone(), Arc::clone(&verifier)));
    // Until then every token would be refused.
    verifier.ready().await;
    let listener = TcpListener::bind(var("LISTEN", "127.0.0.1:8080")).await?;
    println!("listening on {}", listener.local_addr()?);
    let app = router(Arc::new(Gateway { auth, verifier })).layer(from_fn(log::requests));
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(listener, app).await?)
}
