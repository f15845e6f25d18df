//! Plays support staff: acts on accounts. The gateway itself cannot do that, so the messages are
//! written here by hand.

use prost::Message;
use tonic::{Request, client::Grpc, codegen::http::uri::PathAndQuery, transport::Endpoint};
use tonic_prost::ProstCodec;

use crate::service::{SUPPORT_TOKEN, Service};

#[derive(Clone, PartialEq, Message)]
struct SetRoles {
    #[prost(string, tag = "1")]
    user_id: String,
    #[prost(string, repeated, tag = "2")]
    roles: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct SuspendUser {
    #[prost(string, tag = "1")]
    user_id: String,
    #[prost(string, tag = "2")]
    reason: String,
    #[prost(message, optional, tag = "3")]
    until: Option<prost_types::Timestamp>,
}

pub async fn set_roles(service: &Service, user_id: &str, roles: &[&str]) {
    let message = SetRoles {
        user_id: user_id.to_owned(),
        roles: roles.iter().map(ToString::to_string).collect(),
    };
    let path = PathAndQuery::from_static("/realchat.auth.v1.AdminService/SetRoles");
    call(service, path, message).await;
}

/// Until this second since 1970, or for ever.
pub async fn suspend(service: &Service, user_id: &str, until: Option<i64>) {
    let until = until.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 });
    let message = SuspendUser {
        user_id: user_id.to_owned(),
        reason: "spam".to_owned(),
        until,
    };
    let path = PathAndQuery::from_static("/realchat.auth.v1.AdminService/SuspendUser");
    call(service, path, message).await;
}

async fn call(service: &Service, path: PathAndQuery, message: impl Message + 'static) {
    let channel = Endpoint::from_shared(service.url()).unwrap();
    let mut client = Grpc::new(channel.connect().await.unwrap());
    client.ready().await.unwrap();
    let mut request = Request::new(message);
    let authorization = format!("Bearer {SUPPORT_TOKEN}").parse().unwrap();
    request
        .metadata_mut()
        .insert("authorization", authorization);
    let codec = ProstCodec::<_, ()>::default();
    client.unary(request, path, codec).await.unwrap();
}
