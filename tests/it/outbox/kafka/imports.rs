//! The events of an import.

use std::collections::BTreeMap;

use auth_service::proto::user_event::Payload;

use super::{decode, serve};
use crate::harness::{EVENTS, IMPORTER, Kafka, TestDatabase, admin, both, import, rows};

both! {
    async fn each_imported_user_is_announced_once(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else {
            return;
        };
        let tokens = format!("importer:{IMPORTER}");
        let importer = ["--internal-tokens", &tokens, "--internal-scopes", "importer=import"];
        let service = serve(database, &kafka, &importer).await;
        let rows = rows(1000);
        let (results, ended) = import(admin(service.channel(), IMPORTER), rows.clone()).await;
        ended.expect("no error");
        service.database.wait_for(EVENTS, 0).await;
        let users: BTreeMap<_, _> = results
            .into_iter()
            .zip(rows)
            .map(|(result, row)| (result.user_id, row.email))
            .collect();
        // A batch that Kafka acknowledged late may be published again.
        let mut announced = BTreeMap::new();
        for record in kafka.records().await {
            let event = decode(&record);
            assert_eq!((event.user_version, &*event.actor), (1, "admin:importer"));
            let Some(Payload::UserCreated(created)) = event.payload else { panic!("another payload") };
            assert!(created.imported);
            let first = announced.insert(event.user_id, (event.event_id.clone(), created.email));
            assert!(first.is_none_or(|(event_id, _)| event_id == event.event_id));
        }
        let announced = announced.into_iter().map(|(user, (_, email))| (user, email));
        assert!(announced.eq(users));
    }
}
