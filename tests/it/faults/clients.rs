//! Clients that repeat each call until it is answered. They record the promises that they got.

use std::{sync::Arc, time::Duration};

use auth_service::proto::{self, auth_service_client::AuthServiceClient};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, transport::Channel};
use tonic_types::StatusExt as _;

use super::fleet::Balancer;
use crate::harness::{
    Random, assert_invalid_token, login, logout, reason, refresh, refused, register,
};

/// The pause after a failed call.
const PAUSE: Duration = Duration::from_millis(20);
/// The number of accounts that one client creates. After that it uses them in turn.
const ACCOUNTS: usize = 10;

/// An account, as its client knows it from the answers.
pub struct Account {
    pub email: String,
    /// The last refresh token. `None` after a logout.
    pub token: Option<String>,
    /// A refresh token of each session whose logout was acknowledged.
    pub ended: Vec<String>,
    /// Whether the answer to the registration was lost.
    pub registered_twice: bool,
}

pub struct Clients {
    stop: CancellationToken,
    working: JoinSet<Vec<Account>>,
}

impl Clients {
    /// Starts this many clients.
    pub fn start(count: u64, balancer: &Arc<Balancer>, random: &mut Random) -> Self {
        let stop = CancellationToken::new();
        let mut working = JoinSet::new();
        for _ in 0..count {
            let random = random.bits();
            working.spawn(work(Arc::clone(balancer), stop.clone(), random));
        }
        Self { stop, working }
    }

    /// Stops the clients after their present call. Returns their accounts.
    pub async fn stop(self) -> Vec<Account> {
        self.stop.cancel();
        self.working
            .join_all()
            .await
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Registers, refreshes, logs out and in again.
async fn work(balancer: Arc<Balancer>, stop: CancellationToken, mut turn: u64) -> Vec<Account> {
    let mut accounts = Vec::new();
    while !stop.is_cancelled() {
        if accounts.len() < ACCOUNTS {
            accounts.push(Account::open(&balancer).await);
        }
        turn = turn.wrapping_add(1);
        let index = usize::try_from(turn % accounts.len() as u64).expect("small");
        for _ in 0..3 {
            accounts[index].refresh(&balancer).await;
        }
        if turn.is_multiple_of(4) {
            accounts[index].log_out(&balancer).await;
            accounts[index].log_in(&balancer).await;
        }
    }
    accounts
}

impl Account {
    /// Registers. If an answer was lost, the repeated call finds the address taken.
    pub async fn open(balancer: &Balancer) -> Self {
        let email = format!("{}@example.com", uuid::Uuid::now_v7().simple());
        let mut account = Self {
            email: email.clone(),
            token: None,
            ended: Vec::new(),
            registered_twice: false,
        };
        let request = proto::RegisterRequest {
            start_session: true,
            ..register(&email)
        };
        let answer = until_answered(balancer, |mut client| {
            let request = request.clone();
            async move { client.register(request).await }
        });
        match answer.await {
            Ok(answer) => account.token = answer.tokens.map(|tokens| tokens.refresh_token),
            Err(status) => {
                assert_eq!(reason(&status).1, "EMAIL_TAKEN", "{email}: {status:?}");
                account.registered_twice = true;
                account.log_in(balancer).await;
            }
        }
        account
    }

    /// Starts a new session. The client drops the token of the one before.
    pub async fn log_in(&mut self, balancer: &Balancer) {
        let answer = until_answered(balancer, |mut client| {
            let request = login(&self.email);
            async move { client.login(request).await }
        });
        let answer = answer
            .await
            .unwrap_or_else(|status| panic!("{} cannot log in: {status:?}", self.email));
        self.token = answer.tokens.map(|tokens| tokens.refresh_token);
    }

    /// Repeats the same refresh token until there is an answer.
    pub async fn refresh(&mut self, balancer: &Balancer) {
        let token = self.token.clone().expect("logged in");
        let answer = until_answered(balancer, |mut client| {
            let request = refresh(&token);
            async move { client.refresh(request).await }
        });
        let answer = answer
            .await
            .unwrap_or_else(|status| panic!("{} lost its session: {status:?}", self.email));
        self.token = answer.tokens.map(|tokens| tokens.refresh_token);
    }

    pub async fn log_out(&mut self, balancer: &Balancer) {
        let token = self.token.take().expect("logged in");
        let answer = until_answered(balancer, |mut client| {
            let request = logout(&token);
            async move { client.logout(request).await }
        });
        answer
            .await
            .unwrap_or_else(|status| panic!("{} cannot log out: {status:?}", self.email));
        self.ended.push(token);
    }

    /// Fails if a session works again after its logout.
    pub async fn assert_ended(&self, balancer: &Balancer) {
        for token in &self.ended {
            let answer = until_answered(balancer, |mut client| {
                let request = refresh(token);
                async move { client.refresh(request).await }
            });
            assert_invalid_token(&refused(answer.await));
        }
    }
}

/// Repeats a call until it succeeds or is refused.
async fn until_answered<T, Answer>(
    balancer: &Balancer,
    call: impl Fn(AuthServiceClient<Channel>) -> Answer,
) -> Result<T, Status>
where
    Answer: Future<Output = Result<Response<T>, Status>>,
{
    let mut avoid = None;
    for failures in 1.. {
        let (index, client) = balancer.client(avoid);
        match call(client).await {
            Ok(answer) => {
                balancer.count(true);
                return Ok(answer.into_inner());
            }
            Err(status) if is_fault(&status) => {
                balancer.count(false);
                assert!(failures < balancer.tries, "no answer: {status:?}");
            }
            Err(status) => return Err(status),
        }
        avoid = Some(index);
        sleep(PAUSE).await;
    }
    unreachable!("the tries are counted")
}

/// Whether the call may succeed when it is repeated.
pub fn is_fault(status: &Status) -> bool {
    match status.get_details_error_info() {
        Some(info) => ["INTERNAL", "OVERLOADED", "DEADLINE_EXCEEDED"].contains(&&*info.reason),
        None => true, // an error of the transport, not of the service
    }
}
