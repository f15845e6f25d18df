//! The shortest walk through all five RPCs.

use crate::harness::{Service, both, login, register};

both! {
    async fn an_account_can_log_in_after_it_was_registered(service: Service) {
        let registered = service.client().register(register("ana@example.com")).await.unwrap();
        let logged_in = service.client().login(login("ANA@example.com")).await.unwrap();
        assert_eq!(registered.into_inner().user_id, logged_in.into_inner().user_id);
        assert_eq!(service.database.count("SELECT count(*) FROM users").await, 1);
    }
}
