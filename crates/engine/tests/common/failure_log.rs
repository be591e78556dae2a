//! The failure log: one append-only memory file per sandbox. Each process of the sandbox writes there why it failed.
//! Nothing here allocates from the engine or takes the locks of the standard streams, which a fork may have left
//! locked forever.

use std::backtrace::Backtrace;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};

static LOG_FD: AtomicI32 = AtomicI32::new(-1);
static CONTEXT: Mutex<String> = Mutex::new(String::new());

/// Sets what this process is doing, to be logged if it fails.
pub fn set_context(text: &str) {
    text.clone_into(&mut CONTEXT.lock().unwrap_or_else(|e| e.into_inner()));
}

/// The reading side, which the test thread keeps.
pub struct FailureLog {
    file: File,
}

impl FailureLog {
    /// Creates an empty log. Close-on-exec, so that a death by exec leaves no descriptor behind.
    pub fn new() -> FailureLog {
        use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};
        let fd: OwnedFd = memfd_create("failure-log", MemfdFlags::CLOEXEC).expect("memfd_create");
        fcntl_setfl(&fd, OFlags::APPEND).expect("fcntl(F_SETFL)");
        FailureLog {
            file: File::from(fd),
        }
    }

    /// Called in the sandbox: from now on this process and the processes it forks write here.
    pub fn adopt(&self) {
        LOG_FD.store(self.file.as_raw_fd(), Ordering::Relaxed);
        std::panic::set_hook(Box::new(|info| log_line(&info.to_string())));
        log_backtrace_on_abort();
    }

    /// Everything that was written.
    pub fn read(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.file.seek(SeekFrom::Start(0));
        let _ = self.file.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Adds a line to the log of this process's sandbox.
pub fn log_line(text: &str) {
    let fd = LOG_FD.load(Ordering::Relaxed);
    if fd < 0 {
        return;
    }
    // SAFETY: a non-negative number in LOG_FD is the memory file, which the sandbox never closes.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let context = CONTEXT
        .try_lock()
        .map(|context| context.clone())
        .unwrap_or_default();
    let line = format!("[{}] {text} {context}\n", std::process::id());
    let _ = rustix::io::write(fd, line.as_bytes());
}

/// Makes SIGABRT, which the test thread sends when the sandbox hangs, log this process's backtrace.
fn log_backtrace_on_abort() {
    extern "C" fn log_backtrace(_: libc::c_int) {
        log_line(&format!("was here:\n{}", Backtrace::force_capture()));
        // SAFETY: _exit is always allowed, in a signal handler too.
        unsafe { libc::_exit(134) }
    }
    let handler: extern "C" fn(libc::c_int) = log_backtrace;
    // SAFETY: the handler has the signature that signal() requires. It is not async-signal-safe, and need not be: the
    // process is ended whatever the handler does.
    unsafe { libc::signal(libc::SIGABRT, handler as libc::sighandler_t) };
}
