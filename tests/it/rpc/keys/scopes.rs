//! An internal service may do what the scopes of all its credentials allow.

use tonic::{Code, Request};

use super::assert_denied;
use crate::harness::{
    INTERNAL_TOKEN, Process, Service, TestDatabase, bearer, both, login, refused, signing_keys,
};

const MAILER: &str = "a-token-of-the-mailer-of-40-characters-1";
const KEYS_ONLY: &str = "a-token-of-another-with-40-characters-12";
const SCOPES: &str = "mailer=mail,backup=keys";

fn tokens() -> String {
    format!("gateway:{INTERNAL_TOKEN},mailer:{MAILER},backup:{KEYS_ONLY}")
}

/// A login with these values of `authorization`, from an address that is no address.
async fn login_from_nowhere(service: &Service, authorization: &[&str]) -> Code {
    let mut request = Request::new(login("nobody@example.com"));
    let metadata = request.metadata_mut();
    metadata.insert("x-client-address", "nowhere".parse().unwrap());
    for token in authorization {
        metadata.append("authorization", token.parse().unwrap());
    }
    refused(service.client().login(request).await).code()
}

both! {
    async fn the_keys_are_for_callers_with_their_scope(database: TestDatabase) {
        let options = ["--internal-tokens", &tokens(), "--internal-scopes", SCOPES];
        let service = Service::start(database, &options).await;
        let keys = async |authorization: &str| {
            signing_keys(service.channel(), Some(authorization)).await
        };
        let [gateway, mailer, backup] = [INTERNAL_TOKEN, MAILER, KEYS_ONLY].map(bearer);
        assert_denied(keys(&mailer).await);
        keys(&backup).await.expect("it has the scope");
        keys(&gateway).await.expect("it is not named: it has what a gateway needs");
        keys(&format!("{mailer}, {backup}")).await.expect("the scopes add up");
        keys(&format!("{backup},Bearer eyJ.a.b")).await.expect("beside a user's token");
    }

    async fn addresses_are_believed_from_callers_with_their_scope(database: TestDatabase) {
        let options = ["--internal-tokens", &tokens(), "--internal-scopes", SCOPES];
        let service = Service::start(database, &options).await;
        let [gateway, mailer, backup] = [INTERNAL_TOKEN, MAILER, KEYS_ONLY].map(bearer);
        // The address of the others is not even read.
        for ignored in [&[][..], &[&*mailer], &[&backup], &[&mailer, &backup]] {
            let code = login_from_nowhere(&service, ignored).await;
            assert_eq!(code, Code::Unauthenticated, "{ignored:?}");
        }
        let joined = format!("{mailer},{gateway}");
        for believed in [&[&*gateway][..], &[&mailer, &gateway], &[&joined]] {
            let code = login_from_nowhere(&service, believed).await;
            assert_eq!(code, Code::InvalidArgument, "{believed:?}");
        }
    }

    async fn a_missing_scope_is_audited_with_the_caller(database: TestDatabase) {
        let tokens = tokens();
        let variables = [("INTERNAL_TOKENS", &*tokens), ("INTERNAL_SCOPES", SCOPES)];
        let process = Process::serve(&database, &variables);
        let channel = crate::harness::connect(process.grpc_addr().await).await;
        assert_denied(signing_keys(channel, Some(&bearer(MAILER))).await);
        let line = process.wait_for("missing_scope").await;
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let fields = ["event", "outcome", "caller"].map(|name| line[name].as_str());
        assert_eq!(fields, ["signing_key", "failed", "mailer"].map(Some));
    }
}
