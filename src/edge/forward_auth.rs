//! Forward-auth over HTTP: the status says whether the gateway may let the request through, and
//! its headers are for the upstream or for the client.

use http::{HeaderMap, HeaderValue, Response, header::AUTHORIZATION};

use super::{
    Checks,
    checks::{Identity, ROLES, SESSION_ID, USER_ID},
    unary::Body,
};

/// Decides by the headers of the request, whatever its method and path.
pub(super) fn answer(checks: &Checks, request: &HeaderMap) -> Response<Body> {
    let authorization = request.get_all(AUTHORIZATION).iter();
    let checked = checks.check(authorization.map(HeaderValue::as_bytes));
    let mut response = Response::new(Body::empty());
    match checked {
        Ok(identity) => *response.headers_mut() = headers(identity),
        Err(denied) => {
            *response.status_mut() = denied.status();
            let (name, value) = denied.header();
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn headers(identity: Identity) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    let mut insert = |name, value: String| {
        let value = HeaderValue::try_from(value).expect("ids and roles are ASCII");
        headers.insert(name, value);
    };
    insert(USER_ID, identity.user_id);
    insert(SESSION_ID, identity.session_id);
    if !identity.roles.is_empty() {
        insert(ROLES, identity.roles);
    }
    headers
}
