//! Replicas as processes, and a load balancer in front of them.

use std::{
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use auth_service::proto::auth_service_client::AuthServiceClient;
use tokio::{sync::watch, time::timeout};
use tonic::transport::{Channel, Endpoint};

use crate::harness::{GATEWAY, Kafka, Process, TestDatabase, settings};

/// A client waits this long for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Replicas with the same database and topic.
pub struct Fleet {
    variables: Vec<(String, String)>,
    replicas: Vec<Process>,
    pub balancer: Arc<Balancer>,
}

impl Fleet {
    /// Starts `size` replicas for clients that never give up.
    pub async fn start(database: &TestDatabase, kafka: Option<&Kafka>, size: usize) -> Self {
        Self::start_at(&database.url(), kafka, size, u32::MAX).await
    }

    /// With another path to the database, and for clients that try a call `tries` times.
    pub async fn start_at(
        database_url: &str,
        kafka: Option<&Kafka>,
        size: usize,
        tries: u32,
    ) -> Self {
        let mut fleet = Self {
            variables: variables(database_url, kafka),
            replicas: Vec::new(),
            balancer: Arc::new(Balancer::new(tries)),
        };
        fleet
            .replicas
            .extend((0..size).map(|_| fleet.spawn()).collect::<Vec<_>>());
        for replica in &fleet.replicas {
            fleet.balancer.add(route(replica).await);
        }
        fleet
    }

    /// Kills a replica with SIGKILL and starts it again, like an orchestrator. With `early` it is
    /// killed once more while it starts.
    pub async fn kill(&mut self, index: usize, early: bool) {
        self.replicas[index].signal("KILL");
        self.replicas[index].killed_by().await;
        self.replicas[index] = self.spawn();
        if early {
            self.replicas[index].signal("KILL");
            self.replicas[index].killed_by().await;
            self.replicas[index] = self.spawn();
        }
        let route = route(&self.replicas[index]).await;
        self.balancer.replace(index, route);
    }

    /// Stops a replica in order and starts it again. Clients notice it only by failed calls.
    pub async fn restart(&mut self, index: usize) {
        self.replicas[index].signal("TERM");
        assert_eq!(self.replicas[index].exit_code().await, Some(0));
        self.replicas[index] = self.spawn();
        let route = route(&self.replicas[index]).await;
        self.balancer.replace(index, route);
    }

    pub fn replica(&self, index: usize) -> &Process {
        &self.replicas[index]
    }

    fn spawn(&self) -> Process {
        let variables: Vec<_> = self
            .variables
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        Process::start(&env::temp_dir(), &[], &variables)
    }
}

fn variables(database_url: &str, kafka: Option<&Kafka>) -> Vec<(String, String)> {
    let mut more = GATEWAY.to_vec();
    // A login that a kill cuts off counts as a failure, and the clients try again and again.
    more.push(("THROTTLE_FREE_PER_DEVICE", "1000000"));
    more.push(("THROTTLE_FREE_PER_ACCOUNT", "1000000"));
    more.push(("THROTTLE_DAILY_PER_ACCOUNT", "1000000"));
    if let Some(kafka) = kafka {
        more.extend(kafka.variables());
    }
    settings(database_url, &more)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

async fn route(replica: &Process) -> Channel {
    let addr = replica.grpc_addr().await;
    Endpoint::from_shared(format!("http://{addr}"))
        .expect("an address")
        .timeout(ANSWER_TIMEOUT)
        .connect_lazy()
}

/// Sends each call to the next replica, even if that one is down.
pub struct Balancer {
    /// The most times that a client tries a call.
    pub tries: u32,
    routes: Mutex<Vec<Channel>>,
    turn: AtomicUsize,
    answered: watch::Sender<u64>,
    failed: watch::Sender<u64>,
}

impl Balancer {
    fn new(tries: u32) -> Self {
        Self {
            tries,
            routes: Mutex::default(),
            turn: AtomicUsize::default(),
            answered: watch::Sender::default(),
            failed: watch::Sender::default(),
        }
    }

    fn add(&self, route: Channel) {
        self.routes.lock().unwrap().push(route);
    }

    fn replace(&self, index: usize, route: Channel) {
        self.routes.lock().unwrap()[index] = route;
    }

    /// A client of the next replica, and the index of that replica. It is not `avoid` if there is
    /// another one.
    pub fn client(&self, avoid: Option<usize>) -> (usize, AuthServiceClient<Channel>) {
        let routes = self.routes.lock().unwrap();
        let mut index = self.turn.fetch_add(1, Ordering::Relaxed) % routes.len();
        if Some(index) == avoid {
            index = (index + 1) % routes.len();
        }
        (index, AuthServiceClient::new(routes[index].clone()))
    }

    /// A client of each replica.
    pub fn clients(&self) -> Vec<AuthServiceClient<Channel>> {
        let routes = self.routes.lock().unwrap();
        routes.iter().cloned().map(AuthServiceClient::new).collect()
    }

    /// Counts an answered or a failed call.
    pub fn count(&self, answered: bool) {
        let counter = if answered {
            &self.answered
        } else {
            &self.failed
        };
        counter.send_modify(|count| *count += 1);
    }

    /// The numbers of answered and of failed calls.
    pub fn counts(&self) -> (u64, u64) {
        (*self.answered.borrow(), *self.failed.borrow())
    }

    /// Waits until this many more calls were answered.
    pub async fn progress(&self, calls: u64) {
        more(&self.answered, calls).await;
    }

    /// Waits until this many more calls have failed.
    pub async fn failures(&self, calls: u64) {
        more(&self.failed, calls).await;
    }
}

async fn more(counter: &watch::Sender<u64>, calls: u64) {
    let mut counter = counter.subscribe();
    let goal = *counter.borrow() + calls;
    let reached = counter.wait_for(|count| *count >= goal);
    timeout(Duration::from_secs(90), reached)
        .await
        .expect("calls end")
        .expect("the balancer lives");
}
