//! A cluster that fails over by itself, with a synchronous standby: the node of the primary dies
//! under load, the cluster chooses another primary, and the dead node comes back as a standby.

use std::time::{Duration, Instant};

use auth_service::proto::auth_service_client::AuthServiceClient;
use futures::future::join_all;
use tokio::time::sleep;
use tonic::transport::Channel;

use super::{
    clients::{Account, Clients, is_fault},
    fleet::Fleet,
    guarantee,
};
use crate::harness::{Kafka, PatroniCluster, Random, TestDatabase, refresh, soak};

/// The most times that a refresh may fail which begins after the cluster took a write.
///
/// Calls must heal within 5 s after the fail-over. A time limit would also fail on a machine that
/// stands still for 5 s, so attempts are counted. A service that needs a restart, or that waits
/// before it connects again, answers at once that it has no connection: with [`PAUSE`] between the
/// attempts it uses them all up within a second.
const FAILURES: u32 = 20;
/// The same for attempts that wait for their own time limit of some seconds, as on a connection
/// that hangs.
const TIMEOUTS: u32 = 2;
/// Such an attempt takes longer.
const QUICK: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// As many as a replica has connections, so that each connection is used.
const AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_act_is_lost_when_a_cluster_fails_over() {
    let Some(kafka) = Kafka::new().await else {
        return;
    };
    let Some(mut cluster) = PatroniCluster::start().await else {
        return;
    };
    let database = TestDatabase::create_at(&cluster.url(), "OWNER auth").await;
    let mut random = Random::new();
    let url = cluster.service_url(&database);
    let fleet = Fleet::start_at(&url, Some(&kafka), 2, u32::MAX).await;
    let clients = Clients::start(6, &fleet.balancer, &mut random);
    let open = (0..AT_ONCE).map(|_| Account::open(&fleet.balancer));
    let mut quiet = join_all(open).await;

    for _ in 0..soak(1, 5) {
        fleet.balancer.progress(100).await;
        let primary = cluster.until_whole().await;
        cluster.kill(primary).await;
        let killed = Instant::now();
        cluster.until_writable().await;
        let (failed_over, writable) = (killed.elapsed(), Instant::now());
        for client in fleet.balancer.clients() {
            let refreshes = quiet.iter_mut().map(|account| heals(account, &client));
            join_all(refreshes).await;
        }
        let healed = writable.elapsed();
        eprintln!(
            "failed over in {failed_over:.1?}, then {AT_ONCE} refreshes at each replica in {healed:.1?}"
        );
        fleet.balancer.progress(100).await;
        cluster.start_again(primary);
        cluster.until_whole().await;
    }
    fleet.balancer.progress(100).await;
    guarantee::assert_kept(&mut quiet, &fleet.balancer).await;
    guarantee::assert_holds(clients, &fleet, &database, &kafka).await;
}

/// Refreshes the session that the account has had since before the fail-over.
async fn heals(account: &mut Account, client: &AuthServiceClient<Channel>) {
    let token = account.token.as_deref().expect("logged in");
    let (mut failures, mut timeouts) = (0, 0);
    loop {
        let begun = Instant::now();
        let status = match client.clone().refresh(refresh(token)).await {
            Ok(answer) => {
                let tokens = answer.into_inner().tokens;
                account.token = tokens.map(|tokens| tokens.refresh_token);
                return;
            }
            Err(status) => status,
        };
        let count = if begun.elapsed() > QUICK {
            &mut timeouts
        } else {
            &mut failures
        };
        *count += 1;
        assert!(
            is_fault(&status) && failures <= FAILURES && timeouts <= TIMEOUTS,
            "{}: {status:?}",
            account.email
        );
        sleep(PAUSE).await;
    }
}
