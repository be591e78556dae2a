//! Procession between processes. Each child reports that it is ready before the clock starts.

use crate::harness::{clocked, steady};
use procession::{Connection, Event, Loan, Lock, Pool, Process, Queue};
use std::hint::black_box;
use std::process::Command;

/// The option that makes this program do nothing, for [`bare_start`].
pub const NOTHING: &str = "--nothing";

const WORKERS: usize = 2;

fn produce(queue: Queue<u64>, start: Event, n: u64) {
    queue.put(0).expect("room for a message");
    start.wait();
    for i in 0..n {
        queue.put(i).expect("room for a message");
    }
}

/// One process puts, this one gets.
pub fn queue_stream() -> f64 {
    steady(|n| {
        let queue = Queue::new().expect("shared memory");
        let start = Event::new().expect("shared memory");
        let producer =
            Process::spawn(produce, (queue.clone(), start.clone(), n)).expect("a process");
        queue.get().expect("the producer's first word");
        let took = clocked(|| {
            start.set();
            for i in 0..n {
                assert_eq!(queue.get().expect("a message"), i);
            }
        });
        producer.join().expect("no panic");
        took
    })
}

/// Large enough that copying is most of the work.
const LARGE: usize = 1 << 20;
/// The bound of the queue of large messages.
const WAITING: usize = 4;

fn lend(queue: Queue<Loan<u8>>, n: u64) {
    for i in 0..=n {
        let mut loan = queue.loan(LARGE).expect("memory");
        loan.fill(i as u8);
        queue.put_loan(loan).expect("room for a message");
    }
}

/// One process fills messages of 1 MiB in place, this one reads their last byte.
pub fn loan_stream() -> f64 {
    steady(|n| {
        let queue = Queue::bounded(WAITING).expect("shared memory");
        let producer = Process::spawn(lend, (queue.clone(), n)).expect("a process");
        let get = |i| {
            let message = queue.get_loan().expect("a message");
            assert_eq!(message.last(), Some(&(i as u8)));
        };
        get(0);
        let took = clocked(|| (1..=n).for_each(get));
        producer.join().expect("no panic");
        took
    })
}

fn fill_and_put(queue: Queue<Vec<u8>>, n: u64) {
    for i in 0..=n {
        queue.put(vec![i as u8; LARGE]).expect("room for a message");
    }
}

/// The same with a `Vec<u8>` carried by serde.
pub fn vec_stream() -> f64 {
    steady(|n| {
        let queue = Queue::bounded(WAITING).expect("shared memory");
        let producer = Process::spawn(fill_and_put, (queue.clone(), n)).expect("a process");
        let get = |i| {
            let message = queue.get().expect("a message");
            assert_eq!(message.last(), Some(&(i as u8)));
        };
        get(0);
        let took = clocked(|| (1..=n).for_each(get));
        producer.join().expect("no panic");
        took
    })
}

fn echo(line: Connection<u64, u64>) {
    while let Ok(number) = line.recv() {
        line.send(number).expect("the other side lives");
    }
}

/// Round trips of a number between two processes.
pub fn pipe_ping_pong() -> f64 {
    let (ours, theirs) = procession::pipe::<u64, u64>().expect("shared memory");
    let process = Process::spawn(echo, theirs).expect("a process");
    let trip = |i| {
        ours.send(i).expect("the echo lives");
        assert_eq!(ours.recv().expect("the echo lives"), i);
    };
    trip(0);
    let rate = steady(|n| clocked(|| (0..n).for_each(trip)));
    drop(ours);
    process.join().expect("no panic");
    rate
}

fn identity(n: u64) -> u64 {
    n
}

/// Calls of a trivial function with `Pool::map`.
pub fn pool_map() -> f64 {
    let pool = warm_pool();
    steady(|n| clocked(|| assert_eq!(pool.map(identity, 0..n).expect("results").len() as u64, n)))
}

/// The same, with each item as a task of its own.
pub fn pool_map_single() -> f64 {
    let pool = warm_pool();
    steady(|n| {
        clocked(|| {
            assert_eq!(
                pool.map_chunked(identity, 0..n, 1).expect("results").len() as u64,
                n
            )
        })
    })
}

/// Sequential calls with `Pool::apply`.
pub fn pool_apply() -> f64 {
    let pool = warm_pool();
    steady(|n| {
        clocked(|| {
            for i in 0..n {
                assert_eq!(pool.apply(identity, i).expect("a result"), i);
            }
        })
    })
}

fn warm_pool() -> Pool {
    let pool = Pool::new(WORKERS).expect("a pool");
    pool.map(identity, 0..1000).expect("results");
    pool
}

fn nothing() {}

/// Starting and joining a process that does nothing.
pub fn start() -> f64 {
    steady(|n| {
        clocked(|| {
            for _ in 0..n {
                Process::spawn(nothing, ())
                    .expect("a process")
                    .join()
                    .expect("no panic");
            }
        })
    })
}

/// Starting this program with the standard library, and waiting for it to end.
pub fn bare_start() -> f64 {
    let exe = std::env::current_exe().expect("the path of this program");
    steady(|n| {
        clocked(|| {
            for _ in 0..n {
                assert!(
                    Command::new(&exe)
                        .arg(NOTHING)
                        .status()
                        .expect("a process")
                        .success()
                );
            }
        })
    })
}

/// Locking and unlocking a free lock.
pub fn lock() -> f64 {
    let lock = Lock::new().expect("shared memory");
    steady(|n| {
        clocked(|| {
            for _ in 0..n {
                drop(black_box(&lock).lock().expect("no holder died"));
            }
        })
    })
}
