//! A process of its own for each test body, with a time limit. If the limit ends it, the failure message says what
//! its processes were doing.

use super::child::{die_with_parent, exit_now};
use super::failure_log::FailureLog;
use super::footprint::assert_no_children;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, waitid,
};
use std::cell::Cell;
use std::fmt::Write;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

thread_local! {
    static STALLED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// How long the machine kept this thread from running during its last sandbox. If the engine did not keep a promise
/// of seconds meanwhile, that says nothing about the engine.
pub fn stalled() -> Duration {
    STALLED.get()
}

/// Locked while a sandbox is forked and while a test thread panics. A sandbox that was forked in the middle of another
/// thread's panic would wait for the panic hook forever.
static FORK_OR_PANIC: Mutex<()> = Mutex::new(());

fn undisturbed() -> MutexGuard<'static, ()> {
    FORK_OR_PANIC.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `body` in a process of its own. Fails if it fails, or after a minute.
#[track_caller]
pub fn isolated(body: impl FnOnce()) {
    isolated_within(LIMIT, body);
}

/// Runs `body` in a process of its own. Fails if it fails, or when `limit` is over.
#[track_caller]
pub fn isolated_within(limit: Duration, body: impl FnOnce()) {
    let mut log = FailureLog::new();
    let forking = undisturbed();
    // SAFETY: the test process has other threads, so in theory the child is as restricted as a signal handler. glibc
    // makes malloc usable after fork, and the body avoids the standard streams, whose locks another test thread might
    // have held.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        log.adopt();
        exit_now(run(body));
    }
    drop(forking);
    let pid = Pid::from_raw(pid).expect("a child's pid is positive");
    STALLED.set(Duration::ZERO);
    let in_time = ended_within(pid, limit);
    let mut report = String::new();
    if !in_time {
        let _ = writeln!(report, "it hung for {limit:?}:");
        for member in session(pid) {
            let _ = writeln!(report, "  {}", describe(member));
        }
        // The sandbox comes last: its end kills its children before they can log anything.
        let mut members = session(pid);
        members.sort_by_key(|&member| member == pid);
        for member in members {
            let _ = kill_process(member, Signal::ABORT);
            ended_within(member, Duration::from_secs(4));
        }
    }
    let left: Vec<Pid> = session(pid)
        .into_iter()
        .filter(|&member| member != pid)
        .collect();
    for &member in &left {
        let _ = writeln!(report, "left behind: {}", describe(member));
        let _ = kill_process(member, Signal::KILL);
    }
    if !ended_within(pid, Duration::ZERO) {
        let _ = kill_process(pid, Signal::KILL);
    }
    let status = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED).expect("the sandbox is our child");
    let good = status.is_some_and(|status| status.exit_status() == Some(0));
    if !good || !report.is_empty() {
        let stalled = stalled();
        let _panicking = undisturbed();
        panic!(
            "{}{report}{status:?}; the machine stood still for {stalled:?}",
            log.read()
        );
    }
}

fn run(body: impl FnOnce()) -> i32 {
    die_with_parent();
    rustix::process::setsid().expect("a forked process leads no group");
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .expect("PR_SET_CHILD_SUBREAPER");
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        body();
        assert_no_children();
    }));
    if outcome.is_ok() { 0 } else { 101 }
}

fn ended_within(pid: Pid, limit: Duration) -> bool {
    const TICK: Duration = Duration::from_millis(20);
    let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return true;
    };
    let mut watched = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    let start = Instant::now();
    loop {
        let tick = TICK.min(limit.saturating_sub(start.elapsed()));
        let asked = Instant::now();
        let ended = poll(
            &mut watched,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: tick.subsec_nanos().into(),
            }),
        );
        STALLED.set(stalled() + asked.elapsed().saturating_sub(TICK));
        match ended {
            Ok(1..) => return true,
            _ if start.elapsed() >= limit => return false,
            _ => {}
        }
    }
}

/// Every process of the sandbox's session. A session survives the death of a parent, so this finds orphans too.
fn session(leader: Pid) -> Vec<Pid> {
    let all = std::fs::read_dir("/proc").expect("/proc is mounted");
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let member = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        let session: i32 = fields.nth(2)?.parse().ok()?;
        (session == leader.as_raw_nonzero().get() && state != "Z").then(|| Pid::from_raw(pid))?
    };
    pids.filter_map(member).collect()
}

fn describe(pid: Pid) -> String {
    let number = pid.as_raw_nonzero();
    let read = |what: &str| {
        let text = std::fs::read_to_string(format!("/proc/{number}/{what}")).unwrap_or_default();
        text.trim().to_owned()
    };
    let status = read("status");
    let state = status
        .lines()
        .find_map(|line| line.strip_prefix("State:"))
        .unwrap_or("gone")
        .trim();
    format!(
        "process {number}: {state}, in {}, system call {}",
        read("wchan"),
        read("syscall")
    )
}
