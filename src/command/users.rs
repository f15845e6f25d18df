//! `auth-service users`: support for accounts without a client. It works on the database, beside
//! the running service, which publishes the events. Audit lines go to the log, as in the service.

mod confirm;
mod export;
mod import;
mod json;
mod lines;
mod new_file;
mod output;
mod progress;
mod row;
mod table;

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use auth_service::{
    app::{SystemClock, data_key},
    auth::{Admin, Call, Commits, Error, ImportPace, PageRequest, UserRef},
    config::{File, Until, Users, UsersAction as Action},
    db::{self, Db},
    model::{Clock as _, DataKeys, Roles, SessionId, SuspensionReason, Transition, UserId},
    telemetry::audit::{Context, Event},
};
use tokio::time::Instant;

use self::output::Output;
use super::{Signals, Usage};

/// The `caller` of audit lines; `admin:cli` is the actor of events.
const CALLER: &str = "cli";
/// A command is ended by a signal, not by a deadline.
const NEVER: Duration = Duration::from_hours(365 * 24);
/// The accounts that are in memory at a time.
const PAGE: u32 = 500;

pub(super) struct Parts {
    pub(super) db: Db,
    pub(super) data_keys: Arc<DataKeys>,
    pub(super) access_token_ttl: Duration,
}

/// The acts, and what shows their results.
struct Operator {
    admin: Arc<Admin>,
    output: Output,
}

pub(super) async fn run(parts: Parts, users: Users, signals: &Signals) -> anyhow::Result<()> {
    let Users { action, json } = users;
    check_usage(&action)?;
    check_schema(&parts.db).await?;
    data_key::check(&parts.db, &parts.data_keys, None, SystemClock.now()).await?;
    let transition = match &action {
        Action::Import { .. } => find_transition(&parts.db).await?,
        _ => Transition::default(),
    };
    let admin = Arc::new(Admin {
        db: parts.db,
        data_keys: parts.data_keys,
        transition,
        access_token_ttl: parts.access_token_ttl,
        clock: Arc::new(SystemClock),
        commits: Commits::default(),
        import_pace: ImportPace::default(),
    });
    let output = Output { json };
    let operator = Operator { admin, output };
    let makes_a_file = matches!(
        &action,
        Action::Export {
            file: File::Path(_),
            ..
        }
    );
    let act = operator.act(action);
    if makes_a_file {
        return export::until_stopped(act, signals.stop_in_order()).await;
    }
    act.await
}

/// What clap cannot know.
fn check_usage(action: &Action) -> Result<(), Usage> {
    match action {
        Action::Delete { yes: false, .. } => confirm::require_terminal(),
        Action::Export {
            file, with_hashes, ..
        } => export::check(file, *with_hashes),
        _ => Ok(()),
    }
}

async fn check_schema(db: &Db) -> anyhow::Result<()> {
    db.check_encoding().await?;
    match db.pending_migrations().await? {
        0 => Ok(()),
        _ => bail!("the database lacks migrations: run `auth-service migrate`"),
    }
}

/// Only an import stores hashes, and no command reads refresh tokens, whose life does not matter.
/// The first start of a replica begins the roll-out, an import before it does not.
async fn find_transition(db: &Db) -> Result<Transition, db::Error> {
    let now = SystemClock.now();
    if db.is_roll_out_ahead(now).await? {
        return Ok(Transition::new(now + NEVER, Duration::ZERO));
    }
    let ends_at = db.transition_ends_at(now).await?;
    Ok(ends_at.map_or_else(Transition::default, |at| {
        Transition::new(at, Duration::ZERO)
    }))
}

impl Operator {
    async fn act(&self, action: Action) -> anyhow::Result<()> {
        match action {
            Action::Get { user } => self.get(&user).await,
            Action::List => self.list().await,
            Action::Suspend {
                user,
                reason,
                until,
            } => self.suspend(&user, &reason, until).await,
            Action::Restore { user } => self.restore(&user).await,
            Action::EndSessions { user, session } => self.end_sessions(&user, session).await,
            Action::SendReset { user } => self.send_reset(&user).await,
            Action::InvalidatePassword { user } => self.invalidate_password(&user).await,
            Action::Unlock { user } => self.unlock(&user).await,
            Action::SetRoles { user, roles } => self.set_roles(&user, &roles).await,
            Action::Delete { user, yes } => self.delete(&user, yes).await,
            Action::Import { file } => self.import(&file).await,
            Action::Export {
                file,
                user: Some(user),
                ..
            } => self.export_person(&file, &user).await,
            Action::Export {
                file, with_hashes, ..
            } => self.export(&file, with_hashes).await,
        }
    }

