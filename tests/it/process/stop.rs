//! How the process stops: signals, and calls that still run.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use auth_service::proto::{LoginRequest, LoginResponse, auth_service_client::AuthServiceClient};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tonic::{Request, Response, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_prost::ProstCodec;

use crate::harness::{
    Backend, EVENTS, Kafka, Process, TestDatabase, both, connect, login, refresh, refused, register,
};

/// One hash takes some seconds, so a call still runs when the signal comes.
const SLOW: [(&str, &str); 3] = [
    ("BCRYPT_COST", "14"),
    ("REQUEST_TIMEOUT", "60s"),
    ("PASSWORD_MAX_WAIT", "50s"),
];

type Client = AuthServiceClient<Channel>;

/// Starts a call and returns it as soon as the server has it: the server has answered a later call
/// on the same connection.
async fn in_flight<T>(
    client: &Client,
    call: impl Future<Output = T>,
) -> Pin<Box<impl Future<Output = T>>> {
    let mut call = Box::pin(call);
    let mut client = client.clone();
    tokio::select! {
        biased;
        _ = &mut call => panic!("the call is over already"),
        answer = client.refresh(refresh("junk")) => drop(refused(answer)),
    }
    call
}

async fn slow_login(mut client: Client) -> Result<Response<LoginResponse>, Status> {
    client.login(login("ana@example.com")).await
}

/// A login whose client never sends the message.
async fn login_without_a_body(channel: Channel) -> Result<Response<LoginResponse>, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("the connection stands");
    let path = "/realchat.auth.v1.AuthService/Login".parse().unwrap();
    let nothing = futures::stream::pending::<LoginRequest>();
    let codec = ProstCodec::<LoginRequest, LoginResponse>::default();
    client
        .client_streaming(Request::new(nothing), path, codec)
        .await
}

/// A client, after Ana has registered.
async fn registered(process: &Process) -> Client {
    let mut client = process.client().await;
    client.register(register("ana@example.com")).await.unwrap();
    client
}

async fn until_refused(addr: SocketAddr) {
    while TcpStream::connect(addr).await.is_ok() {
        // With a full queue the kernel would drop the next attempt, and repeat it only after a
        // second.
        sleep(Duration::from_millis(10)).await;
    }
}

both! {
    async fn a_signal_lets_the_running_call_finish_and_gives_the_lease_up(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else {
            return;
        };
        let variables = [&SLOW[..], &kafka.variables()].concat();
        let mut process = Process::serve(&database, &variables);
        let client = registered(&process).await;
        process.wait_for("outbox lease acquired").await;
        let held = database.dialect("expires_at > 0", "expires_at > now()");
        assert_eq!(
            database
                .count(&format!("SELECT count(*) FROM outbox_lease WHERE {held}"))
                .await,
            1
        );
        let addr = process.grpc_addr().await;
        let watch = HealthClient::new(connect(addr).await)
            .watch(HealthCheckRequest::default())
            .await;
        let mut health = watch.unwrap().into_inner();
        assert_eq!(
            health.message().await.unwrap().unwrap().status(),
            ServingStatus::Serving
        );

        let mut login = in_flight(&client, slow_login(client.clone())).await;
        process.signal("TERM");
        tokio::select! {
            biased;
            _ = &mut login => panic!("new connections are still accepted: {:#?}", process.log()),
            () = until_refused(addr) => {}
        }
        assert_eq!(
            health.message().await.unwrap().unwrap().status(),
            ServingStatus::NotServing
        );
        let logged_in = login.await.expect("the call is finished").into_inner();
        assert!(!logged_in.session_id.is_empty());
        assert_eq!(process.exit_code().await, Some(0), "{:#?}", process.log());
        assert_eq!(database.count("SELECT count(*) FROM sessions").await, 1);
        let released = database.dialect("expires_at = 0", "expires_at = 'epoch'");
        assert_eq!(
            database
                .count(&format!(
                    "SELECT count(*) FROM outbox_lease WHERE {released}"
                ))
                .await,
            1
        );
    }

    async fn a_second_signal_ends_the_process_at_once(database: TestDatabase) {
        let mut process = Process::serve(&database, &SLOW);
        let client = registered(&process).await;
        let login = in_flight(&client, slow_login(client.clone())).await;
        process.signal("TERM");
        process.wait_for("finishing what runs").await;
        process.signal("TERM");
        assert_eq!(process.exit_code().await, Some(1));
        refused(login.await);
    }

    async fn an_interrupt_ends_an_idle_process_in_order(database: TestDatabase) {
        let mut process = Process::serve(&database, &[]);
        process.grpc_addr().await;
        process.signal("INT");
        assert_eq!(process.exit_code().await, Some(0), "{:#?}", process.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_never_ends_does_not_delay_the_exit() {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let mut process = Process::serve(&database, &SLOW);
    let channel = connect(process.grpc_addr().await).await;
    let client = AuthServiceClient::new(channel.clone());
    let endless = in_flight(&client, login_without_a_body(channel)).await;
    process.signal("TERM");
    process.wait_for("stopped before all calls had ended").await;
    assert_eq!(process.exit_code().await, Some(0));
    refused(endless.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_finishes_its_preface_does_not_delay_the_exit() {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let mut process = Process::serve(&database, &[]);
    let addr = process.grpc_addr().await;
    let mut silent = TcpStream::connect(addr).await.unwrap();
    silent.write_all(b"P").await.unwrap();
    // Connections are accepted one after the other, so the silent one is accepted too.
    let mut client = AuthServiceClient::new(connect(addr).await);
    client.register(register("ana@example.com")).await.unwrap();
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));
    process.wait_for("\"stopped\"").await;
    // The SETTINGS of the server, then the end.
    silent.read_to_end(&mut Vec::new()).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_hangs_does_not_delay_the_exit() {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broker = hangs.local_addr().unwrap().to_string();
    let mut process = Process::serve(&database, &[("KAFKA_BROKERS", &broker)]);
    let mut client = process.client().await;
    client.register(register("ana@example.com")).await.unwrap();
    let _asked = hangs.accept().await.unwrap();
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0), "{:#?}", process.log());
    let released = "SELECT count(*) FROM outbox_lease WHERE expires_at = 0";
    assert_eq!(database.count(released).await, 1);
    assert_eq!(database.count(EVENTS).await, 1);
}
