//! Process numbers, and what they are worth.
//!
//! A number names a process only among those of its PID namespace, and only until another process gets it. So a
//! [`Number`] comes with the namespace of whoever wrote it down, and is compared by those of the same one alone; and
//! beside it stands when its process started, which is different in other time namespaces. `/proc` may be one of
//! another namespace as well. In doubt a process runs: taking a living one for dead would free what it uses.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::sys::known_fd::FileId;

/// Linux gives no number above this.
const PID_BITS: u32 = 22;
const SPACE_BITS: u32 = 19;

/// A process, as it is called in the namespaces of whoever wrote that down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    pid: u32,
    /// Those namespaces, zero for unknown ones.
    space: u32,
}

impl Number {
    /// The bits that a number takes.
    pub(crate) const BITS: u32 = PID_BITS + SPACE_BITS;

    /// What this process calls `pid`.
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

    /// What its own namespace calls it.
    pub(crate) fn pid(self) -> u32 {
        self.pid
    }

    /// What this process calls it; `None` when that cannot be told.
    pub(crate) fn here(self) -> Option<u32> {
        (self.space != 0 && self.space == space()).then_some(self.pid)
    }

    /// What it is called in `/proc`, as far as this process sees that; `None` when that cannot be told.
    pub(crate) fn in_proc(self) -> Option<u32> {
        self.here().filter(|_| is_proc_ours())
    }

    /// When it started, in clock ticks since boot; zero when that cannot be told.
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
            None => answers(pid),
        }
    }
}

/// The PID and the time namespace that this process is in, as one number. Different ones are the same number only
/// where both kinds differ, and then in one of half a million cases.
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
        // Before Linux 5.6 there is one time for all.
        Some(pids) => Some((pids, by_path("/proc/self/ns/time").unwrap_or(0))),
        None => by_pidfd(),
    };
    numbers.map_or(0, |(pids, time)| {
        let time = (time as u32).wrapping_mul(0x9e37_79b1) >> (32 - SPACE_BITS);
        // The numbers of namespaces are the lowest that are free, counted from one on.
        ((pids as u32 ^ time) & ((1 << SPACE_BITS) - 1)).max(1)
    })
}

/// Without `/proc`; Linux 6.11 and later can.
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

/// Whether `/proc` shows processes by the numbers that they have for this one. That of an outer namespace does not.
fn is_proc_ours() -> bool {
    let told = || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let (start, rest) = stat.split_at(stat.rfind(')')?);
        // The process; after its name and state its parent, group and session.
        let numbers = start.split(' ').take(1).chain(rest.split(' ').skip(2));
        let numbers = numbers.take(4).map(|number| number.parse().ok());
        numbers.collect::<Option<Vec<libc::pid_t>>>()
    };
    // That all four are the same by chance does not happen.
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

/// Whether there is a process of this number at all, for want of a `/proc` that says more.
fn answers(pid: u32) -> bool {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// A leader that ended while other threads of its process go on shows as a zombie.
fn has_other_threads(pid: u32) -> bool {
    std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.count() > 1)
}

fn stat_of(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()
}

/// State and start time from a line of `/proc/<pid>/stat`.
fn parse(stat: &str) -> Option<(&str, u64)> {
    // The name in the second field may hold spaces and brackets; what follows its last bracket not.
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
            // There is no process of this number here.
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
