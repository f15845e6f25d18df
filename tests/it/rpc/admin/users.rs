//! Finding, listing and deleting accounts.

use std::{collections::HashSet, time::Duration};

use auth_service::proto::{self, SessionEndReason};
use tonic::Code;

use super::{ANA, by_email, by_id};
use crate::{
    harness::{START, both, reason, refused, register, violation},
    rpc::{accounts::kinds, recovery::Mailing},
};

const SECOND: Duration = Duration::from_secs(1);

async fn page(mailing: &Mailing, size: u32, token: &str) -> proto::ListUsersResponse {
    let request = proto::ListUsersRequest {
        page_size: size,
        page_token: token.to_owned(),
    };
    mailing
        .admin()
        .list_users(request)
        .await
        .expect("a page")
        .into_inner()
}

/// The ids of all pages.
async fn list(mailing: &Mailing, size: u32) -> Vec<String> {
    let (mut ids, mut token) = (Vec::new(), String::new());
    loop {
        let page = page(mailing, size, &token).await;
        ids.extend(page.users.into_iter().map(|user| user.user_id));
        token = page.next_page_token;
        if token.is_empty() {
            return ids;
        }
    }
}

async fn sign_up_many(mailing: &Mailing, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        mailing.0.clock.advance(SECOND);
        let user = mailing
            .0
            .client()
            .register(register(&format!("u{n}@example.com")))
            .await;
        ids.push(user.unwrap().into_inner().user_id);
    }
    ids
}

