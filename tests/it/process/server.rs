//! Reflection and health, and requests that the server refuses.

use auth_service::grpc::{
    ACCOUNT_SERVICE_NAME, ADMIN_SERVICE_NAME, MAIL_SERVICE_NAME, RECOVERY_SERVICE_NAME,
    SERVICE_NAME,
};
use futures::FutureExt as _;
use prost::Message as _;
use prost_types::FileDescriptorProto;
use tonic::{Code, Request, Streaming, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::{v1, v1alpha};

use crate::harness::{BareConnection, Service, both, login, reason, refused, register, violation};

/// The two versions of the protocol have the same messages, but different types.
macro_rules! assert_reflection_shows_the_services {
    ($version:ident, $service:expr) => {
        use $version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let ask = async |question| {
            let request = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(question),
            };
            let mut client = ServerReflectionClient::new($service.channel());
            let answers = client
                .server_reflection_info(futures::stream::iter([request]))
                .await;
            let answer = answers.unwrap().into_inner().message().await.unwrap();
            answer.unwrap().message_response.unwrap()
        };
        let MessageResponse::ListServicesResponse(list) =
            ask(MessageRequest::ListServices(String::new())).await
        else {
            panic!("no list")
        };
        assert_lists_ours(list.service.into_iter().map(|service| service.name));
        for (name, methods) in [
            (SERVICE_NAME, &AUTH_METHODS[..]),
            (ACCOUNT_SERVICE_NAME, &ACCOUNT_METHODS),
            (RECOVERY_SERVICE_NAME, &RECOVERY_METHODS),
            (MAIL_SERVICE_NAME, &["ClaimMail"]),
            (ADMIN_SERVICE_NAME, &ADMIN_METHODS),
        ] {
            let MessageResponse::FileDescriptorResponse(files) =
                ask(MessageRequest::FileContainingSymbol(name.to_owned())).await
            else {
                panic!("no file")
            };
            assert_describes(&files.file_descriptor_proto, methods);
        }
        // With these types a client can show the details of an error.
        let details = "google.rpc.ErrorInfo".to_owned();
        ask(MessageRequest::FileContainingSymbol(details)).await;
    };
}

