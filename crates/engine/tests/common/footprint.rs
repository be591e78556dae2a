//! What a process tree holds at one moment: engine memory, descriptors, children. Compared before and after a death,
//! it shows what was leaked.

use procession_engine::process::{self, MemoryStats};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// Process entries, blocks and objects of the arena, and descriptors of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    processes: usize,
    blocks: usize,
    objects: usize,
    descriptors: usize,
}

impl Footprint {
    /// Measures what is held now.
    pub fn take() -> Footprint {
        // The trimming thread owns blocks while it works: this call ends it.
        process::trim();
        let memory_stats: MemoryStats = process::memory_stats();
        Footprint {
            processes: memory_stats.processes as usize,
            blocks: memory_stats.blocks_in_use as usize,
            objects: memory_stats.objects as usize,
            descriptors: descriptors().len(),
        }
    }

    /// Fails unless exactly as much is held now as before, and no child is left.
    #[track_caller]
    pub fn assert_unchanged(&self) {
        let now = Footprint::take();
        assert_eq!(
            now,
            *self,
            "left behind (left: now, right: before); open: {:?}",
            descriptors()
        );
        assert_no_children();
    }

    /// Fails if more than `blocks` additional blocks are in use now.
    #[track_caller]
    pub fn assert_about(&self, blocks: usize) {
        let now = Footprint::take();
        assert!(
            now.blocks <= self.blocks + blocks,
            "{now:?} is much more than {self:?}"
        );
    }
}

/// Descriptors of this process and what they refer to, without the one that lists them.
fn descriptors() -> Vec<String> {
    let listed = std::fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    let mut all: Vec<String> = listed
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let what = std::fs::read_link(entry.path()).ok()?;
            let what = what.to_string_lossy().into_owned();
            (!what.ends_with("/fd"))
                .then(|| format!("{}={what}", entry.file_name().to_string_lossy()))
        })
        .collect();
    all.sort();
    all
}

/// Fails if this process has a child, running or a zombie. A sandbox is a subreaper, so orphans of its dead children
/// count too.
#[track_caller]
pub fn assert_no_children() {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::All, options) {
        Err(Errno::CHILD) => {}
        other => panic!("a process was left behind: {other:?}"),
    }
}