both! {
    async fn an_account_is_found_by_its_id_and_by_its_address_in_any_case(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.0.clock.advance(SECOND);
        mailing.0.sign_in(ANA).await;
        let user = mailing.user(&ana.user_id).await;
        assert!(user == proto::User {
            user_id: ana.user_id.clone(),
            email: ANA.to_owned(),
            created_at: Some(START.into()),
            password_changed_at: Some(START.into()),
            sessions: 2,
            event_version: 1,
            ..Default::default()
        });
        for email in [ANA, " Ana@EXAMPLE.com "] {
            let found = mailing.admin().get_user(by_email(email)).await.unwrap().into_inner().user;
            assert!(found.as_ref() == Some(&user), "{email}");
        }
        let unknown = refused(mailing.admin().get_user(by_email("nobody@example.com")).await);
        assert_eq!(reason(&unknown), (Code::NotFound, "USER_NOT_FOUND".to_owned()));
    }

    async fn a_question_for_nobody_is_an_invalid_argument(mailing: Mailing) {
        let nobody = refused(mailing.admin().get_user(proto::GetUserRequest { user: None }).await);
        assert_eq!(violation(&nobody).0, "user_id");
        for email in ["", "ana"] {
            let malformed = refused(mailing.admin().get_user(by_email(email)).await);
            assert_eq!(violation(&malformed).0, "email", "{email}");
        }
    }

    async fn the_number_of_sessions_is_that_of_the_live_ones(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let ben = mailing.0.sign_up("ben@example.com").await;
        mailing.0.sign_in(ANA).await;
        mailing.0.log_out(&ana.tokens.refresh_token).await.unwrap();
        assert_eq!(mailing.user(&ana.user_id).await.sessions, 1);
        let listed = page(&mailing, 0, "").await.users;
        assert_eq!(listed.iter().map(|user| user.sessions).collect::<Vec<_>>(), [1, 1]);
        // A day without a refresh.
        mailing.0.clock.advance(Duration::from_hours(24));
        for id in [ana.user_id, ben.user_id] {
            assert_eq!(mailing.user(&id).await.sessions, 0);
        }
    }

    async fn all_accounts_are_listed_page_by_page(mailing: Mailing) {
        let ids = sign_up_many(&mailing, 7).await;
        for size in [1, 3, 6, 7, 8, 1000] {
            assert_eq!(list(&mailing, size).await, ids, "{size}");
        }
        assert!(page(&mailing, 7, "").await.next_page_token.is_empty(), "nothing comes after it");
        assert_eq!(page(&mailing, 6, "").await.users.len(), 6);
        assert_eq!(page(&mailing, 0, "").await.users.len(), 7);
    }

    async fn a_list_stays_right_while_accounts_come_and_go(mailing: Mailing) {
        let ids = sign_up_many(&mailing, 6).await;
        let first = page(&mailing, 2, "").await;
        let delete = |id: &str| proto::DeleteUserRequest { user_id: id.to_owned() };
        // One that was listed, the last one that was listed, and one that was not.
        for gone in [&ids[0], &ids[1], &ids[3]] {
            mailing.admin().delete_user(delete(gone)).await.unwrap();
        }
        let new = sign_up_many(&mailing, 1).await.pop().unwrap();
        let (mut seen, mut token) = (vec![], first.next_page_token);
        while !token.is_empty() {
            let next = page(&mailing, 2, &token).await;
            seen.extend(next.users.into_iter().map(|user| user.user_id));
            token = next.next_page_token;
        }
        assert_eq!(seen, [&*ids[2], &ids[4], &ids[5], &new]);
        let distinct: HashSet<_> = first.users.iter().map(|user| &user.user_id).chain(&seen).collect();
        assert_eq!(distinct.len(), 6);
    }

    async fn a_page_has_its_limits(mailing: Mailing) {
        for (size, token, field) in [(1001, "", "page_size"), (10, "junk", "page_token")] {
            let request = proto::ListUsersRequest { page_size: size, page_token: token.to_owned() };
            let status = refused(mailing.admin().list_users(request).await);
            assert_eq!(violation(&status).0, field);
        }
        assert!(page(&mailing, 1000, "").await.users.is_empty());
    }

    async fn a_page_with_much_text_is_cut_and_goes_on(mailing: Mailing) {
        let ids = sign_up_many(&mailing, 3).await;
        let (reason, roles) = ("é".repeat(200), "a".repeat(64) + " ");
        let database = &mailing.0.database;
        let many = database.dialect(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 900) SELECT n, randomblob(16) AS id FROM n",
            "SELECT n, gen_random_uuid() AS id FROM generate_series(1, 900) AS n",
        );
        let address = database.dialect("printf('x%d@example.com', n)", "'x' || n || '@example.com'");
        let start = database.time(START);
        database.execute(&format!(
            "INSERT INTO users (id, email, password_hash, event_version, created_at, password_changed_at, \
             suspended_at, suspension_reason, roles) SELECT id, {address}, '', 0, {start}, {start}, {start}, \
             '{reason}', '{}' FROM ({many}) AS many", roles.repeat(20).trim()
        )).await;
        let first = page(&mailing, 1000, "").await;
        assert!((100..903).contains(&first.users.len()), "{}", first.users.len());
        let all = list(&mailing, 1000).await;
        let distinct: HashSet<_> = all.iter().collect();
        assert_eq!((all.len(), distinct.len()), (903, 903));
        assert!(ids.iter().all(|id| distinct.contains(id)));
    }

    async fn a_deleted_account_is_gone_with_its_sessions(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.0.sign_in(ANA).await;
        let request = || proto::DeleteUserRequest { user_id: ana.user_id.clone() };
        mailing.admin().delete_user(request()).await.unwrap();
        let again = refused(mailing.admin().delete_user(request()).await);
        assert_eq!(reason(&again).1, "USER_NOT_FOUND");
        refused(mailing.admin().get_user(by_id(&ana.user_id)).await);
        refused(mailing.0.refresh(&ana.tokens.refresh_token).await);
        for table in ["users", "sessions"] {
            assert_eq!(mailing.0.database.count(&format!("SELECT count(*) FROM {table}")).await, 0);
        }
        let deleted = SessionEndReason::AccountDeleted.as_str_name();
        let expected = [(1, "USER_CREATED"), (2, deleted), (3, deleted), (4, "USER_DELETED")];
        assert_eq!(kinds(&mailing.0.database.events().await), expected);
        assert!(mailing.actors().await[1..].iter().all(|actor| actor == "admin:support"));
        mailing.0.client().register(register(ANA)).await.expect("the address is free");
    }
}
