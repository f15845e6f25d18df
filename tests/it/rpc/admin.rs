//! `AdminService`: support staff and other people's accounts.

mod access;
mod password;
mod races;
mod roles;
mod sessions;
mod suspension;
mod users;

use auth_service::proto::{self, user_event::Payload};
use tonic::{Code, Status};

use super::recovery::{Mailing, SUPPORT};
use crate::harness::{Admin, admin, error_line, reason};

const ANA: &str = "ana@example.com";
const NO_USER: &str = "0192f3a4-0000-7000-8000-000000000000";

impl Mailing {
    pub(super) fn admin(&self) -> Admin {
        admin(self.0.channel(), SUPPORT)
    }

    pub(super) async fn user(&self, user_id: &str) -> proto::User {
        let answer = self.admin().get_user(by_id(user_id)).await;
        answer
            .expect("it exists")
            .into_inner()
            .user
            .expect("a user")
    }

    pub(super) async fn suspend(&self, user_id: &str) {
        let answer = self.admin().suspend_user(suspend(user_id)).await;
        answer.expect("it exists");
    }

    async fn restore(&self, user_id: &str) {
        let user_id = user_id.to_owned();
        let request = proto::RestoreUserRequest { user_id };
        self.admin().restore_user(request).await.expect("it exists");
    }

    async fn set_roles(&self, user_id: &str, roles: &[&str], expected: i64) -> Result<i64, Status> {
        let request = proto::SetRolesRequest {
            user_id: user_id.to_owned(),
            roles: roles.iter().map(ToString::to_string).collect(),
            expected_version: expected,
        };
        let answer = self.admin().set_roles(request).await;
        answer.map(|answer| answer.into_inner().roles_version)
    }

    /// The actors of the events, in their order.
    async fn actors(&self) -> Vec<String> {
        let events = self.0.database.events().await.into_iter();
        events.map(|event| event.actor).collect()
    }

    async fn payloads(&self) -> Vec<Payload> {
        let events = self.0.database.events().await.into_iter();
        events.filter_map(|event| event.payload).collect()
    }
}

fn by_id(user_id: &str) -> proto::GetUserRequest {
    proto::GetUserRequest {
        user: Some(proto::get_user_request::User::UserId(user_id.to_owned())),
    }
}

fn by_email(email: &str) -> proto::GetUserRequest {
    proto::GetUserRequest {
        user: Some(proto::get_user_request::User::Email(email.to_owned())),
    }
}

/// For ever.
fn suspend(user_id: &str) -> proto::SuspendUserRequest {
    proto::SuspendUserRequest {
        user_id: user_id.to_owned(),
        reason: "spam".to_owned(),
        until: None,
    }
}

/// The answers to a call of each kind about this user, but for `GetUser` and `ListUsers`.
async fn all_acts(mut admin: Admin, user_id: &str) -> Vec<Result<(), Status>> {
    let id = || user_id.to_owned();
    let session_id = String::new();
    let roles = proto::SetRolesRequest {
        user_id: id(),
        ..Default::default()
    };
    let sessions = proto::ListUserSessionsRequest { user_id: id() };
    let end = proto::EndUserSessionsRequest {
        user_id: id(),
        session_id,
    };
    let restore = proto::RestoreUserRequest { user_id: id() };
    let reset = proto::SendPasswordResetRequest { user_id: id() };
    let invalidate = proto::InvalidatePasswordRequest { user_id: id() };
    let unlock = proto::UnlockUserRequest { user_id: id() };
    let delete = proto::DeleteUserRequest { user_id: id() };
    vec![
        admin.list_user_sessions(sessions).await.map(drop),
        admin.end_user_sessions(end).await.map(drop),
        admin.suspend_user(suspend(user_id)).await.map(drop),
        admin.restore_user(restore).await.map(drop),
        admin.send_password_reset(reset).await.map(drop),
        admin.invalidate_password(invalidate).await.map(drop),
        admin.unlock_user(unlock).await.map(drop),
        admin.set_roles(roles).await.map(drop),
        admin.delete_user(delete).await.map(drop),
    ]
}

fn assert_suspended(status: &Status) {
    let expected = (Code::PermissionDenied, "ACCOUNT_SUSPENDED".to_owned());
    assert_eq!(reason(status), expected, "{}", error_line(status));
}
