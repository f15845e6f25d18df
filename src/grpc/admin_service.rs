//! `AdminService`: handlers, and the conversion of their messages.

use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use super::{Handlers, Scope, convert, import_users::ImportResults};
use crate::{
    auth::{Error, Page, PageRequest, UserRef},
    model::{CountedUser, Roles, Suspension, SuspensionReason, Timestamp, UserId},
    proto::{self, admin_service_server::AdminService, get_user_request::User},
    telemetry::audit::Event,
};

const LARGEST_PAGE: u32 = 1000;
const DEFAULT_PAGE: u32 = 100;
/// A page of ordinary accounts is a fifth of this. Clients refuse messages of more than 4 MiB.
pub(super) const MAX_PAGE_BYTES: usize = 1024 * 1024;

#[tonic::async_trait]
impl AdminService for Handlers {
    async fn get_user(
        &self,
        request: Request<proto::GetUserRequest>,
    ) -> Result<Response<proto::GetUserResponse>, Status> {
        let mut audited = self.audited(Event::GetUser, &request);
        let reply = async {
            audited.admin_call(Scope::Admin, &request)?;
            let user = match &request.get_ref().user {
                Some(User::UserId(id)) => UserRef::Id(audited.user(id)?),
                Some(User::Email(email)) => {
                    self.note_email(email, &mut audited);
                    UserRef::Email(convert::email("email", email)?)
                }
                None => return Err(Error::invalid("user_id", "this or email must not be empty")),
            };
            let call = audited.call(&request);
            let found = self.admin.get_user(&user, &call).await?;
            let user = Some(describe(found, self.admin.clock.now()));
            Ok(proto::GetUserResponse { user })
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn list_users(
        &self,
        request: Request<proto::ListUsersRequest>,
    ) -> Result<Response<proto::ListUsersResponse>, Status> {
        let mut audited = self.audited(Event::ListUsers, &request);
        let reply = async {
            let call = audited.admin_call(Scope::Admin, &request)?;
            let page = parse_page(&request.into_inner())?;
            let page = self.admin.list_users(page, &call).await?;
            Ok(describe_page(page, self.admin.clock.now()))
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn list_user_sessions(
        &self,
        request: Request<proto::ListUserSessionsRequest>,
    ) -> Result<Response<proto::ListUserSessionsResponse>, Status> {
        let mut audited = self.audited(Event::ListUserSessions, &request);
        let reply = async {
            let call = audited.admin_call(Scope::Admin, &request)?;
            let id = audited.user(&request.into_inner().user_id)?;
            let sessions = self.admin.list_user_sessions(id, &call).await?;
            let sessions = sessions.into_iter().map(Into::into).collect();
            Ok(proto::ListUserSessionsResponse { sessions })
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn end_user_sessions(
        &self,
        request: Request<proto::EndUserSessionsRequest>,
    ) -> Result<Response<proto::EndUserSessionsResponse>, Status> {
        let mut audited = self.audited(Event::EndUserSessions, &request);
        let reply = async {
            let call = audited.admin_call(Scope::Admin, &request)?;
            let message = request.into_inner();
            let id = audited.user(&message.user_id)?;
            let session = Some(message.session_id).filter(|id| !id.is_empty());
            let session = session.map(|id| convert::session_id(&id)).transpose()?;
            let ended = self.admin.end_user_sessions(id, session, &call).await?;
            let ended = u32::try_from(ended).unwrap_or(u32::MAX);
            Ok(proto::EndUserSessionsResponse { ended })
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn suspend_user(
        &self,
        request: Request<proto::SuspendUserRequest>,
    ) -> Result<Response<proto::SuspendUserResponse>, Status> {
        let mut audited = self.audited(Event::SuspendUser, &request);
        let reply = async {
            let call = audited.admin_call(Scope::Admin, &request)?;
            let message = request.into_inner();
            let id = audited.user(&message.user_id)?;
            let reason = SuspensionReason::parse(message.reason);
            let reason = reason.map_err(|problem| Error::invalid("reason", problem))?;
            let until = convert::time("until", message.until)?;
            self.admin.suspend_user(id, &reason, until, &call).await?;
            Ok(proto::SuspendUserResponse {})
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn restore_user(
        &self,
        request: Request<proto::RestoreUserRequest>,
    ) -> Result<Response<proto::RestoreUserResponse>, Status> {
        let mut audited = self.audited(Event::RestoreUser, &request);
        let reply = async {
            let call = audited.admin_call(Scope::Admin, &request)?;
            let id = audited.user(&request.into_inner().user_id)?;
            self.admin.restore_user(id, &call).await?;
            Ok(proto::RestoreUserResponse {})
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn send_password_reset(
        &self,
        request: Request<proto::SendPasswordResetRequest>,
    ) -> Result<Response<proto::SendPasswordResetResponse>, Status> {
        let mut audited = self.audited(Event::SendPasswordReset, &request);
        let reply = async {
            let call = audited.admin_call(Scope::Admin, &request)?;
            let id = audited.user(&request.into_inner().user_id)?;
            self.admin.send_password_reset(id, &call).await?;
            Ok(proto::SendPasswordResetResponse {})
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn invalidate_password(
        &self,
        request: Request<proto::InvalidatePasswordRequest>,
    ) -> Result<Response<proto::InvalidatePasswordResponse>, Status> {
        let mut audited = self.audited(Event::InvalidatePassword, &request);
        let reply = async {
            let call = audited.admin_call(Scope::Admin, &request)?;
            let id = audited.user(&request.into_inner().user_id)?;
            self.admin.invalidate_password(id, &call).await?;
            Ok(proto::InvalidatePasswordResponse {})
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn unlock_user(
        &self,
        request: Request<proto::UnlockUserRequest>,
    ) -> Result<Response<proto::UnlockUserResponse>, Status> {
        let mut audited = self.audited(Event::UnlockUser, &request);
        let reply = async {
            let call = audited.admin_call(Scope::Admin, &request)?;
            let id = audited.user(&request.into_inner().user_id)?;
            self.admin.unlock_user(id, &call).await?;
            Ok(proto::UnlockUserResponse {})
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn set_roles(
        &self,
        request: Request<proto::SetRolesRequest>,
    ) -> Result<Response<proto::SetRolesResponse>, Status> {
        let mut audited = self.audited(Event::SetRoles, &request);
        let reply = async {
            let call = audited.admin_call(Scope::Admin, &request)?;
            let message = request.into_inner();
            let id = audited.user(&message.user_id)?;
            let roles = Roles::parse(&message.roles);
            let roles = roles.map_err(|problem| Error::invalid("roles", problem))?;
            let expected = expected_version(message.expected_version)?;
            let roles_version = self.admin.set_roles(id, &roles, expected, &call).await?;
            Ok(proto::SetRolesResponse { roles_version })
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn delete_user(
        &self,
        request: Request<proto::DeleteUserRequest>,
    ) -> Result<Response<proto::DeleteUserResponse>, Status> {
        let mut audited = self.audited(Event::DeleteUser, &request);
        let reply = async {
            let call = audited.admin_call(Scope::Admin, &request)?;
            let id = audited.user(&request.into_inner().user_id)?;
            self.admin.delete_user(id, &call).await?;
            Ok(proto::DeleteUserResponse {})
        };
        let reply = reply.await;
        audited.end(reply)
    }

    type ImportUsersStream = ImportResults;

    async fn import_users(
        &self,
        request: Request<Streaming<proto::ImportUser>>,
    ) -> Result<Response<ImportResults>, Status> {
        self.begin_import(request)
    }
}

fn parse_page(message: &proto::ListUsersRequest) -> Result<PageRequest, Error> {
    let size = match message.page_size {
        0 => DEFAULT_PAGE,
        size if size <= LARGEST_PAGE => size,
        _ => return Err(Error::invalid("page_size", "must be at most 1000")),
    };
    let token = Some(&message.page_token).filter(|token| !token.is_empty());
    let after = token.map(|token| {
        UserId::parse(token)
            .ok_or_else(|| Error::invalid("page_token", "is not one that this service made"))
    });
    let after = after.transpose()?;
    Ok(PageRequest { after, size })
}

fn expected_version(version: i64) -> Result<Option<i64>, Error> {
    if version < 0 {
        return Err(Error::invalid("expected_version", "must not be negative"));
    }
    Ok((version > 0).then_some(version))
}

fn describe_page(page: Page, now: Timestamp) -> proto::ListUsersResponse {
    let mut response = proto::ListUsersResponse::default();
    let (mut bytes, mut is_cut) = (0, false);
    for user in page.users {
        let user = describe(user, now);
        bytes += user.encoded_len();
        if bytes > MAX_PAGE_BYTES {
            is_cut = true;
            break;
        }
        response.users.push(user);
    }
    if page.has_next || is_cut {
        let last = response.users.last().map(|user| user.user_id.clone());
        response.next_page_token = last.unwrap_or_default();
    }
    response
}

fn describe(CountedUser { user, sessions }: CountedUser, now: Timestamp) -> proto::User {
    let suspension = user.suspension_in_force(now);
    proto::User {
        user_id: user.id.to_string(),
        email_verified_at: user.email_verified_at.map(Into::into),
        created_at: Some(user.created_at.into()),
        password_changed_at: user.usable_password_set_at().map(Into::into),
        suspension: suspension.map(Into::into),
        roles: user.roles.to_list(),
        roles_version: user.roles_version,
        sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
        event_version: user.event_version,
        email: user.email,
    }
}

impl From<&Suspension> for proto::Suspension {
    fn from(suspension: &Suspension) -> Self {
        Self {
            reason: suspension.reason.clone(),
            since: Some(suspension.since.into()),
            until: suspension.until.map(Into::into),
        }
    }
}
