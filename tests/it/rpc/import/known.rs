//! Rows of addresses and ids that exist.

use std::time::Duration;

use auth_service::proto;

use super::{ANA, ID, OTHER_ID, named};
use crate::{
    harness::{EVENTS, PASSWORD, both, delete_account, row},
    rpc::recovery::Mailing,
};

const BEN: &str = "ben@example.com";
const NEW: &str = "ana@example.org";
const EMAIL_TAKEN: &str = "REJECTED EMAIL_TAKEN";
const USER_ID_TAKEN: &str = "REJECTED USER_ID_TAKEN";

both! {
    async fn nothing_of_a_known_account_changes(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let before = (mailing.0.database.dump("users").await, mailing.0.database.count(EVENTS).await);
        let full = proto::ImportUser {
            password_hash: "$2y$04$qjU0gwiVoLUtA/vKS/y7JehSoX5LNTiVRPTJbCKt8dLZHuEUsz4FS".to_owned(),
            roles: vec!["moderator".to_owned()],
            ..named("ANA@example.com", &ana.user_id.to_uppercase())
        };
        let results = mailing.import(vec![full, row(" Ana@Example.com "), named(ANA, &ana.user_id)]).await;
        for result in results {
            assert_eq!((result.status().as_str_name(), result.user_id), ("IMPORT_STATUS_UNCHANGED", ana.user_id.clone()));
        }
        let after = (mailing.0.database.dump("users").await, mailing.0.database.count(EVENTS).await);
        assert_eq!(before, after);
        mailing.0.refresh(&ana.tokens.refresh_token).await.expect("the session lives");
    }

    async fn a_suspended_account_stays_suspended(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.suspend(&ana.user_id).await;
        let before = mailing.0.database.dump("users").await;
        assert_eq!(mailing.outcomes(vec![row(ANA), named(ANA, ID)]).await, ["UNCHANGED", EMAIL_TAKEN]);
        assert_eq!(mailing.0.database.dump("users").await, before);
    }

    async fn an_address_or_an_id_of_another_account_is_taken(mailing: Mailing) {
        assert_eq!(mailing.outcomes(vec![named(ANA, ID)]).await, ["CREATED"]);
        let rows = vec![named("Ana@example.com", OTHER_ID), named(BEN, ID), named(BEN, OTHER_ID)];
        assert_eq!(mailing.outcomes(rows).await, [EMAIL_TAKEN, USER_ID_TAKEN, "CREATED"]);
        mailing.assert_each_announced_once(2).await;
    }

    async fn the_rows_of_a_stream_collide_as_if_they_came_one_after_the_other(mailing: Mailing) {
        let rows = vec![
            named(ANA, ID),
            row("ANA@example.com"),
            named(ANA, ID),
            named(ANA, OTHER_ID),
            named(BEN, ID),
            named(BEN, OTHER_ID),
            row(BEN),
        ];
        let expected = ["CREATED", "UNCHANGED", "UNCHANGED", EMAIL_TAKEN, USER_ID_TAKEN, "CREATED", "UNCHANGED"];
        let results = mailing.import(rows).await;
        assert_eq!(crate::harness::outcomes(&results), expected);
        assert_eq!((&*results[1].user_id, &*results[6].user_id), (ID, OTHER_ID));
        mailing.assert_each_announced_once(2).await;
    }

    /// The events of a new account would begin again at version 1, which consumers skip.
    async fn the_id_of_a_deleted_account_is_never_used_again(mailing: Mailing) {
        assert_eq!(mailing.outcomes(vec![named(ANA, ID)]).await, ["CREATED"]);
        let delete = proto::DeleteUserRequest { user_id: ID.to_owned() };
        mailing.admin().delete_user(delete).await.unwrap();
        let ben = mailing.0.sign_up(BEN).await;
        mailing.0.account(&ben).delete_account(delete_account(PASSWORD)).await.unwrap();
        let rows = vec![named(ANA, ID), named(BEN, &ben.user_id), named(ANA, OTHER_ID), row(BEN)];
        let expected = [USER_ID_TAKEN, USER_ID_TAKEN, "CREATED", "CREATED"];
        assert_eq!(mailing.outcomes(rows).await, expected);
    }

    async fn an_address_that_its_owner_can_take_back_is_taken(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.changed(&ana, NEW).await;
        let before = mailing.0.database.count(EVENTS).await;
        // The row before it in the batch is imported, and so is the one that wanted the same id.
        let rows = vec![row(BEN), named(ANA, ID), row(ANA), named("carl@example.com", ID), named(NEW, &ana.user_id)];
        let expected = ["CREATED", EMAIL_TAKEN, EMAIL_TAKEN, "CREATED", "UNCHANGED"];
        assert_eq!(mailing.outcomes(rows).await, expected);
        assert_eq!(mailing.0.database.count(EVENTS).await, before + 2);
        mailing.0.clock.advance(Duration::from_hours(8 * 24));
        assert_eq!(mailing.outcomes(vec![row(ANA)]).await, ["CREATED"]);
    }

    async fn an_account_does_not_get_its_old_address_back_by_an_import(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.changed(&ana, NEW).await;
        assert_eq!(mailing.outcomes(vec![named(ANA, &ana.user_id)]).await, [USER_ID_TAKEN]);
    }
}
