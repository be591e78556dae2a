//! Nothing is left when everything is dropped.

use std::io;

use procession::{
    Array, Barrier, Condvar, Event, ForkSafe, JoinableQueue, Lock, Pool, PreExec, Process, Queue,
    RLock, Receiver, Semaphore, Sender, Stdio, Value,
};
use procession_engine::process::{MemoryStats, memory_stats};

procession::test_support!();

type Numbers = (Queue<u32>, JoinableQueue<u32>, Value<u32>, Array<u32>);
type Gates = (Lock, RLock, Semaphore, Condvar, Event, Barrier);

fn use_all(numbers: Numbers, gates: Gates, replies: Sender<Vec<u8>>, die: bool) {
    numbers.0.put(1).unwrap();
    numbers.1.put(2).unwrap();
    let _turn = gates.0.lock().unwrap();
    let _again = gates.1.lock().unwrap();
    gates.2.acquire().forget();
    gates.4.set();
    replies.send(vec![0; 100_000]).unwrap();
    if die {
        std::process::abort();
    }
}

fn twice(n: u64) -> u64 {
    2 * n
}

fn die(_: u64) {
    std::process::abort();
}

/// Forks processes, and fails to start some.
fn forks(dying: bool) {
    let (queue, lock) = (Queue::new().unwrap(), Lock::new().unwrap());
    let closure = || {
        let _turn = lock.lock().unwrap();
        queue.put(vec![0; 100_000]).unwrap();
        std::mem::forget(Queue::<u32>::new().unwrap());
        if dying {
            std::process::abort();
        }
        vec![1; 100_000]
    };
    let builder = Process::builder().daemon(true).stdin(Stdio::piped());
    // SAFETY: it allocates and uses objects of this crate, whose locks no other thread holds.
    let process = builder.fork(unsafe { ForkSafe::new(closure) }).unwrap();
    assert_eq!(process.join().is_err(), dying);

    let refuse = |stdio| {
        // SAFETY: it does nothing.
        let hook = unsafe { PreExec::new(|| Err(io::Error::other("no"))) };
        Process::builder().pre_exec(hook).stdout(stdio)
    };
    let event = Event::new().unwrap();
    let error = refuse(Stdio::piped()).spawn(wait_for, event.clone());
    assert!(error.unwrap_err().to_string().ends_with("no"));
    // SAFETY: it does not run.
    let never = unsafe { ForkSafe::new(|| event.wait()) };
    let error = refuse(Stdio::piped()).fork(never);
    assert!(error.unwrap_err().to_string().ends_with("no"));
    // SAFETY: it does nothing.
    let hook = unsafe { PreExec::new(|| Ok(())) };
    let process = Process::builder().pre_exec(hook).spawn(twice, 4).unwrap();
    assert_eq!(process.join().unwrap(), 8);
}

fn wait_for(event: Event) {
    event.wait();
}

fn round(dying: bool) {
    forks(dying);
    let numbers: Numbers = (
        Queue::new().unwrap(),
        JoinableQueue::new().unwrap(),
        Value::new(0).unwrap(),
        Array::zeroed(100).unwrap(),
    );
    let gates: Gates = (
        Lock::new().unwrap(),
        RLock::new().unwrap(),
        Semaphore::new(1).unwrap(),
        Condvar::new().unwrap(),
        Event::new().unwrap(),
        Barrier::new(2).unwrap(),
    );
    let (sender, receiver): (_, Receiver<Vec<u8>>) = procession::channel().unwrap();
    let process = Process::spawn(use_all, (numbers, gates, sender, dying)).unwrap();
    assert_eq!(receiver.recv().unwrap().len(), 100_000);
    assert_eq!(process.join().is_err(), dying);
    drop(receiver);

    let mail = Queue::new().unwrap();
    (0..3).for_each(|n| mail.put((n, Queue::<u64>::new().unwrap())).unwrap());
    assert!(mail.get().unwrap().1.is_empty());
    drop(mail);

    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.map(twice, 0..50).unwrap().len(), 50);
    if dying {
        pool.apply(die, 1).unwrap_err();
        pool.terminate();
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn children() -> String {
    let own = format!("/proc/self/task/{}/children", std::process::id());
    std::fs::read_to_string(own).unwrap_or_default()
}

#[test]
fn no_object_seat_descriptor_or_process_is_left() {
    // The first round leaves what is created once per process.
    round(false);
    round(true);
    let count = |memory_stats: MemoryStats| {
        (
            memory_stats.processes,
            memory_stats.objects,
            memory_stats.blocks_in_use,
        )
    };
    let before = (count(memory_stats()), descriptors());
    for dying in [false, true, true] {
        round(dying);
        assert_eq!((count(memory_stats()), descriptors()), before);
        assert_eq!(children(), "");
    }
}
