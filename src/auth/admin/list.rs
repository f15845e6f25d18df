use super::Admin;
use crate::{
    auth::{Call, Error},
    model::{CountedUser, UserId},
    telemetry::audit,
};

#[derive(Clone, Copy)]
pub struct PageRequest {
    /// The last account of the page before.
    pub after: Option<UserId>,
    pub size: u32,
}

/// Accounts in the order of their ids.
pub struct Page {
    pub users: Vec<CountedUser>,
    /// Whether there are accounts after these.
    pub has_next: bool,
}

impl Admin {
    /// An account that exists from the first page to the last one is on exactly one of them: a page
    /// begins after an id, not after a number of rows.
    pub async fn list_users(&self, page: PageRequest, call: &Call) -> Result<Page, Error> {
        let limit = page.size.saturating_add(1);
        let now = self.clock.now();
        let mut users = self.db.list_users(page.after, limit, now).await?;
        let has_next = users.len() > page.size as usize;
        users.truncate(page.size as usize);
        call.audit(audit::Event::ListUsers).ok();
        Ok(Page { users, has_next })
    }
}
