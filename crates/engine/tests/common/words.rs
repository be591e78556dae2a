//! Last words: one append-only memory file a stage, into which each of its processes writes why it
//! failed. Nothing here allocates from the engine or takes the standard streams' locks, which a
//! fork may have left locked for ever.

use std::backtrace::Backtrace;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};

static WORDS: AtomicI32 = AtomicI32::new(-1);
static NOTE: Mutex<String> = Mutex::new(String::new());

/// What this process is about, to be told when it fails.
pub fn note(text: &str) {
    text.clone_into(&mut NOTE.lock().unwrap_or_else(|e| e.into_inner()));
}

/// The reading side, kept by the test thread.
pub struct Words {
    file: File,
}

impl Words {
    /// An empty record. Close-on-exec, so that a death by exec leaves no descriptor behind.
    pub fn new() -> Words {
        use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};
        let fd: OwnedFd = memfd_create("last-words", MemfdFlags::CLOEXEC).expect("memfd_create");
        fcntl_setfl(&fd, OFlags::APPEND).expect("fcntl(F_SETFL)");
        Words {
            file: File::from(fd),
        }
    }

    /// Called in the stage: from now on this process and those it forks write here.
    pub fn adopt(&self) {
        WORDS.store(self.file.as_raw_fd(), Ordering::Relaxed);
        std::panic::set_hook(Box::new(|info| say(&info.to_string())));
        on_abort_tell_where();
    }

    /// All that was written.
    pub fn read(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.file.seek(SeekFrom::Start(0));
        let _ = self.file.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Adds a line to the record of the stage this process belongs to.
pub fn say(text: &str) {
    let fd = WORDS.load(Ordering::Relaxed);
    if fd < 0 {
        return;
    }
    // SAFETY: a non-negative number in WORDS is the memory file the stage keeps open for good.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let about = NOTE.try_lock().map(|note| note.clone()).unwrap_or_default();
    let line = format!("[{}] {text} {about}\n", std::process::id());
    let _ = rustix::io::write(fd, line.as_bytes());
}

/// SIGABRT, sent by the test thread when the stage hangs, makes a process tell where it is.
fn on_abort_tell_where() {
    extern "C" fn tell(_: libc::c_int) {
        say(&format!("was here:\n{}", Backtrace::force_capture()));
        // SAFETY: _exit is always allowed, in a signal handler too.
        unsafe { libc::_exit(134) }
    }
    let handler: extern "C" fn(libc::c_int) = tell;
    // SAFETY: the handler has the signature signal() asks for. It is not async-signal-safe, and
    // need not be: the process is ended whatever becomes of the handler.
    unsafe { libc::signal(libc::SIGABRT, handler as libc::sighandler_t) };
}