    async fn get(&self, user: &UserRef) -> anyhow::Result<()> {
        let found = self.admin.get_user(user, &self.call(Some(user))).await?;
        self.output.account(&found, self.admin.clock.now())
    }

    async fn list(&self) -> anyhow::Result<()> {
        let mut list = self.output.list();
        let (mut after, size, call) = (None, PAGE, self.call(None));
        loop {
            let page = PageRequest { after, size };
            let page = self.admin.list_users(page, &call).await?;
            let is_read = list.show(&page.users, self.admin.clock.now())?;
            if !page.has_next || !is_read {
                return Ok(());
            }
            after = page.users.last().map(|last| last.user.id);
        }
    }

    async fn suspend(
        &self,
        user: &UserRef,
        reason: &SuspensionReason,
        until: Option<Until>,
    ) -> anyhow::Result<()> {
        let (call, id) = self.begin(user, Event::SuspendUser).await?;
        let until = until.map(|until| match until {
            Until::At(time) => time,
            Until::In(duration) => self.admin.clock.now() + duration,
        });
        let done = self.admin.suspend_user(id, reason, until, &call).await;
        done.map_err(usage)?;
        self.output
            .done(id, "is suspended, its sessions have ended")
    }

    async fn restore(&self, user: &UserRef) -> anyhow::Result<()> {
        let (call, id) = self.begin(user, Event::RestoreUser).await?;
        self.admin.restore_user(id, &call).await?;
        self.output.done(id, "is not suspended")
    }

    async fn end_sessions(&self, user: &UserRef, one: Option<SessionId>) -> anyhow::Result<()> {
        let (call, id) = self.begin(user, Event::EndUserSessions).await?;
        let ended = self.admin.end_user_sessions(id, one, &call).await?;
        self.output.ended(id, ended)
    }

    async fn send_reset(&self, user: &UserRef) -> anyhow::Result<()> {
        let (call, id) = self.begin(user, Event::SendPasswordReset).await?;
        self.admin.send_password_reset(id, &call).await?;
        self.output.done(id, "gets a mail to set a password")
    }

    async fn invalidate_password(&self, user: &UserRef) -> anyhow::Result<()> {
        let (call, id) = self.begin(user, Event::InvalidatePassword).await?;
        self.admin.invalidate_password(id, &call).await?;
        let what = "has no usable password, its sessions have ended";
        self.output.done(id, what)
    }

    async fn unlock(&self, user: &UserRef) -> anyhow::Result<()> {
        let (call, id) = self.begin(user, Event::UnlockUser).await?;
        self.admin.unlock_user(id, &call).await?;
        self.output.done(id, "has no failed logins")
    }

    async fn set_roles(&self, user: &UserRef, roles: &[String]) -> anyhow::Result<()> {
        let roles = Roles::parse(roles).map_err(|problem| Usage(format!("ROLE: {problem}")))?;
        let (call, id) = self.begin(user, Event::SetRoles).await?;
        let version = self.admin.set_roles(id, &roles, None, &call).await?;
        self.output.roles(id, &roles, version)
    }

    async fn delete(&self, user: &UserRef, is_confirmed: bool) -> anyhow::Result<()> {
        let (call, id) = self.begin(user, Event::DeleteUser).await?;
        if !is_confirmed {
            let found = self.admin.get_user(&UserRef::Id(id), &call).await?;
            confirm::ask(&found.user)?;
        }
        self.admin.delete_user(id, &call).await?;
        self.output.done(id, "is deleted")
    }

    /// The context and the user of an act.
    async fn begin(&self, user: &UserRef, act: Event) -> Result<(Call, UserId), Error> {
        let call = self.call(Some(user));
        let id = self.admin.user_id(user, act, &call).await?;
        Ok((call, id))
    }

    fn call(&self, user: Option<&UserRef>) -> Call {
        let key = self.admin.data_keys.current();
        let email = user.and_then(|user| match user {
            UserRef::Email(email) => Some(key.fingerprint("e-mail", email.as_str().as_bytes())),
            UserRef::Id(_) => None,
        });
        Call {
            deadline: Instant::now() + NEVER,
            traceparent: None,
            client_address: None,
            context: Context {
                caller: Some(CALLER.to_owned()),
                email,
                ..Context::default()
            },
        }
    }
}

/// An argument that only the act itself could check is wrong usage too.
fn usage(error: Error) -> anyhow::Error {
    match error {
        Error::InvalidArgument { .. } => Usage(error.to_string()).into(),
        error => error.into(),
    }
}
