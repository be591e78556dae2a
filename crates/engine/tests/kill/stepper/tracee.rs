//! A forked child under ptrace that is advanced one instruction at a time.

use crate::common::{Child, End, SharedCells};
use procession_engine::ProcId;
use std::ptr::null_mut;
use std::sync::atomic::Ordering::SeqCst;

/// The cell in which the child says that the operation has begun (1) and has ended (2).
pub const PHASE: usize = 0;

/// Where the operation begins and ends.
pub enum Mark {
    /// Stops for the tracer.
    Begin,
    /// What follows is not part of the operation.
    End,
}

/// A child whose operation can be cut off between any two instructions.
pub struct Tracee {
    child: Child,
    cells: SharedCells,
}

impl Tracee {
    /// Forks a child that prepares, and stops it before the first instruction of the operation.
    pub fn fork(cells: SharedCells, run: impl FnOnce(&dyn Fn(Mark))) -> Tracee {
        let child = Child::fork(|| {
            run(&|mark| match mark {
                Mark::Begin => {
                    halt_for_tracer();
                    cells.cell(PHASE).store(1, SeqCst);
                }
                Mark::End => cells.cell(PHASE).store(2, SeqCst),
            });
        });
        let tracee = Tracee { child, cells };
        let status = tracee.wait();
        assert!(
            libc::WIFSTOPPED(status),
            "the child ended before its operation: status {status:#x}"
        );
        while !tracee.begun() {
            assert!(tracee.step(), "the child ended before its operation");
        }
        tracee
    }

    /// Executes one instruction; a system call counts as one. False once the operation has ended.
    pub fn step(&self) -> bool {
        // SAFETY: the child is ours, traced and stopped; the request touches no memory of this process.
        let refused = unsafe {
            libc::ptrace(
                libc::PTRACE_SINGLESTEP,
                self.pid(),
                null_mut::<u8>(),
                null_mut::<u8>(),
            )
        };
        assert_eq!(
            refused,
            0,
            "PTRACE_SINGLESTEP: {}",
            std::io::Error::last_os_error()
        );
        let status = self.wait();
        libc::WIFSTOPPED(status) && self.cells.read(PHASE) < 2
    }

    /// The child's position, as an offset in the test program, for `addr2line`.
    pub fn place(&self) -> String {
        // SAFETY: an all-zero register set is a valid value of that plain C struct.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: the child is ours, traced and stopped, and the request fills `registers`.
        let refused = unsafe {
            libc::ptrace(
                libc::PTRACE_GETREGS,
                self.pid(),
                null_mut::<u8>(),
                &raw mut registers,
            )
        };
        assert_eq!(
            refused,
            0,
            "PTRACE_GETREGS: {}",
            std::io::Error::last_os_error()
        );
        locate(self.pid(), registers.rip)
    }

    /// Kills it with SIGKILL where it stands. It stays a zombie.
    pub fn kill(&self) {
        self.child.kill();
        assert_eq!(self.child.ended(), End::Killed(libc::SIGKILL));
    }

    /// Lets it run to its end.
    pub fn finish(&self) {
        // SAFETY: the child is ours, traced and stopped.
        let refused = unsafe {
            libc::ptrace(
                libc::PTRACE_DETACH,
                self.pid(),
                null_mut::<u8>(),
                null_mut::<u8>(),
            )
        };
        assert_eq!(
            refused,
            0,
            "PTRACE_DETACH: {}",
            std::io::Error::last_os_error()
        );
        self.child.succeed();
    }

    /// Its entry in the engine's process table.
    pub fn proc_id(&self) -> ProcId {
        self.child.proc_id().expect("a forked child has a slot")
    }

    /// Reaps it in the kernel and in the engine.
    pub fn reap(&self) {
        self.child.join();
    }

    fn begun(&self) -> bool {
        self.cells.read(PHASE) > 0
    }

    fn pid(&self) -> i32 {
        self.child.pid().as_raw_nonzero().get()
    }

    fn wait(&self) -> i32 {
        let mut status = 0;
        loop {
            // SAFETY: `status` is a valid place for the result.
            let pid = unsafe { libc::waitpid(self.pid(), &raw mut status, libc::__WALL) };
            if pid == self.pid() {
                return status;
            }
            let error = std::io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::EINTR), "waitpid: {error}");
        }
    }
}

/// Stops here until the tracer resumes it, with as few instructions as possible.
fn halt_for_tracer() {
    // SAFETY: system calls without pointers; the parent is the sandbox, which waits for the stop.
    unsafe {
        assert_eq!(
            libc::ptrace(libc::PTRACE_TRACEME),
            0,
            "PTRACE_TRACEME is refused here"
        );
        libc::syscall(libc::SYS_kill, libc::getpid(), libc::SIGSTOP);
    }
}

fn locate(pid: i32, address: u64) -> String {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut base = 0;
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [range, _, offset, _, _, file] = fields[..] else {
            continue;
        };
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
        let (from, to) = range
            .split_once('-')
            .map_or((0, 0), |(from, to)| (number(from), number(to)));
        if number(offset) == 0 {
            base = from;
        }
        if (from..to).contains(&address) {
            return format!("{file}+{:#x}", address - base);
        }
    }
    format!("{address:#x}")
}

/// Keeps this process and its children on one processor. A step is two switches between the two, which cost several
/// times as much across processors.
pub fn stay_on_one_processor() {
    let mut set = rustix::thread::CpuSet::new();
    set.set(rustix::thread::sched_getcpu());
    rustix::thread::sched_setaffinity(None, &set).expect("sched_setaffinity");
}
