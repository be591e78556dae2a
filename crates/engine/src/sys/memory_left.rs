//! How much memory the kernel would still grant to the machine and to the control groups of this process.
//!
//! Memory that the kernel can reclaim counts as free, since it reclaims it before it kills a process:
//!
//! ```text
//! machine   MemAvailable (free, most of the page cache, part of the slab) + SwapFree + what ZFS caches
//! group v1  limit_in_bytes - usage_in_bytes + total_active_file + total_inactive_file + swap;
//!           with the accounting of swap at most memsw.limit - memsw.usage + the same files
//! group v2  max - current + active_file + inactive_file + slab_reclaimable + min(swap.max - swap.current, SwapFree)
//! ```
//!
//! `memory.high` refuses nothing: a group beyond it is slowed down. It counts when deciding whether to keep memory that
//! nobody uses. Every group above that of the process has limits of its own. ZFS's cache is not part of MemAvailable.

use std::fs;
use std::path::{Path, PathBuf};

/// One of the kernel's limits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// The bytes that are still available under it.
    pub(crate) bytes: u64,
    /// The name of the limit.
    pub(crate) name: String,
}

/// Where the memory groups of one cgroup version are mounted.
#[derive(Debug)]
struct Mount {
    version: Version,
    /// The group that the mount shows as its root.
    root: String,
    point: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The kernel's files, below a folder: `/`, except in tests.
#[derive(Debug)]
pub(crate) struct Kernel {
    base: PathBuf,
    mounts: Vec<Mount>,
}

impl Kernel {
    /// Finds out where the groups are mounted.
    pub(crate) fn new(base: &Path) -> Kernel {
        let table = fs::read_to_string(base.join("proc/self/mountinfo")).unwrap_or_default();
        let mounts = table.lines().filter_map(Mount::of_line).collect();
        Kernel {
            base: base.to_owned(),
            mounts,
        }
    }

    /// What is left under the tightest limit. Skips the closer look if more than `enough` is left at first sight.
    pub(crate) fn left(&self, enough: u64) -> Option<Left> {
        let groups = self.groups();
        let of_groups = groups.iter().filter_map(|(version, group)| {
            Some(Left {
                bytes: self.left_to_group(*version, group, enough)?,
                name: format!("the memory limit of the cgroup {}", group.display()),
            })
        });
        let of_machine = self.left_to_machine(enough).map(|bytes| Left {
            bytes,
            name: "the machine's available memory".into(),
        });
        of_groups.chain(of_machine).min_by_key(|left| left.bytes)
    }

    /// What is available at this moment without swapping, slowing down or killing any process.
    pub(crate) fn available_without_pressure(&self) -> Option<u64> {
        let machine = self.meminfo("MemAvailable:");
        let groups = self.groups();
        let of_groups = groups.iter().filter_map(|(version, group)| {
            let usage = Usage::of(*version, group)?;
            let most = match version {
                Version::One => usage.limit,
                Version::Two => {
                    number(group, "memory.high").map_or(usage.limit, |high| high.min(usage.limit))
                }
            };
            (most < UNLIMITED).then(|| {
                most.saturating_sub(usage.used.saturating_sub(reclaimable(*version, group)))
            })
        });
        of_groups.chain(machine).min()
    }

    fn left_to_machine(&self, enough: u64) -> Option<u64> {
        let available = self.meminfo("MemAvailable:")?;
        if available > enough {
            return Some(available);
        }
        let swap = self.meminfo("SwapFree:").unwrap_or(0);
        Some(available + swap + self.zfs_cache())
    }

    /// What ZFS returns when memory is short, down to the minimum it keeps.
    fn zfs_cache(&self) -> u64 {
        let path = self.base.join("proc/spl/kstat/zfs/arcstats");
        let Ok(text) = fs::read_to_string(path) else {
            return 0;
        };
        let value = |name: &str| {
            let mut lines = text.lines().map(str::split_ascii_whitespace);
            lines.find_map(|mut words| {
                (words.next()? == name).then(|| words.nth(1)?.parse().ok())?
            })
        };
        let size: u64 = value("size").unwrap_or(0);
        size.saturating_sub(value("c_min").unwrap_or(size))
    }

