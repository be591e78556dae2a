//! Measures how the cost of an operation depends on the number of existing objects. It should not grow.
//!
//! `cargo bench -p procession --bench growth`. Each row runs in its own process. `benches/growth` has the same
//! for the Python package.

use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use procession::{Event, Lock, Pool, Process, Queue};

/// The time of one operation in microseconds, at this number of objects.
type Row = fn(u64) -> f64;

const TABLES: &[(&str, &[u64], Row)] = &[
    (
        "put and get, messages that wait",
        &[0, 100_000, 1_000_000],
        put_and_get,
    ),
    (
        "terminate, tasks that wait: one task",
        &[1_000, 10_000, 100_000],
        terminate,
    ),
    (
        "cancel a task, tasks that wait",
        &[1_000, 10_000, 100_000],
        cancel,
    ),
    (
        "a fresh reply queue, after a burst of messages",
        &[0, 10_000, 100_000],
        reply_queue,
    ),
    (
        "let go of a lock that was sent once, messages that wait",
        &[0, 10_000, 100_000],
        sent_lock,
    ),
    (
        "start and join, objects",
        &[0, 1_000, 10_000],
        start_and_join,
    ),
];

fn main() {
    procession::init();
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("--row") {
        let mut number = || {
            arguments
                .next()
                .and_then(|text| text.parse::<u64>().ok())
                .expect("a number")
        };
        let (_, _, row) = TABLES[number() as usize];
        println!("{:.2}", row(number()));
        return;
    }
    let program = std::env::current_exe().expect("this program");
    for (place, (name, sizes, _)) in TABLES.iter().enumerate() {
        println!("{name} (us)");
        for size in *sizes {
            let row = Command::new(&program)
                .args(["--row", &place.to_string(), &size.to_string()])
                .output()
                .expect("the row starts");
            assert!(
                row.status.success(),
                "{}",
                String::from_utf8_lossy(&row.stderr)
            );
            println!(
                "  {size:>9}  {}",
                String::from_utf8_lossy(&row.stdout).trim()
            );
        }
    }
}

/// The median of several readings, each of several operations, in microseconds per operation.
fn median(readings: usize, operations: u32, mut work: impl FnMut()) -> f64 {
    let mut took: Vec<Duration> = (0..readings)
        .map(|_| {
            let began = Instant::now();
            (0..operations).for_each(|_| work());
            began.elapsed()
        })
        .collect();
    took.sort();
    took[readings / 2].as_secs_f64() * 1e6 / f64::from(operations)
}

fn put_and_get(waiting: u64) -> f64 {
    let queue = Queue::new().unwrap();
    (0..waiting).for_each(|n| queue.put(n).unwrap());
    median(9, 10_000, || {
        queue.put(0).unwrap();
        queue.get().unwrap();
    })
}

static GATE: OnceLock<Event> = OnceLock::new();

fn keep(gate: Event) {
    assert!(GATE.set(gate).is_ok());
}

fn hold_up() {
    GATE.get().unwrap().wait();
}

/// A pool whose only worker is busy until the gate opens, and this many waiting tasks.
fn busy_pool(tasks: u64) -> (Pool, Event, Vec<procession::Task<u64>>) {
    let gate = Event::new().unwrap();
    let builder = Pool::builder().workers(1).initializer(keep, gate.clone());
    let pool = builder.build().unwrap();
    drop(pool.submit(hold_up, ()).unwrap());
    let waiting = (0..tasks)
        .map(|n| pool.submit(u64::from_be, n).unwrap())
        .collect();
    (pool, gate, waiting)
}

fn terminate(tasks: u64) -> f64 {
    let (pool, _gate, waiting) = busy_pool(tasks);
    let began = Instant::now();
    pool.terminate();
    let took = began.elapsed();
    drop(waiting);
    took.as_secs_f64() * 1e6 / tasks as f64
}

fn cancel(tasks: u64) -> f64 {
    let (pool, _gate, mut waiting) = busy_pool(tasks);
    let cancelled = median(9, 50, || assert!(waiting.pop().unwrap().cancel()));
    pool.terminate();
    cancelled
}

fn reply_queue(burst: u64) -> f64 {
    let bodies = Queue::new().unwrap();
    (0..burst).for_each(|_| bodies.put(vec![1_u8; 1_500]).unwrap());
    (0..burst).for_each(|_| drop(bodies.get().unwrap()));
    let requests: Queue<Queue<u64>> = Queue::new().unwrap();
    median(9, 200, || {
        let reply = Queue::new().unwrap();
        requests.put(reply.clone()).unwrap();
        requests.get().unwrap().put(1).unwrap();
        assert_eq!(reply.get().unwrap(), 1);
    })
}

fn sent_lock(waiting: u64) -> f64 {
    let bodies = Queue::new().unwrap();
    (0..waiting).for_each(|_| bodies.put(vec![1_u8; 1_500]).unwrap());
    let locks: Queue<Lock> = Queue::new().unwrap();
    let mut sent: Vec<Lock> = (0..900)
        .map(|_| {
            let lock = Lock::new().unwrap();
            locks.put(lock.clone()).unwrap();
            drop(locks.get().unwrap());
            lock
        })
        .collect();
    median(9, 100, || drop(sent.pop()))
}

fn nothing() {}

fn start_and_join(objects: u64) -> f64 {
    let kept: Vec<Event> = (0..objects).map(|_| Event::new().unwrap()).collect();
    let took = median(9, 5, || {
        Process::spawn(nothing, ()).unwrap().join().unwrap()
    });
    drop(kept);
    took
}
