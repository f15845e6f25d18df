//! One line on standard error for each request: method, route and status.
//!
//! The line names the route and not the path, so it holds nothing that a client has chosen: no
//! query string with the token of a mail, no address.

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};

pub async fn requests(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("unknown", MatchedPath::as_str);
    eprintln!("{method} {route} {}", response.status().as_u16());
    response
}
