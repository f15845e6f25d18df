//! The files in `deploy/` agree with the service: dashboard and alerts use metrics that exist, the
//! manifests set variables that exist, and the runbook has a section for each alert.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
};

use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    edge::Sidecar,
    harness::{
        Authority, Backend, Process, Service, TestDatabase, TokenParts, login, refresh, refused,
    },
};

const ALERTS: &str = "deploy/prometheus/alerts.yml";
const DASHBOARD: &str = "deploy/grafana/dashboards/auth-service.json";

/// Labels that Prometheus adds to every series.
const ADDED_LABELS: [&str; 2] = ["job", "instance"];

/// The series of one metric, each as its labels.
type Series = BTreeMap<String, String>;

/// All series that there can be: those of TLS, those that appear with a call, and those of an edge.
async fn exposition() -> String {
    let folder = tempfile::tempdir().unwrap();
    Authority::new().sign(&["localhost"]).write(folder.path());
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let [cert, key] = [&cert, &key].map(|path| path.to_str().unwrap());
    let tls = ["--tls-cert-file", cert, "--tls-key-file", key];
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let with_tls = Service::start_unconnected(database, &tls).await;
    let called = called_service().await;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let edge = Sidecar::start(&[nowhere], &[]);
    with_tls.probe("/metrics").await.1
        + &called.probe("/metrics").await.1
        + &edge.probe("/metrics").await.1
}

/// A service with a call of each method and code that alerts and dashboard name.
async fn called_service() -> Service {
    let slow_hash = ["--bcrypt-cost", "16", "--password-max-wait", "900ms"];
    let options = [&slow_hash[..], &["--request-timeout", "1s"]].concat();
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let service = Service::start(database, &options).await;
    let mut health = HealthClient::new(service.channel());
    let request = HealthCheckRequest::default();
    health.check(request.clone()).await.unwrap();
    health.watch(request).await.unwrap();
    let late = refused(service.client().login(login("nobody@example.com")).await);
    assert_eq!(late.code(), Code::DeadlineExceeded);
    service.database.execute("DROP TABLE sessions").await;
    let token = TokenParts {
        handle: vec![1; 16],
        secret: vec![2; 32],
    };
    let broken = refused(service.client().refresh(refresh(&token.text())).await);
    assert_eq!(broken.code(), Code::Internal);
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_and_alerts_ask_for_metrics_that_exist() {
    let metrics = series(&exposition().await);
    for path in [ALERTS, DASHBOARD] {
        let text = read(path).replace("\\\"", "\"");
        let selectors = selectors(&text);
        assert!(selectors.len() > 10, "{path} asks for metrics");
        for (name, matchers) in selectors {
            let series = metrics.get(name);
            let series = series.unwrap_or_else(|| panic!("{path} asks for {name}"));
            for (label, values) in labels(matchers) {
                if ADDED_LABELS.contains(&label) {
                    continue;
                }
                for value in values.split('|') {
                    let exists = |series: &Series| series.get(label).is_some_and(|v| v == value);
                    let asked = format!("{path} asks for {name} with {label}={value}");
                    assert!(series.iter().any(exists), "{asked}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_every_metric() {
    let text = read(DASHBOARD);
    let shown: BTreeSet<_> = selectors(&text).into_iter().map(|(name, _)| name).collect();
    for name in series(&exposition().await).keys() {
        let base = ["_bucket", "_sum", "_count"];
        let base = base.iter().find_map(|suffix| name.strip_suffix(suffix));
        let base = base.unwrap_or(name);
        let is_shown = shown.iter().any(|shown| shown.starts_with(base));
        assert!(is_shown, "no panel shows {name}");
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_can_place() {
    let dashboard: serde_json::Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + w <= 24, "{title}");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{title} lies on another panel");
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

#[test]
fn the_runbook_has_a_section_for_each_alert_and_no_other() {
    let after = |text: &str, start: &str| -> BTreeSet<String> {
        let names = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix(start));
        names.map(str::to_owned).collect()
    };
    let runbook = read("deploy/runbook.md");
    let (_, sections) = runbook.split_once("## Alerts\n").unwrap();
    let (sections, _) = sections.split_once("\n## ").unwrap();
    assert_eq!(after(&read(ALERTS), "- alert: "), after(sections, "### "));
}

#[tokio::test]
async fn the_manifests_set_variables_that_exist() {
    let folder = tempfile::tempdir().unwrap();
    let help = Process::run(folder.path(), &["--help"], &[]).await.stdout;
    let mut set = 0;
    let files = ["auth-service.env", "edge/edge.env"]
        .map(|name| read(&format!("deploy/kubernetes/{name}")));
    for line in files.iter().flat_map(|text| text.lines()) {
        let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        assert!(help.contains(&format!("[env: {name}]")), "{name}");
        set += 1;
    }
    assert!(set > 10, "it sets {set} variables");
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The metrics of a text in Prometheus's format, by the names of their series.
fn series(exposition: &str) -> BTreeMap<String, Vec<Series>> {
    let mut metrics = BTreeMap::<_, Vec<_>>::new();
    for line in exposition.lines().filter(|line| !line.starts_with('#')) {
        let (series, _value) = line.rsplit_once(' ').unwrap();
        let (name, rest) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels(rest.trim_end_matches('}'));
        let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
        metrics
            .entry(name.to_owned())
            .or_default()
            .push(labels.collect());
    }
    metrics
}

/// All names in a text that look like our metrics, with the text in braces behind them.
fn selectors(text: &str) -> Vec<(&str, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_name) {
        rest = &rest[start..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        if name.starts_with("auth_") || name.starts_with("process_") {
            let braces = behind.strip_prefix('{').and_then(|it| it.split_once('}'));
            found.push((name, braces.map_or("", |(matchers, _)| matchers)));
        }
        rest = behind;
    }
    found
}

/// `a="x",b=~"y|z"` as pairs of label and value, for each operator.
fn labels(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut parts = text.split('"');
    std::iter::from_fn(move || {
        let label = parts.next()?.trim_matches([',', ' ', '=', '~', '!']);
        Some((label, parts.next()?))
    })
}
