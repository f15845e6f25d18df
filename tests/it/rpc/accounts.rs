//! `AccountService`: a signed-in user and the own account.

mod caller;
mod deletion;
mod limit;
mod password;
mod races;
pub(super) mod sessions;
mod statements;

use auth_service::proto;
use tonic::Status;

use crate::harness::{Account, change_password, delete_account, end_session, refused};

/// Another password than [`PASSWORD`](crate::harness::PASSWORD).
const NEW_PASSWORD: &str = "quiet meadow brass lantern";

/// The answers of the six calls to a caller that all of them refuse.
async fn refusals(mut account: Account) -> Vec<Status> {
    let id = "0192f3a4-0000-7000-8000-000000000000";
    vec![
        refused(account.get_account(proto::GetAccountRequest {}).await),
        refused(account.change_password(change_password(NEW_PASSWORD)).await),
        refused(account.list_sessions(proto::ListSessionsRequest {}).await),
        refused(account.end_session(end_session(id)).await),
        refused(
            account
                .end_other_sessions(proto::EndOtherSessionsRequest {})
                .await,
        ),
        refused(account.delete_account(delete_account(NEW_PASSWORD)).await),
    ]
}

pub(super) async fn get_account(mut account: Account) -> Result<proto::GetAccountResponse, Status> {
    let answer = account.get_account(proto::GetAccountRequest {}).await?;
    Ok(answer.into_inner())
}

pub(super) async fn list_sessions(mut account: Account) -> Vec<proto::Session> {
    let answer = account.list_sessions(proto::ListSessionsRequest {}).await;
    answer
        .expect("the caller is signed in")
        .into_inner()
        .sessions
}

/// The number of sessions that ended.
async fn end_others(mut account: Account) -> Result<u32, Status> {
    let request = proto::EndOtherSessionsRequest {};
    let answer = account.end_other_sessions(request).await?;
    Ok(answer.into_inner().ended)
}

/// The version and the kind of each event. A session's end is named by its reason.
pub(super) fn kinds(events: &[proto::UserEvent]) -> Vec<(i64, &'static str)> {
    use proto::user_event::Payload;
    let kind = |event: &proto::UserEvent| match event.payload.as_ref().expect("a payload") {
        Payload::UserCreated(_) => "USER_CREATED",
        Payload::PasswordChanged(_) => "PASSWORD_CHANGED",
        Payload::SessionStarted(_) => "SESSION_STARTED",
        Payload::SessionEnded(ended) => ended.reason().as_str_name(),
        Payload::UserDeleted(_) => "USER_DELETED",
        Payload::MailRequested(_) => "MAIL_REQUESTED",
        Payload::EmailVerified(_) => "EMAIL_VERIFIED",
        Payload::EmailChanged(_) => "EMAIL_CHANGED",
        Payload::UserSuspended(_) => "USER_SUSPENDED",
        Payload::UserRestored(_) => "USER_RESTORED",
        Payload::RolesChanged(_) => "ROLES_CHANGED",
    };
    events
        .iter()
        .map(|event| (event.user_version, kind(event)))
        .collect()
}
