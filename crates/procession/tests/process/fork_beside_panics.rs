//! Forks while other threads print a panic. Std holds a lock of its own while it waits for the stream.

use std::io::Write;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{io, panic, process, thread};

use procession::{ForkSafe, JoinError, Process, Stdio};

procession::test_support!();

static PRINTING: Mutex<()> = Mutex::new(());

#[test]
fn a_forked_process_can_panic_whatever_other_threads_were_doing() {
    panic::set_hook(Box::new(|info| {
        let _one_at_a_time = PRINTING.lock().unwrap_or_else(|e| e.into_inner());
        if thread::current().name() != Some("panics") {
            let _ = writeln!(io::stderr().lock(), "{info}");
        } else {
            drop(io::stderr().lock());
        }
    }));
    // A fork that hangs is a failure, not a wait.
    thread::spawn(|| {
        thread::sleep(Duration::from_secs(120));
        eprintln!("a forked process hangs");
        process::abort();
    });
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let panics = || {
            while !stop.load(Ordering::Relaxed) {
                let _ = catch_unwind(|| panic!("over and over"));
            }
        };
        thread::Builder::new()
            .name("panics".to_owned())
            .spawn_scoped(scope, panics)
            .unwrap();
        for _ in 0..50 {
            let builder = Process::builder().stderr(Stdio::Null);
            // SAFETY: it only panics.
            let closure = unsafe { ForkSafe::new(|| -> u8 { panic!("in the child") }) };
            let end = builder.fork(closure).unwrap().join();
            assert!(matches!(end, Err(JoinError::Panicked(_))), "{end:?}");
        }
        stop.store(true, Ordering::Relaxed);
    });
}
