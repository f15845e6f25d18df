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
    let watching = watch::run(auth.clone(), Arc::clone(&verifier));
    let address = var("LISTEN", "127.0.0.1:8080");
    // Both in one task: a panic of either ends the process. Without the stream, the gateway would
    // go on and soon refuse every token.
    tokio::select! {
        never = watching => match never {},
        served = serve(&address, Gateway { auth, verifier }) => served,
    }
}

async fn serve(address: &str, gateway: Gateway) -> anyhow::Result<()> {
    // Before the first snapshot, every token would be refused.
    gateway.verifier.ready().await;
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let app = router(Arc::new(gateway)).layer(from_fn(log::requests));
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(listener, app).await?)
}
