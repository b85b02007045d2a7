//! Figures that the observer does not see: the broker's disk by its management API, the file systems of this machine, and the certificates of the gateways, which
//! each process tells among its metrics.

use std::path::{Path, PathBuf};

use orrery_broker_admin::management::{Management, ManagementError};
use orrery_config::broker::Broker;
use orrery_observability::metrics;
use serde::Deserialize;

use super::readings::{Readings, float};
use crate::processes::Others;

/// What tells how long a certificate is valid.
const CERTIFICATE: &str = "orrery_gateway_certificate_remaining_seconds{";
const DAY_SECONDS: f64 = 86_400.0;

/// What is measured, and where.
pub struct Measured {
    management: Option<Management>,
    folders: Vec<PathBuf>,
    others: Others,
}

#[derive(Debug, Deserialize)]
struct Node {
    name: String,
    disk_free: Option<f64>,
    disk_free_limit: Option<f64>,
}

impl Measured {
    /// Nothing is asked yet.
    pub fn new(broker: &Broker, folders: Vec<PathBuf>, others: Others) -> Self {
        Self { management: Management::new(broker).ok(), folders, others }
    }

    /// All of it; what does not answer is not known.
    pub async fn look(&self) -> Readings {
        let mut readings = Readings::default();
        let (nodes, certificates) = tokio::join!(self.nodes(), self.certificates());
        if let Some(Ok(nodes)) = nodes {
            let left = nodes.into_iter().map(|node| {
                let limit = node.disk_free_limit.filter(|limit| *limit > 0.0);
                ([node.name], node.disk_free.zip(limit).map(|(free, limit)| free / limit))
            });
            readings.add("broker_disk", ["instance"], left);
        }
        let folders = self.folders.iter().map(|folder| {
            let place = ["this machine".to_owned(), folder.display().to_string()];
            (place, free(folder))
        });
        readings.add("disk_free", ["instance", "mountpoint"], folders);
        if let Some(certificates) = certificates {
            let days =
                certificates.into_iter().map(|(whose, seconds)| ([whose], Some(seconds / DAY_SECONDS)));
            readings.add("certificate_days", ["instance"], days);
        }
        readings
    }

    async fn nodes(&self) -> Option<Result<Vec<Node>, ManagementError>> {
        let columns = ["name", "disk_free", "disk_free_limit"];
        Some(self.management.as_ref()?.list(&["nodes"], &columns).await)
    }

    /// Each certificate with the seconds that it is still valid; none when a process does not answer.
    async fn certificates(&self) -> Option<Vec<(String, f64)>> {
        let own = metrics::page(metrics::Format::Text).ok()?;
        let others = self.others.metrics().await?;
        let pages = std::iter::once(("this process", own.as_str()));
        let pages = pages.chain(others.iter().map(|(host, page)| (host.as_str(), page.as_str())));
        Some(pages.flat_map(|(host, page)| certificates(page, host)).collect())
    }
}

/// The free part of a folder's file system, for who is not root.
fn free(folder: &Path) -> Option<f64> {
    let told = rustix::fs::statvfs(folder).ok()?;
    // In the file system's own blocks.
    let (free, all) = (float(told.f_bavail >> SHIFT), float(told.f_blocks >> SHIFT));
    (all > 0.0).then(|| free / all)
}

/// Blocks are counted by 16, so that a file system of 256 TiB still fits; what has less than that has no data.
const SHIFT: u32 = 4;

/// The certificates of a page of metrics, by the name of their listener.
fn certificates(page: &str, host: &str) -> Vec<(String, f64)> {
    let lines = page.lines().filter_map(|line| line.strip_prefix(CERTIFICATE)?.split_once("} "));
    lines
        .filter_map(|(labels, value)| {
            let listener =
                labels.split(',').find_map(|label| label.strip_prefix("listener=\"")?.strip_suffix('"'));
            let value = value.split(' ').next()?.parse().ok()?;
            Some((format!("{} at {host}", listener.unwrap_or("a listener")), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_of_a_page_of_metrics() {
        let page = "# TYPE orrery_gateway_certificate_remaining_seconds gauge\n\
                    orrery_gateway_certificate_remaining_seconds{listener=\"edge\"} 86400\n\
                    orrery_gateway_certificate_remaining_seconds{listener=\"api\",otel=\"x\"} 1.5e3\n\
                    orrery_other{listener=\"edge\"} 1\n";
        let found = certificates(page, "10.0.0.7");
        assert_eq!(
            found,
            [("edge at 10.0.0.7".to_owned(), 86_400.0), ("api at 10.0.0.7".to_owned(), 1_500.0)]
        );
    }

    #[test]
    fn the_root_has_a_free_part() {
        let part = free(Path::new("/")).unwrap();
        assert!((0.0..=1.0).contains(&part), "{part}");
        assert!(free(Path::new("/nowhere/at/all")).is_none());
    }
}