    fn meminfo(&self, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.base.join("proc/meminfo")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        Some(kib * 1024)
    }

    fn left_to_group(&self, version: Version, group: &Path, enough: u64) -> Option<u64> {
        let usage = Usage::of(version, group)?;
        let free = usage.limit.saturating_sub(usage.used);
        if free > enough {
            return Some(free);
        }
        // A limit can be lowered below what is in use.
        let unused = |reclaimable: u64, limit: u64, used: u64| {
            limit.saturating_sub(used.saturating_sub(reclaimable))
        };
        let reclaimable = reclaimable(version, group);
        let left = unused(reclaimable, usage.limit, usage.used);
        if left > enough {
            return Some(left);
        }
        let swap = self.swap(version, group);
        let with_swap = left.saturating_add(swap);
        let both = match version {
            Version::One => number(group, "memory.memsw.limit_in_bytes")
                .zip(number(group, "memory.memsw.usage_in_bytes")),
            Version::Two => None,
        };
        Some(match both {
            Some((limit, used)) => with_swap.min(unused(reclaimable, limit, used)),
            None => with_swap,
        })
    }

    /// How much a group may move to swap.
    fn swap(&self, version: Version, group: &Path) -> u64 {
        let swappiness = match version {
            Version::One => number(group, "memory.swappiness"),
            Version::Two => number(&self.base, "proc/sys/vm/swappiness"),
        };
        if swappiness == Some(0) {
            return 0;
        }
        let free = self.meminfo("SwapFree:").unwrap_or(0);
        match (version, number(group, "memory.swap.max")) {
            (Version::Two, Some(most)) => {
                let used = number(group, "memory.swap.current").unwrap_or(0);
                free.min(most.saturating_sub(used))
            }
            _ => free,
        }
    }

    /// The memory groups of this process and all groups above them, as they are now: the process may be moved to
    /// another.
    fn groups(&self) -> Vec<(Version, PathBuf)> {
        let table = fs::read_to_string(self.base.join("proc/self/cgroup")).unwrap_or_default();
        let mut found = Vec::new();
        for line in table.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
                continue;
            };
            let version = match controllers {
                "" => Version::Two,
                list if list.split(',').any(|one| one == "memory") => Version::One,
                _ => continue,
            };
            let mut mounts = self.mounts.iter().filter(|mount| mount.version == version);
            if let Some((mount, below)) = mounts
                .clone()
                .find_map(|mount| Some((mount, mount.below(path)?)))
                // The mount shows another part of the tree: most likely that of the container.
                .or_else(|| Some((mounts.next()?, "")))
            {
                let top = self
                    .base
                    .join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
                let group = top.join(below);
                let line = group
                    .ancestors()
                    .take_while(|above| above.starts_with(&top));
                found.extend(line.map(|group| (version, group.to_owned())));
            }
        }
        found
    }
}

/// Values from here on mean no limit.
const UNLIMITED: u64 = 1 << 60;

struct Usage {
    limit: u64,
    used: u64,
}

impl Usage {
    /// `None` for a group without a limit, such as the topmost.
    fn of(version: Version, group: &Path) -> Option<Usage> {
        let (limit, used) = match version {
            Version::One => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            Version::Two => ("memory.max", "memory.current"),
        };
        Some(Usage {
            limit: number(group, limit).or_else(|| {
                let high = (version == Version::Two).then(|| number(group, "memory.high"))??;
                (high < UNLIMITED).then_some(UNLIMITED)
            })?,
            used: number(group, used)?,
        })
    }
}

/// What the kernel can reclaim from a group and all groups below it.
fn reclaimable(version: Version, group: &Path) -> u64 {
    let names: &[&str] = match version {
        Version::One => &["total_active_file", "total_inactive_file"],
        Version::Two => &["active_file", "inactive_file", "slab_reclaimable"],
    };
    let text = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let words = text.lines().filter_map(|line| line.split_once(' '));
    words
        .filter(|(name, _)| names.contains(name))
        .filter_map(|(_, value)| value.trim().parse::<u64>().ok())
        .sum()
}