both! {
    async fn a_message_of_200_kib_is_refused_and_the_connection_goes_on(service: Service) {
        let mut client = BareConnection::open(service.addr).await.client();
        let status = refused(client.login(login(&"x".repeat(200 * 1024))).await);
        let expected = (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned());
        assert_eq!(reason(&status), expected, "{}", status.message());
        client.register(register("ana@example.com")).await.expect("the same connection works");
    }

    async fn a_message_of_60_kib_reaches_the_service(service: Service) {
        let status = refused(service.client().register(register(&"x".repeat(60 * 1024))).await);
        assert_eq!(violation(&status).0, "email");
    }

    async fn headers_of_20_kib_are_refused_and_the_connection_goes_on(service: Service) {
        let mut client = BareConnection::open(service.addr).await.client();
        client.register(register("ana@example.com")).await.unwrap();
        let mut request = Request::new(login("ana@example.com"));
        request.metadata_mut().insert("x-padding", "x".repeat(20 * 1024).parse().unwrap());
        let status = refused(client.login(request).await);
        assert_eq!(status.code(), Code::Unknown, "HTTP 431: {}", status.message());
        client.login(login("ana@example.com")).await.expect("the same connection works");
    }

    async fn health_is_reported_for_each_service_and_overall(service: Service) {
        assert_eq!(SERVICE_NAME, "realchat.auth.v1.AuthService");
        assert_eq!(ACCOUNT_SERVICE_NAME, "realchat.auth.v1.AccountService");
        assert_eq!(RECOVERY_SERVICE_NAME, "realchat.auth.v1.RecoveryService");
        assert_eq!(MAIL_SERVICE_NAME, "realchat.auth.v1.MailService");
        assert_eq!(ADMIN_SERVICE_NAME, "realchat.auth.v1.AdminService");
        let services = [SERVICE_NAME, ACCOUNT_SERVICE_NAME, RECOVERY_SERVICE_NAME, MAIL_SERVICE_NAME];
        for name in services.into_iter().chain([ADMIN_SERVICE_NAME, ""]) {
            assert_eq!(service.health(name).await.unwrap(), ServingStatus::Serving, "{name:?}");
        }
        let unknown = service.health("realchat.auth.v1.NoService").await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
        for path in ["/livez", "/readyz"] {
            assert_eq!(service.probe(path).await.0, 200, "{path}");
        }
        assert_eq!(service.probe("/").await.0, 404);
    }

    async fn a_watch_of_an_unknown_name_stays_open(service: Service) {
        let watch = async |name: &str| {
            let request = HealthCheckRequest { service: name.to_owned() };
            let watch = HealthClient::new(service.channel()).watch(request).await;
            watch.expect("a stream").into_inner()
        };
        let mut known = watch(SERVICE_NAME).await;
        let mut unknown = watch("realchat.auth.v1.NoService").await;
        let status = async |watch: &mut Streaming<HealthCheckResponse>| {
            watch.message().await.unwrap().map(|message| message.status())
        };
        assert_eq!(status(&mut known).await, Some(ServingStatus::Serving));
        assert_eq!(status(&mut unknown).await, Some(ServingStatus::ServiceUnknown));
        // The end of the stream would have come before this answer.
        service.health("").await.unwrap();
        assert!(status(&mut unknown).now_or_never().is_none());
        let (ended, statuses) = tokio::join!(service.stop(), async {
            (status(&mut known).await, status(&mut known).await, status(&mut unknown).await)
        });
        ended.0.unwrap();
        assert_eq!(statuses, (Some(ServingStatus::NotServing), None, None));
    }

    async fn an_unknown_method_is_unimplemented(service: Service) {
        for path in ["/realchat.auth.v1.AuthService/Forget", "/realchat.auth.v1.NoService/Login"] {
            let mut client = Grpc::new(service.channel());
            client.ready().await.unwrap();
            let codec = ProstCodec::<(), ()>::default();
            let path = PathAndQuery::from_static(path);
            let status = refused(client.unary(Request::new(()), path, codec).await);
            assert_eq!(status.code(), Code::Unimplemented);
        }
    }

    async fn reflection_v1_shows_the_services(service: Service) {
        assert_reflection_shows_the_services!(v1, service);
    }

    async fn reflection_v1alpha_shows_the_services(service: Service) {
        assert_reflection_shows_the_services!(v1alpha, service);
    }
}

fn assert_lists_ours(names: impl Iterator<Item = String>) {
    let names: Vec<_> = names.collect();
    for expected in [SERVICE_NAME, ACCOUNT_SERVICE_NAME, "grpc.health.v1.Health"] {
        assert!(names.iter().any(|name| name == expected), "{names:?}");
    }
}

const AUTH_METHODS: [&str; 5] = ["Register", "Login", "Refresh", "Logout", "GetSigningKey"];
const RECOVERY_METHODS: [&str; 4] = [
    "RequestPasswordReset",
    "ResetPassword",
    "ConfirmEmail",
    "RevertEmail",
];

const ADMIN_METHODS: [&str; 12] = [
    "GetUser",
    "ListUsers",
    "ListUserSessions",
    "EndUserSessions",
    "SuspendUser",
    "RestoreUser",
    "SendPasswordReset",
    "InvalidatePassword",
    "UnlockUser",
    "SetRoles",
    "DeleteUser",
    "ImportUsers",
];

const ACCOUNT_METHODS: [&str; 8] = [
    "GetAccount",
    "ChangePassword",
    "ListSessions",
    "EndSession",
    "EndOtherSessions",
    "DeleteAccount",
    "ChangeEmail",
    "RequestEmailVerification",
];

fn assert_describes(files: &[Vec<u8>], expected: &[&str]) {
    let methods: Vec<String> = files
        .iter()
        .map(|file| FileDescriptorProto::decode(&file[..]).expect("a descriptor"))
        .flat_map(|file| file.service)
        .flat_map(|service| service.method)
        .map(|method| method.name().to_owned())
        .collect();
    assert_eq!(methods, expected);
}
