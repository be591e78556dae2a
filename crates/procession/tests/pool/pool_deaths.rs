//! The ways in which workers die, and the errors of their tasks.

use std::collections::HashSet;
use std::process::exit;
use std::sync::atomic::{AtomicU32, Ordering};

use procession::{Error, Event, Pool, Process, Queue, TaskError};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, getpid, getrlimit, kill_process, setrlimit, waitpid,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

procession::test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn own_id() -> u32 {
    std::process::id()
}

fn signal_self(number: i32) {
    let signal = Signal::from_named_raw(number).unwrap();
    // Std handles SIGSEGV and lets only the second one through.
    loop {
        kill_process(getpid(), signal).unwrap();
        std::thread::yield_now();
    }
}

fn quit(code: i32) {
    exit(code);
}

fn abort() {
    std::process::abort();
}

/// Overflows the stack.
fn dig(depth: u64) -> u64 {
    let ballast = std::hint::black_box([depth; 1000]);
    match std::hint::black_box(depth) {
        0 => 0,
        _ => dig(depth + 1) + ballast[999],
    }
}

fn died(outcome: Result<(), Error>) -> (u32, String) {
    match outcome.unwrap_err() {
        Error::Task(TaskError::WorkerDied { pid, how }) => (pid, how),
        other => panic!("{other}"),
    }
}

#[test]
fn a_death_is_told_with_who_it_was_and_how() {
    let pool = Pool::new(1).unwrap();
    let check = |end: &dyn Fn() -> Result<(), Error>, expected: &str| {
        let id = pool.apply(own_id, ()).unwrap();
        let (pid, how) = died(end());
        assert_eq!(pid, id);
        assert!(how.contains(expected), "{how}, not {expected}");
    };
    check(&|| pool.apply(signal_self, 9), "signal 9 (SIGKILL)");
    check(&|| pool.apply(signal_self, 11), "signal 11 (SIGSEGV)");
    check(&|| pool.apply(signal_self, 15), "signal 15 (SIGTERM)");
    check(&|| pool.apply(abort, ()), "signal 6 (SIGABRT)");
    check(&|| pool.apply(quit, 0), "exited with code 0");
    check(&|| pool.apply(quit, 3), "exited with code 3");
    check(&|| pool.apply(dig, 1).map(drop), "signal 6 (SIGABRT)");
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
}

/// How a worker ends before it is ready.
fn end_early(way: u32) {
    match way {
        0 => exit(0),
        1 => exit(7),
        2 => abort(),
        _ => signal_self(9),
    }
}

fn end_early_with_a_state(way: u32) -> u64 {
    end_early(way);
    0
}

fn no_workers(outcome: Result<u64, Error>) -> String {
    match outcome.unwrap_err() {
        Error::Task(TaskError::NoWorkers(why)) => why,
        other => panic!("{other}"),
    }
}

#[test]
fn workers_that_die_before_they_are_ready_fail_the_tasks_in_the_end() {
    for (way, expected) in (0..).zip(["code 0", "code 7", "SIGABRT", "SIGKILL"]) {
        let builder = Pool::builder().workers(2);
        let pool = builder.initializer(end_early, way).build().unwrap();
        let why = no_workers(pool.apply(square, 1));
        assert!(why.contains(expected), "{why}");
        assert!(why.contains("before they were ready"), "{why}");
        // All tasks have already failed.
        let why = no_workers(pool.apply(square, 1));
        assert!(why.contains(expected), "{why}");
        assert!(pool.resize(3).is_err());

        let builder = Pool::builder().workers(2);
        let pool = builder.state(end_early_with_a_state, way).build().unwrap();
        let why = no_workers(pool.apply(square, 1));
        assert!(why.contains(expected), "{why}");
    }
}

fn panic_early(_: u32) {
    panic!("no such table");
}

#[test]
fn every_task_of_a_pool_without_workers_ends() {
    let pool = Pool::builder()
        .workers(2)
        .initializer(panic_early, 0)
        .build()
        .unwrap();
    let results: Vec<_> = match pool.map_unordered(square, 0..20) {
        Ok(results) => results
            .map(|(_, result)| result.map_err(Error::from))
            .collect(),
        Err(error) => vec![Err(error)],
    };
    for result in results {
        assert!(no_workers(result).contains("no such table"));
    }
    assert!(no_workers(pool.map(square, 0..20).map(|_| 0)).contains("no such table"));
}

fn kill(id: u32) {
    let id = Pid::from_raw(id as i32).unwrap();
    kill_process(id, Signal::KILL).unwrap();
}

