//! Forks without enough memory. The limit applies to the whole program, so this test has its own binary.

use procession::{Event, ForkSafe, Lock, Process, Queue, set_memory_limit};

procession::test_support!();

fn fork<R>(closure: impl FnOnce() -> R) -> Result<Process<R>, procession::Error>
where
    R: serde::Serialize + serde::de::DeserializeOwned,
{
    // SAFETY: the closures use only objects of this crate, and the only other threads are libtest's.
    Process::fork(unsafe { ForkSafe::new(closure) })
}

#[test]
fn a_fork_for_which_there_is_no_memory_is_refused() {
    let (lock, queue, go) = (
        Lock::new().unwrap(),
        Queue::new().unwrap(),
        Event::new().unwrap(),
    );
    queue.put(7).unwrap();
    set_memory_limit(1).unwrap();
    let mut started = Vec::new();
    let refused = loop {
        match fork(|| {
            go.wait();
            lock.lock().is_ok()
        }) {
            Ok(process) => started.push(process),
            Err(error) => break error,
        }
    };
    assert!(refused.is_out_of_memory(), "{refused}");
    // Any number of attempts leaves nothing behind.
    for _ in 0..3 {
        assert!(fork(|| ()).unwrap_err().is_out_of_memory());
    }
    set_memory_limit(None).unwrap();
    started.push(
        fork(|| {
            go.wait();
            true
        })
        .unwrap(),
    );
    go.set();
    for process in started {
        assert!(process.join().unwrap());
    }
    assert_eq!(queue.get().unwrap(), 7);
}
