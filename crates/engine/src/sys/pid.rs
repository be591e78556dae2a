//! Process numbers, and how far they can be trusted.
//!
//! A number identifies a process only within its PID namespace, and only until another process gets it. So a [`Number`]
//! carries the namespaces of the process that recorded it, and only processes of the same namespaces compare it. The
//! start time of the process is recorded beside it; that differs between time namespaces. `/proc` may belong to another
//! namespace as well. When in doubt, the process counts as running: treating a living process as dead would free memory
//! that it uses.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::sys::known_fd::FileId;

/// Linux assigns no number above this.
const PID_BITS: u32 = 22;
const SPACE_BITS: u32 = 19;

/// A process number, with the namespaces of the process that recorded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    pid: u32,
    /// Those namespaces as one number; zero if unknown.
    space: u32,
}

impl Number {
    /// How many bits a number takes.
    pub(crate) const BITS: u32 = PID_BITS + SPACE_BITS;

    /// The number of `pid` in this process's namespaces.
    pub(crate) fn of(pid: u32) -> Number {
        Number {
            pid: pid & ((1 << PID_BITS) - 1),
            space: space(),
        }
    }

    pub(crate) fn of_this_process() -> Number {
        Number::of(std::process::id())
    }

    pub(crate) fn bits(self) -> u64 {
        u64::from(self.space) << PID_BITS | u64::from(self.pid)
    }

    pub(crate) fn from_bits(bits: u64) -> Number {
        Number {
            pid: bits as u32 & ((1 << PID_BITS) - 1),
            space: (bits >> PID_BITS) as u32 & ((1 << SPACE_BITS) - 1),
        }
    }

    /// The number in its own namespace.
    pub(crate) fn pid(self) -> u32 {
        self.pid
    }

    /// Its number in this process's namespaces; `None` when that is unknown.
    pub(crate) fn here(self) -> Option<u32> {
        (self.space != 0 && self.space == space()).then_some(self.pid)
    }

    /// Its name in `/proc`, as this process sees `/proc`; `None` when that is unknown.
    pub(crate) fn in_proc(self) -> Option<u32> {
        self.here().filter(|_| is_proc_ours())
    }

    /// When it started, in clock ticks since boot; zero when that is unknown.
    pub(crate) fn start_time(self) -> u64 {
        let stat = self.in_proc().and_then(stat_of);
        let parsed = stat.as_deref().and_then(parse);
        parsed.map_or(0, |(_, start)| start)
    }

    /// Whether the process that [started](Number::start_time) at `start` still runs.
    pub(crate) fn runs(self, start: u64) -> bool {
        if cfg!(miri) {
            return true;
        }
        let Some(pid) = self.here() else {
            return true;
        };
        match stat_of(pid).filter(|_| is_proc_ours()) {
            Some(stat) => match parse(&stat) {
                Some((state, started)) => {
                    let ended = matches!(state, "Z" | "X" | "x") && !has_other_threads(pid);
                    !ended && (start == 0 || started == start)
                }
                None => true,
            },
            None => exists(pid),
        }
    }
}

/// The PID and time namespaces of this process, as one number. Different pairs can give the same number only if both
/// namespaces differ, and then in one of half a million cases.
pub(crate) fn space() -> u32 {
    if cfg!(miri) {
        return 1;
    }
    let by_path = |path: &str| {
        let stat = rustix::fs::stat(path).ok()?;
        Some(stat.st_ino)
    };
    let pids = by_path("/proc/self/ns/pid");
    let numbers = match pids {
        // Before Linux 5.6 there are no time namespaces.
        Some(pids) => Some((pids, by_path("/proc/self/ns/time").unwrap_or(0))),
        None => by_pidfd(),
    };
    numbers.map_or(0, |(pids, time)| {
        let time = (time as u32).wrapping_mul(0x9e37_79b1) >> (32 - SPACE_BITS);
        // The kernel numbers namespaces with the lowest free numbers, counted from one on.
        ((pids as u32 ^ time) & ((1 << SPACE_BITS) - 1)).max(1)
    })
}

/// Without `/proc`, by a pidfd; needs Linux 6.11.
fn by_pidfd() -> Option<(u64, u64)> {
    const GET_PID_NAMESPACE: libc::c_ulong = 0xff05;
    const GET_TIME_NAMESPACE: libc::c_ulong = 0xff07;
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
    let ask = |what| {
        // SAFETY: the command takes no argument, touches no memory, and returns a descriptor of our own.
        let fd: RawFd = unsafe { libc::ioctl(pidfd.as_raw_fd(), what as _, 0) };
        // SAFETY: just opened, for us.
        let fd = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })?;
        FileId::of(fd.as_raw_fd()).map(FileId::inode)
    };
    Some((ask(GET_PID_NAMESPACE)?, ask(GET_TIME_NAMESPACE)?))
}

/// Whether `/proc` shows processes by the numbers that this process uses. The `/proc` of an outer namespace does not.
fn is_proc_ours() -> bool {
    let told = || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let (start, rest) = stat.split_at(stat.rfind(')')?);
        // The process number; after the name and the state follow the parent, the group and the session.
        let numbers = start.split(' ').take(1).chain(rest.split(' ').skip(2));
        let numbers = numbers.take(4).map(|number| number.parse().ok());
        numbers.collect::<Option<Vec<libc::pid_t>>>()
    };
    // All four are not equal by chance.
    // SAFETY: calls that touch no memory.
    let own = unsafe {
        [
            libc::getpid(),
            libc::getppid(),
            libc::getpgrp(),
            libc::getsid(0),
        ]
    };
    told().is_some_and(|told| told == own)
}

/// Whether a process of this number exists at all, when there is no `/proc` that says more.
fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// A first thread that ended while other threads of its process go on shows as a zombie.
fn has_other_threads(pid: u32) -> bool {
    std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.count() > 1)
}

fn stat_of(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()
}

/// State and start time from a line of `/proc/<pid>/stat`.
fn parse(stat: &str) -> Option<(&str, u64)> {
    // The name in the second field may contain spaces and brackets; the fields after its last bracket do not.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "/proc")]
    fn a_number_survives_its_bits_and_names_this_process_here() {
        let me = Number::of_this_process();
        assert_eq!(Number::from_bits(me.bits()), me);
        assert!(me.bits() >> Number::BITS == 0);
        assert_eq!(me.here(), Some(std::process::id()));
        assert!(is_proc_ours());
        let start = me.start_time();
        assert_ne!(start, 0);
        assert!(me.runs(start) && me.runs(0));
        assert!(!me.runs(start + 1), "another process had the number");
    }

    #[test]
    #[cfg_attr(miri, ignore = "/proc")]
    fn a_number_of_other_or_unknown_namespaces_tells_of_nobodys_death() {
        for space in [0, space() ^ 1] {
            // No process here has this number.
            let pid = (1 << PID_BITS) - 1;
            let other = Number { pid, space };
            assert_eq!((other.here(), other.start_time()), (None, 0));
            assert!(other.runs(7));
            assert!(!Number::of(pid).runs(7));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "ioctl")]
    fn namespaces_are_the_same_with_and_without_proc() {
        let inode = |path| rustix::fs::stat(path).unwrap().st_ino;
        if let Some(found) = by_pidfd() {
            let told = (inode("/proc/self/ns/pid"), inode("/proc/self/ns/time"));
            assert_eq!(found, told);
        }
    }
}