/// Runs in its own process, because the limit applies to all of it.
fn kill_while_nothing_can_be_started(words: Queue<String>) {
    let pool = Pool::new(2).unwrap();
    let before: HashSet<u32> = pool.worker_ids().into_iter().collect();
    let ids: HashSet<u32> = pool
        .map_chunked(own_id_of, 0..64, 1)
        .unwrap()
        .into_iter()
        .collect();
    assert!(ids.is_subset(&before));
    let limit = getrlimit(Resource::Nofile);
    let least = Rlimit {
        current: Some(4),
        ..limit
    };
    setrlimit(Resource::Nofile, least).unwrap();
    let victim = pool.worker_ids()[0];
    kill(victim);
    while pool.worker_ids().contains(&victim) {
        std::thread::yield_now();
    }
    let refused = pool.resize(3).unwrap_err();
    words.put(refused.to_string()).unwrap();
    assert_eq!(pool.workers(), 1);
    // Existing tasks continue.
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
    setrlimit(Resource::Nofile, limit).unwrap();
    pool.resize(2).unwrap();
    assert_eq!(pool.worker_ids().len(), 2);

    setrlimit(Resource::Nofile, least).unwrap();
    let victim = pool.worker_ids()[0];
    kill(victim);
    while pool.worker_ids().contains(&victim) {
        std::thread::yield_now();
    }
    setrlimit(Resource::Nofile, limit).unwrap();
    while pool.worker_ids().len() < 2 {
        std::thread::yield_now();
    }
    words.put("the dead one was replaced".to_owned()).unwrap();
}

fn own_id_of(_: u32) -> u32 {
    std::process::id()
}

#[test]
fn a_worker_that_cannot_be_replaced_at_once_is_replaced_later() {
    let words = Queue::new().unwrap();
    Process::spawn(kill_while_nothing_can_be_started, words.clone())
        .unwrap()
        .join()
        .unwrap();
    let refusal = words.get().unwrap();
    assert!(refusal.contains("Too many open files"), "{refusal}");
    assert_eq!(words.get().unwrap(), "the dead one was replaced");
}

fn wait_for(stop: Event) {
    stop.wait();
}

#[test]
fn a_worker_that_is_killed_while_it_starts_is_replaced() {
    let stop = Event::new().unwrap();
    let pool = Pool::builder()
        .workers(1)
        .initializer(wait_for, stop.clone())
        .build()
        .unwrap();
    let first = pool.worker_ids()[0];
    let task = pool.submit(own_id_of, 0).unwrap();
    kill(first);
    stop.set();
    assert_ne!(task.join().unwrap(), first);
}

/// A type that can be serialised only a few times.
struct Fuse(AtomicU32);

impl Serialize for Fuse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) < 2, "burnt down");
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Fuse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fuse, D::Error> {
        <()>::deserialize(deserializer).map(|()| Fuse(AtomicU32::new(0)))
    }
}

fn begin_with(_fuse: Fuse) {}

#[test]
fn arguments_of_an_initializer_that_panic_end_the_pool_and_hang_nobody() {
    let fuse = Fuse(AtomicU32::new(0));
    let pool = Pool::builder().workers(1).initializer(begin_with, fuse);
    let pool = pool.build().unwrap();
    let errors = [(); 4].map(|()| pool.apply(abort, ()).unwrap_err());
    assert!(
        matches!(errors[3], Error::Task(TaskError::NoWorkers(_))),
        "{errors:?}"
    );
    pool.join();
}

/// The worker's result, after a copy that its task forked also returned from the task and ended.
fn fork_and_come_back(n: u64) -> Result<u64, String> {
    unsafe extern "C" {
        fn fork() -> i32;
    }
    // SAFETY: a worker has no other threads whose locks the copy could find taken.
    match unsafe { fork() } {
        -1 => Err(std::io::Error::last_os_error().to_string()),
        0 => Err("the copy's answer".to_owned()),
        copy => {
            let copy = Pid::from_raw(copy);
            let ended = waitpid(copy, WaitOptions::empty()).map_err(|error| error.to_string())?;
            match ended.and_then(|(_, status)| status.exit_status()) {
                Some(0) => Ok(n * n),
                _ => Err(format!("the copy ended with {ended:?}")),
            }
        }
    }
}

#[test]
fn a_copy_that_a_task_forks_is_no_second_worker() {
    let pool = Pool::new(2).unwrap();
    let answers = pool.map(fork_and_come_back, 0..40).unwrap();
    assert_eq!(answers, (0..40).map(|n| Ok(n * n)).collect::<Vec<_>>());
    pool.join();
}
