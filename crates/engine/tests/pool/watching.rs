//! The watcher and the assisting threads: they look for results, time limits and rings, and sleep until there is
//! something.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use procession_engine::Deadline;
use procession_engine::pool::{Event, Results, Task, TaskQueue, WorkerMessage};

use crate::{NoResults, Worker, hold_one, next, soon, task, work};

#[test]
fn a_task_beyond_its_time_is_reported_with_its_worker() {
    let task_queue = TaskQueue::new().unwrap();
    let limited = Task {
        timeout: Some(Duration::from_millis(1)),
        ..task(6, 1)
    };
    task_queue.submit(limited, &[]).unwrap();
    let worker = Worker::start(&task_queue, hold_one);
    let overdue = loop {
        match next(&task_queue, &[]) {
            Event::Notice { .. } => {}
            Event::Overdue {
                job, index, worker, ..
            } => break (job, index, worker),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(overdue, (6, 1, worker.slot));
    worker.kill();
    while !matches!(next(&task_queue, &[worker.slot]), Event::Gone(_)) {}
    assert_eq!(task_queue.lost_by(worker.slot), []);
    assert_eq!(task_queue.outstanding(), 0);
}

/// Waits until the thread that sends its number sleeps for good.
fn until_asleep(thread: &std::sync::mpsc::Receiver<i32>) {
    let id = thread.recv().expect("the thread says who it is");
    let mut seen = 0;
    while seen < 20 {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).expect("it lives");
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        seen = if state.starts_with('S') { seen + 1 } else { 0 };
        std::thread::yield_now();
    }
}

#[test]
fn a_watcher_that_sleeps_without_end_hears_of_a_limit() {
    let task_queue = TaskQueue::new().unwrap();
    let worker = Worker::start(&task_queue, |endpoint| {
        let _claim = endpoint.claim(soon()).expect("a task");
        loop {
            std::thread::park();
        }
    });
    let (sender, thread) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            sender
                .send(rustix::thread::gettid().as_raw_nonzero().get())
                .unwrap();
            loop {
                match task_queue.next_event(Deadline::NEVER, &[]) {
                    Ok(Event::Rung | Event::Notice { .. }) => {}
                    event => break event,
                }
            }
        });
        until_asleep(&thread);
        let limited = Task {
            timeout: Some(Duration::from_millis(1)),
            ..task(6, 1)
        };
        task_queue.submit(limited, &[]).unwrap();
        let event = watcher.join().expect("no panic");
        assert!(
            matches!(
                event,
                Ok(Event::Overdue {
                    job: 6,
                    index: 1,
                    ..
                })
            ),
            "{event:?}"
        );
    });
    worker.kill();
}

#[test]
fn ringing_ends_a_wait() {
    let task_queue = TaskQueue::new().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| task_queue.ring().unwrap());
        assert!(matches!(next(&task_queue, &[]), Event::Rung));
    });
}

/// The tasks whose results were seen.
struct Seen(Mutex<BTreeSet<u64>>);

impl Results for Seen {
    fn deliver(&self, _: u64, index: u64, _: u8, _: WorkerMessage) {
        assert!(self.0.lock().unwrap().insert(index), "twice: {index}");
    }
}

/// Submits tasks one by one. Whichever thread sees a result first takes it: this one, or the one that watches.
fn done_by_whoever_looks(task_queue: &TaskQueue, tasks: u64) {
    let seen = Seen(Mutex::default());
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            loop {
                match next(task_queue, &[]) {
                    Event::Rung => return,
                    event => assert!(seen.take(event).is_none()),
                }
            }
        });
        for index in 0..tasks {
            task_queue.submit(task(1, index), &[&[1]]).unwrap();
            let is_done = || seen.0.lock().unwrap().contains(&index);
            while !is_done() {
                task_queue.assist(is_done, &seen);
            }
        }
        task_queue.ring().unwrap();
        watcher.join().unwrap();
    });
    assert_eq!(seen.0.lock().unwrap().len() as u64, tasks);
    assert_eq!(task_queue.outstanding(), 0);
}

#[test]
fn whoever_waits_may_look_for_its_result_itself() {
    let task_queue = TaskQueue::new().unwrap();
    let _worker = Worker::start(&task_queue, work);
    done_by_whoever_looks(&task_queue, 2_000);
}

#[test]
fn what_an_assistant_finds_besides_results_reaches_the_watcher() {
    let task_queue = TaskQueue::new().unwrap();
    let notices = 200;
    let _worker = Worker::start(&task_queue, |endpoint| {
        (0..notices).for_each(|_| endpoint.notify(7, &[]).expect("memory"));
        work(endpoint);
    });
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                task_queue.assist(|| over.load(SeqCst), &NoResults);
            }
        });
        let mut heard = 0;
        while heard < notices {
            match next(&task_queue, &[]) {
                Event::Notice { result_kind: 7, .. } => heard += 1,
                Event::Rung => {}
                other => panic!("{other:?}"),
            }
        }
        over.store(true, SeqCst);
    });
}

#[test]
fn a_ring_that_nobody_heard_is_one_ring() {
    let task_queue = TaskQueue::new().unwrap();
    for _ in 0..2 {
        for _ in 0..100 {
            task_queue.ring().unwrap();
        }
        let event = task_queue.next_event(soon(), &[]).unwrap();
        assert!(matches!(event, Event::Rung), "{event:?}");
        assert!(!task_queue.has_messages());
    }
}