/// The number in a file; `None` if there is none, as for `max`.
fn number(folder: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(folder.join(file))
        .ok()?
        .trim()
        .parse()
        .ok()
}

impl Mount {
    /// Parses a line of `mountinfo`; `None` if it is not a mount of memory groups.
    fn of_line(line: &str) -> Option<Mount> {
        let (mount, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let version = match system.next()? {
            "cgroup2" => Version::Two,
            "cgroup" if system.nth(1)?.split(',').any(|one| one == "memory") => Version::One,
            _ => return None,
        };
        let mut words = mount.split(' ').skip(3).map(unescaped);
        Some(Mount {
            version,
            root: words.next()?,
            point: words.next()?.into(),
        })
    }

    /// The path of a group relative to the group that is mounted as the root.
    fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.root.trim_end_matches('/'))?;
        let is_below = rest.is_empty() || rest.starts_with('/');
        is_below.then(|| rest.trim_matches('/'))
    }
}

/// Decodes a path as the kernel writes it: `\040` for a space.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok())
        {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const ENOUGH: u64 = 1 << 50;

    /// A folder that looks like `/`.
    struct Faked(PathBuf);

    impl Faked {
        fn new(name: &str) -> Faked {
            let name = format!("procession-memory-left-{name}-{}", std::process::id());
            let faked = Faked(std::env::temp_dir().join(name));
            faked.write("proc/meminfo", "MemAvailable: 8388608 kB\nSwapFree: 0 kB\n");
            faked
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }

        /// Version 2 groups, mounted where systemd mounts them.
        fn with_two(self, group: &str) -> Faked {
            self.write(
                "proc/self/mountinfo",
                "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                 30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
            );
            self.write("proc/self/cgroup", &format!("0::{group}\n"));
            self
        }

        fn group(&self, group: &str, files: &[(&str, String)]) {
            for (file, text) in files {
                self.write(&format!("sys/fs/cgroup{group}/{file}"), text);
            }
        }

        fn left(&self) -> u64 {
            Kernel::new(&self.0).left(ENOUGH).expect("a limit").bytes
        }
    }

    impl Drop for Faked {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn two(max: &str, current: u64, stat: &str) -> Vec<(&'static str, String)> {
        vec![
            ("memory.max", format!("{max}\n")),
            ("memory.current", format!("{current}\n")),
            ("memory.stat", stat.into()),
        ]
    }

    #[test]
    fn a_group_that_is_full_of_page_cache_and_slab_has_that_left() {
        let faked = Faked::new("cache").with_two("/app");
        let stat = format!(
            "anon {}\nfile {}\nshmem {}\nactive_file {}\ninactive_file {}\nunevictable 0\nslab_reclaimable {}\n",
            20 * MIB,
            480 * MIB,
            40 * MIB,
            300 * MIB,
            140 * MIB,
            7 * MIB
        );
        faked.group("/app", &two(&(512 * MIB).to_string(), 511 * MIB, &stat));
        assert_eq!(faked.left(), (1 + 300 + 140 + 7) * MIB);
    }

    #[test]
    fn the_tightest_of_the_groups_above_counts() {
        let faked = Faked::new("nested").with_two("/pod/app");
        faked.group("/pod/app", &two("max", 0, ""));
        faked.group(
            "/pod",
            &two(
                &(100 * MIB).to_string(),
                60 * MIB,
                "inactive_file 1048576\n",
            ),
        );
        let left = Kernel::new(&faked.0).left(ENOUGH).expect("a limit");
        assert_eq!(left.bytes, 41 * MIB);
        assert!(left.name.ends_with("/sys/fs/cgroup/pod"), "{}", left.name);
    }

    #[test]
    fn a_process_that_is_moved_to_another_group_has_its_limit() {
        let faked = Faked::new("moved").with_two("/wide");
        faked.group("/wide", &two(&(900 * MIB).to_string(), 0, ""));
        faked.group("/tight", &two(&(90 * MIB).to_string(), 0, ""));
        let kernel = Kernel::new(&faked.0);
        assert_eq!(kernel.left(ENOUGH).expect("a limit").bytes, 900 * MIB);
        faked.write("proc/self/cgroup", "0::/tight\n");
        assert_eq!(kernel.left(ENOUGH).expect("a limit").bytes, 90 * MIB);
    }

    #[test]
    fn swap_counts_as_far_as_a_group_may_have_it() {
        let faked = Faked::new("swap").with_two("/app");
        faked.write(
            "proc/meminfo",
            "MemAvailable: 8388608 kB\nSwapFree: 1048576 kB\n",
        );
        faked.group("/app", &two(&(100 * MIB).to_string(), 100 * MIB, ""));
        assert_eq!(faked.left(), 1024 * MIB);
        faked.group("/app", &[("memory.swap.max", (50 * MIB).to_string())]);
        faked.group("/app", &[("memory.swap.current", (20 * MIB).to_string())]);
        assert_eq!(faked.left(), 30 * MIB);
        faked.write("proc/sys/vm/swappiness", "0\n");
        assert_eq!(faked.left(), 0);
    }

    #[test]
    fn a_machine_has_its_swap_and_what_zfs_caches() {
        let faked = Faked::new("machine");
        faked.write(
            "proc/meminfo",
            "MemAvailable: 40960 kB\nSwapFree: 2048 kB\n",
        );
        assert_eq!(faked.left(), 42 * MIB);
        faked.write(
            "proc/spl/kstat/zfs/arcstats",
            "13 1 0x01 147 39984 1 2\nname type data\nc_min 4 8388608\nsize 4 109051904\n",
        );
        assert_eq!(faked.left(), (42 + 96) * MIB);
    }

    #[test]
    fn a_group_of_the_first_version_is_found_where_its_container_is_shown() {
        let faked = Faked::new("one");
        faked.write(
            "proc/self/mountinfo",
            "31 25 0:27 /docker/1a2b /sys/fs/cgroup/memory\\040here ro - cgroup cgroup rw,memory\n",
        );
        faked.write(
            "proc/self/cgroup",
            "5:cpu:/docker/1a2b\n4:memory:/docker/1a2b/inner\n",
        );
        let files = [
            ("memory.limit_in_bytes", (512 * MIB).to_string()),
            ("memory.usage_in_bytes", (512 * MIB).to_string()),
            (
                "memory.stat",
                format!(
                    "active_file 1\ntotal_active_file {}\ntotal_inactive_file {}\n",
                    10 * MIB,
                    20 * MIB
                ),
            ),
        ];
        for (file, text) in &files {
            faked.write(&format!("sys/fs/cgroup/memory here/{file}"), text);
        }
        assert_eq!(faked.left(), 30 * MIB);
        // Memory and swap together have a limit of their own.
        faked.write(
            "proc/meminfo",
            "MemAvailable: 8388608 kB\nSwapFree: 1048576 kB\n",
        );
        assert_eq!(faked.left(), (30 + 1024) * MIB);
        for file in ["memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes"] {
            let path = format!("sys/fs/cgroup/memory here/{file}");
            faked.write(&path, &(600 * MIB).to_string());
        }
        assert_eq!(faked.left(), 30 * MIB);
    }

    #[test]
    fn nobody_is_refused_for_what_only_slows_a_group_down() {
        let faked = Faked::new("high").with_two("/app");
        faked.group("/app", &two(&(800 * MIB).to_string(), 300 * MIB, ""));
        faked.group("/app", &[("memory.high", (350 * MIB).to_string())]);
        assert_eq!(faked.left(), 500 * MIB);
        assert_eq!(
            Kernel::new(&faked.0).available_without_pressure(),
            Some(50 * MIB)
        );
        faked.group("/app", &[("memory.max", "max".into())]);
        assert_eq!(faked.left(), 8192 * MIB);
        assert_eq!(
            Kernel::new(&faked.0).available_without_pressure(),
            Some(50 * MIB)
        );
    }

    #[test]
    fn without_proc_there_is_no_limit() {
        let faked = Faked::new("none");
        fs::remove_dir_all(faked.0.join("proc")).expect("removed");
        assert_eq!(Kernel::new(&faked.0).left(ENOUGH), None);
        assert_eq!(Kernel::new(&faked.0).available_without_pressure(), None);
    }
}
