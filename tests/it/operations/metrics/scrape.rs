//! The text of `/metrics` at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use crate::harness::Service;

/// Each series, as text with its labels, and its value.
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    pub async fn page(service: &Service) -> String {
        let (status, page) = service.probe("/metrics").await;
        assert_eq!(status, 200);
        page
    }

    pub async fn of(service: &Service) -> Self {
        let page = Self::page(service).await;
        let series = page.lines().filter(|line| !line.starts_with('#'));
        Self(
            series
                .map(|line| {
                    let (name, value) = line.rsplit_once(' ').expect("name and value");
                    (name.to_owned(), value.parse().expect("a number"))
                })
                .collect(),
        )
    }

    /// Waits, for at most a minute, until a series has the value.
    pub async fn wait(service: &Service, series: &str, expected: impl Fn(f64) -> bool) -> Self {
        let waiting = async {
            loop {
                let now = Self::of(service).await;
                if now.has(series) && expected(now.value(series)) {
                    return now;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let found = timeout(Duration::from_mins(1), waiting).await;
        found.unwrap_or_else(|_| panic!("{series} never gets there"))
    }

    pub fn value(&self, series: &str) -> f64 {
        let value = self.0.get(series);
        *value.unwrap_or_else(|| panic!("no {series} in {:#?}", self.0.keys()))
    }

    pub fn has(&self, series: &str) -> bool {
        self.0.contains_key(series)
    }

    /// A series that does not exist yet counts from zero.
    pub fn since(&self, before: &Self, series: &str) -> f64 {
        self.value(series) - before.0.get(series).unwrap_or(&0.0)
    }

    pub fn series(&self) -> usize {
        self.0.len()
    }

    /// All series without the version. A histogram is represented by its count.
    pub fn names(&self) -> Vec<String> {
        let names: BTreeSet<_> = (self.0.keys())
            .filter(|series| !series.contains("_bucket") && !series.contains("_sum"))
            .map(|series| {
                let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
                series.replace(&version, "version")
            })
            .collect();
        names.into_iter().collect()
    }
}
