//! Plays the mailer: claims a mail that was asked for. The gateway itself cannot do that, so the
//! messages are written here by hand.

use prost::Message;
use tonic::{
    Request, Response, client::Grpc, codegen::http::uri::PathAndQuery, transport::Endpoint,
};
use tonic_prost::ProstCodec;

use crate::{
    eventually,
    service::{MAILER_TOKEN, Service},
};

#[derive(Clone, PartialEq, Message)]
struct ClaimMailRequest {
    #[prost(string, tag = "1")]
    request_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Mail {
    #[prost(string, tag = "3")]
    pub email: String,
    #[prost(string, tag = "4")]
    pub token: String,
    #[prost(string, tag = "6")]
    pub locale: String,
}

/// Waits for a request of a mail, and claims it. They count from 0.
pub async fn claim(service: &Service, number: usize) -> Mail {
    let id = eventually("a mail", async || {
        service.mail_requests().into_iter().nth(number)
    })
    .await;
    let channel = Endpoint::from_shared(service.url()).unwrap();
    let mut client = Grpc::new(channel.connect().await.unwrap());
    client.ready().await.unwrap();
    let mut request = Request::new(ClaimMailRequest { request_id: id });
    let authorization = format!("Bearer {MAILER_TOKEN}").parse().unwrap();
    request
        .metadata_mut()
        .insert("authorization", authorization);
    let path = PathAndQuery::from_static("/realchat.auth.v1.MailService/ClaimMail");
    let codec = ProstCodec::default();
    let claimed: Result<Response<Mail>, _> = client.unary(request, path, codec).await;
    claimed.unwrap().into_inner()
}
