//! `Check` of Envoy's external authorization (`envoy.service.auth.v3`).

use http::HeaderName;
use tonic::Code;

use self::proto::{
    CheckRequest, CheckResponse, DeniedHttpResponse, HeaderAppendAction, HeaderValue,
    HeaderValueOption, HttpStatus, OkHttpResponse, RequestHeader, Status,
    check_response::HttpResponse,
};
use super::{
    Checks,
    checks::{Denied, Identity, ROLES, SESSION_ID, USER_ID},
};

/// The messages, as generated.
#[expect(clippy::all, clippy::pedantic, reason = "generated")]
pub mod proto {
    tonic::include_proto!("envoy.service.auth.v3");
}

pub(super) const SERVICE: &str = "envoy.service.auth.v3.Authorization";
pub(super) const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

pub(super) fn check(checks: &Checks, request: CheckRequest) -> CheckResponse {
    let headers = headers(request);
    let authorization = headers.iter().filter(|header| is_authorization(header));
    match checks.check(authorization.map(value)) {
        Ok(identity) => accepted(identity),
        Err(denied) => refused(denied),
    }
}

/// The headers of the client's request, in one of the two forms.
fn headers(request: CheckRequest) -> Vec<RequestHeader> {
    let request = request.attributes.and_then(|it| it.request?.http);
    let mut request = request.unwrap_or_default();
    let raw = request.header_map.take().unwrap_or_default().headers;
    request.headers.extend(raw);
    request.headers
}

fn is_authorization(header: &RequestHeader) -> bool {
    header.key.eq_ignore_ascii_case(b"authorization")
}

fn value(header: &RequestHeader) -> &[u8] {
    if header.value.is_empty() {
        &header.raw_value
    } else {
        &header.value
    }
}

/// The client's own headers of these names never pass: they are replaced or removed.
fn accepted(identity: Identity) -> CheckResponse {
    let mut response = OkHttpResponse {
        headers: vec![
            replaced(&USER_ID, identity.user_id),
            replaced(&SESSION_ID, identity.session_id),
        ],
        headers_to_remove: Vec::new(),
    };
    if identity.roles.is_empty() {
        response.headers_to_remove.push(ROLES.to_string());
    } else {
        response.headers.push(replaced(&ROLES, identity.roles));
    }
    with_status(Code::Ok, HttpResponse::OkResponse(response))
}

fn refused(denied: Denied) -> CheckResponse {
    let code = match denied {
        Denied::Unavailable => Code::Unavailable,
        _ => Code::Unauthenticated,
    };
    let (name, value) = denied.header();
    let response = DeniedHttpResponse {
        status: Some(HttpStatus {
            code: denied.status().as_u16().into(),
        }),
        headers: vec![replaced(&name, value.to_owned())],
    };
    with_status(code, HttpResponse::DeniedResponse(response))
}

fn with_status(code: Code, response: HttpResponse) -> CheckResponse {
    CheckResponse {
        status: Some(Status { code: code.into() }),
        http_response: Some(response),
    }
}

fn replaced(name: &HeaderName, value: String) -> HeaderValueOption {
    let key = name.to_string();
    HeaderValueOption {
        header: Some(HeaderValue { key, value }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    }
}
