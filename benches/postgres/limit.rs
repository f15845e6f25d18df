//! A server with a part of a core, by a control group of Linux. The client, the service and the
//! server of a bench share the cores of one machine, and this hides what the server pays.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use super::Postgres;
use crate::Result;

/// A part of a core.
const SHARE: f64 = 0.4;
/// In microseconds, as Linux has it by default. Processes of the server that hold a lock when a
/// shorter one ends would keep the others from using their share of the next.
const PERIOD: u32 = 100_000;
/// A hundred times the usual weight: the server gets its share, however busy the others are.
const WEIGHT: u32 = 100;

/// A server that is limited until this is dropped. Its processes are in this group, and then in
/// the one above.
pub struct Limited(PathBuf);

impl Postgres {
    /// Gives the server [`SHARE`] of a core and no more. New processes of the server are limited
    /// too. An error says why this machine does not allow it.
    pub fn limit(&self) -> Result<Limited> {
        let version_1 = Path::new("/sys/fs/cgroup/cpu");
        let is_version_1 = version_1.join("cpu.cfs_quota_us").exists();
        let root = if is_version_1 {
            version_1
        } else {
            Path::new("/sys/fs/cgroup")
        };
        if !is_version_1 {
            write(&root.join("cgroup.subtree_control"), "+cpu")?;
        }
        let group = root.join(format!("realchat-bench-{}", process::id()));
        fs::create_dir(&group).map_err(|error| format!("{}: {error}", group.display()))?;
        let limited = Limited(group);
        let set = |name: &str, value: String| write(&limited.0.join(name), &value);
        let quota = format!("{:.0}", f64::from(PERIOD) * SHARE);
        if is_version_1 {
            set("cpu.cfs_period_us", PERIOD.to_string())?;
            set("cpu.cfs_quota_us", quota)?;
            set("cpu.shares", (WEIGHT * 1024).to_string())?;
        } else {
            set("cpu.max", format!("{quota} {PERIOD}"))?;
            set("cpu.weight", (WEIGHT * 100).to_string())?;
        }
        set("cgroup.procs", self.postmaster.to_string())?;
        for process in self.processes()? {
            // It may have ended meanwhile.
            let _moved = set("cgroup.procs", process.to_string());
        }
        Ok(limited)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let parent = self.0.parent().expect("it is below the root");
        // Processes of the server may have started or ended.
        let members = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for process in members.lines() {
            let _ended = write(&parent.join("cgroup.procs"), process);
        }
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("benches: {}: {error}", self.0.display());
        }
    }
}

fn write(file: &Path, value: &str) -> Result<()> {
    fs::write(file, value).map_err(|error| format!("{}: {error}", file.display()).into())
}
