//! Units of work that Postgres rolls back because of other ones: they are run again within the
//! time limit, and no call fails. Nothing is done twice.

use auth_service::proto;
use futures::future::join_all;
use tokio_postgres::NoTls;

use crate::harness::{
    Backend, Conflicts, Held, IMPORTER, INTERNAL_TOKEN, Proxy, Service, Statements, TestDatabase,
    admin, assert_outage, change_password, delete_account, end_session, import, login, outcome,
    refused, rows,
};

const NEW_PASSWORD: &str = "quiet meadow brass lantern";

const SERIALIZABLE: &str = "DO $$ BEGIN EXECUTE format(
    'ALTER ROLE CURRENT_USER IN DATABASE %I SET default_transaction_isolation = serializable',
    current_database()); END $$";

/// A service behind a proxy, without conflicts at first.
async fn service(options: &[&str]) -> Option<(Service, Conflicts)> {
    let database = TestDatabase::create(Backend::Postgres).await?;
    let conflicts = database.conflicts().await;
    let url = database.url_through(&conflicts);
    let options = [&["--database-url", &url], options].concat();
    Some((Service::start(database, &options).await, conflicts))
}

/// How many units of work were run again, for this reason.
async fn retries(service: &Service, reason: &str) -> u64 {
    let (_, page) = service.probe("/metrics").await;
    let series = format!("auth_db_retries_total{{reason=\"{reason}\"}} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&series));
    value.expect("the series exists").parse().expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_runs_its_units_of_work_again_on_postgres() {
    const EACH: usize = 4;
    let Some((service, conflicts)) = service(&[]).await else {
        return;
    };
    let again = || conflicts.answer_next(EACH);
    again();
    let ana = service.sign_up("ana@example.com").await;
    again();
    let phone = service.sign_in("ana@example.com").await;
    again();
    let tablet = service.sign_in("ana@example.com").await;
    again();
    let tokens = service.refresh(&tablet.tokens.refresh_token).await.unwrap();
    again();
    service.log_out(&tokens.refresh_token).await.unwrap();
    let mut account = service.account(&ana);
    again();
    account
        .get_account(proto::GetAccountRequest {})
        .await
        .unwrap();
    again();
    let listed = account.list_sessions(proto::ListSessionsRequest {}).await;
    assert_eq!(listed.unwrap().into_inner().sessions.len(), 2);
    again();
    account.end_session(end_session(&phone.id)).await.unwrap();
    service.sign_in("ana@example.com").await;
    again();
    let ended = account
        .end_other_sessions(proto::EndOtherSessionsRequest {})
        .await;
    assert_eq!(ended.unwrap().into_inner().ended, 1);
    again();
    account
        .change_password(change_password(NEW_PASSWORD))
        .await
        .unwrap();
    again();
    account
        .delete_account(delete_account(NEW_PASSWORD))
        .await
        .unwrap();

    // Each event once, without a gap.
    let events = service.database.events().await;
    let versions: Vec<_> = events.iter().map(|event| event.user_version).collect();
    assert_eq!(versions, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(
        service.database.count("SELECT count(*) FROM users").await,
        0
    );
    let answered = u64::try_from(conflicts.answered()).unwrap();
    assert!(answered >= 10 * u64::try_from(EACH).unwrap());
    assert!(retries(&service, "serialization").await >= answered - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_act_of_an_administrator_runs_its_unit_of_work_again_on_postgres() {
    const EACH: usize = 4;
    let tokens = format!("support:{INTERNAL_TOKEN}");
    let options = [
        "--internal-tokens",
        &tokens,
        "--internal-scopes",
        "support=admin",
    ];
    let Some((service, conflicts)) = service(&options).await else {
        return;
    };
    let ana = service.sign_up("ana@example.com").await;
    let mut support = admin(service.channel(), INTERNAL_TOKEN);
    let id = || ana.user_id.clone();
    let again = || conflicts.answer_next(EACH);
    again();
    let roles = vec!["moderator".to_owned()];
    let set = proto::SetRolesRequest {
        user_id: id(),
        roles,
        expected_version: 0,
    };
    let set = support.set_roles(set).await.unwrap().into_inner();
    assert_eq!(set.roles_version, 1);
    again();
    let end = proto::EndUserSessionsRequest {
        user_id: id(),
        session_id: String::new(),
    };
    let ended = support.end_user_sessions(end).await.unwrap().into_inner();
    assert_eq!(ended.ended, 1);
    again();
    let suspend = proto::SuspendUserRequest {
        user_id: id(),
        reason: "spam".to_owned(),
        until: None,
    };
    support.suspend_user(suspend).await.unwrap();
    again();
    let restore = proto::RestoreUserRequest { user_id: id() };
    support.restore_user(restore).await.unwrap();
    again();
    let send = proto::SendPasswordResetRequest { user_id: id() };
    support.send_password_reset(send).await.unwrap();
    again();
    let invalidate = proto::InvalidatePasswordRequest { user_id: id() };
    support.invalidate_password(invalidate).await.unwrap();
    again();
    let unlock = proto::UnlockUserRequest { user_id: id() };
    support.unlock_user(unlock).await.unwrap();
    again();
    let delete = proto::DeleteUserRequest { user_id: id() };
    support.delete_user(delete).await.unwrap();

    // Each event once, without a gap.
    let events = service.database.events().await;
    assert!(events.iter().map(|event| event.user_version).eq(1..=9));
    let answered = u64::try_from(conflicts.answered()).unwrap();
    assert!(answered >= 8 * u64::try_from(EACH).unwrap(), "{answered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_runs_its_batches_again_on_postgres() {
    let tokens = format!("importer:{IMPORTER}");
    let importer = [
        "--internal-tokens",
        &tokens,
        "--internal-scopes",
        "importer=import",
    ];
    let Some((service, conflicts)) = service(&importer).await else {
        return;
    };
    conflicts.answer_next(5);
    let (results, ended) = import(admin(service.channel(), IMPORTER), rows(600)).await;
    ended.expect("no call fails");
    assert!(results.iter().all(|result| outcome(result) == "CREATED"));
    let events = service.database.events().await;
    assert!(events.len() == 600 && events.iter().all(|event| event.user_version == 1));
    assert!(retries(&service, "serialization").await >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_of_work_that_never_succeeds_ends_with_its_time_on_postgres() {
    let Some((service, conflicts)) =
        service(&["--request-timeout", "4s", "--password-max-wait", "3s"]).await
    else {
        return;
    };
    conflicts.answer_next(usize::MAX);
    let status = refused(service.client().login(login("ana@example.com")).await);
    assert_outage(&status);
    conflicts.answer_next(0);
    assert_eq!(
        service.database.count("SELECT count(*) FROM users").await,
        0
    );
    service.sign_up("ana@example.com").await;
}

/// Twenty logins and ten refreshes of one token at the same time, and twenty logouts.
async fn call_at_once(service: &Service) {
    let ana = service.sign_up("ana@example.com").await;
    let logins = join_all((0..20).map(|_| service.sign_in("ana@example.com"))).await;
    let token = &ana.tokens.refresh_token;
    let refreshed = join_all((0..10).map(|_| service.refresh(token))).await;
    let successors = refreshed
        .into_iter()
        .map(|tokens| tokens.unwrap().refresh_token);
    let mut successors: Vec<_> = successors.collect();
    successors.dedup();
    assert_eq!(successors.len(), 1, "two calls rotated one token");
    let logouts = logins
        .iter()
        .map(|session| service.log_out(&session.tokens.refresh_token));
    join_all(logouts)
        .await
        .into_iter()
        .for_each(|ended| ended.unwrap());
    let events = service.database.events().await;
    assert!(events.iter().map(|event| event.user_version).eq(1..=21));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_reads_committed_whatever_the_role_says_on_postgres() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    database.execute(SERIALIZABLE).await;
    let statements = Statements::default();
    let proxy = Proxy::recording(&database, Some(statements.clone())).await;
    let service = Service::start(database, &["--database-url", &proxy.url]).await;
    statements.take();
    call_at_once(&service).await;
    assert_eq!(retries(&service, "serialization").await, 0);
    // A pooler may give a transaction to another session than the one with the setting.
    let begun = statements
        .take()
        .into_iter()
        .filter(|sql| sql.starts_with("BEGIN"));
    let begun: Vec<_> = begun.collect();
    assert!(begun.len() > 20);
    assert!(
        begun
            .iter()
            .all(|sql| sql == "BEGIN ISOLATION LEVEL read committed")
    );
}

/// As through PgBouncer in transaction mode, single statements are SERIALIZABLE.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_where_a_pooler_forgets_the_isolation_on_postgres() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    database.execute(SERIALIZABLE).await;
    let conflicts = database.conflicts().await;
    conflicts.be_hostile(usize::MAX);
    let url = database.url_through(&conflicts);
    let service = Service::start(database, &["--database-url", &url]).await;
    call_at_once(&service).await;
    // A statement that waited for a change is rolled back and run again.
    let ben = service.sign_up("ben@example.com").await;
    let before = retries(&service, "serialization").await;
    let held = Held::begin(&service.database, "UPDATE sessions SET id = id").await;
    let (refreshed, ()) = tokio::join!(
        service.refresh(&ben.tokens.refresh_token),
        held.commit_when_awaited(&service.database)
    );
    refreshed.unwrap();
    assert!(retries(&service, "serialization").await > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_victim_of_a_deadlock_is_run_again_on_postgres() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    let url = database.direct_url();
    let service = Service::start(database, &["--database-url", &url]).await;
    let ana = service.sign_up("ana@example.com").await;
    let (other, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    // The service looks for a deadlock after a second, this connection never.
    other
        .batch_execute("SET deadlock_timeout = '1min'; BEGIN; UPDATE sessions SET id = id")
        .await
        .unwrap();
    let logout = async { service.log_out(&ana.tokens.refresh_token).await };
    let deadlock = async {
        let waits = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        service.database.wait_for(waits, 1).await;
        other
            .batch_execute("UPDATE users SET id = id; COMMIT")
            .await
            .unwrap();
    };
    let (ended, ()) = tokio::join!(logout, deadlock);
    ended.unwrap();
    assert_eq!(retries(&service, "deadlock").await, 1);
    assert_eq!(service.database.events().await.len(), 2);
}
