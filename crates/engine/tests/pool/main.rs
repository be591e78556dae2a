//! A board and its workers, as several processes see them.

mod deaths;
mod leaving;
mod room;
mod taking_back;
mod watching;

use std::collections::BTreeSet;
use std::time::Duration;

use procession_engine::error::GetError;
use procession_engine::pool::{Board, Event, Standing, Task, Workbench};
use procession_engine::{Deadline, OwnerId, process};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn task(job: u64, index: u64) -> Task {
    Task {
        job,
        index,
        ..Task::default()
    }
}

/// A worker process that runs `body` and then ends without a word.
struct Worker {
    pid: libc::pid_t,
    seat: OwnerId,
}

impl Worker {
    fn start(board: &Board, body: impl FnOnce(&Workbench)) -> Worker {
        let handle = board.handle();
        // SAFETY: the child runs nothing but the engine's code, whose fork handlers see to its locks,
        // the allocator, whose locks are the C library's, and `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let run = || body(&Workbench::open(&handle).expect("a board"));
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            // SAFETY: ends the process.
            unsafe { libc::_exit(outcome.is_err().into()) }
        }
        let seat = process::forked_seat().expect("the seat of the child");
        Worker { pid, seat }
    }

    fn kill(&self) {
        // SAFETY: our own child, not reaped yet.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
        let mut status = 0;
        // SAFETY: our own child.
        unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        process::bury(self.seat);
    }
}

/// Answers every task with its bytes in reverse.
fn work(bench: &Workbench) {
    loop {
        match bench.claim(soon()) {
            Ok(mut claim) => {
                let answer: Vec<u8> = claim.bytes().iter().rev().copied().collect();
                if claim.finish(1, &[&answer]).expect("memory") == Standing::Doomed {
                    return;
                }
            }
            Err(GetError::Interrupted) => {}
            Err(_) => return,
        }
    }
}

/// Takes a task, says so, and does nothing more.
fn hold_one(bench: &Workbench) {
    let _claim = bench.claim(soon()).expect("a task");
    bench.notify(7, &[]).expect("memory");
    loop {
        std::thread::park();
    }
}

fn next(board: &Board, watch: &[OwnerId]) -> Event {
    loop {
        match board.next_event(soon(), watch) {
            Err(GetError::Interrupted) => {}
            event => return event.expect("an event in time"),
        }
    }
}

fn result(board: &Board) -> (u64, u64, Vec<u8>) {
    match next(board, &[]) {
        Event::Result {
            job, index, reply, ..
        } => (job, index, reply.bytes().to_vec()),
        other => panic!("{other:?}"),
    }
}

fn await_notice(board: &Board) {
    let event = next(board, &[]);
    assert!(matches!(event, Event::Notice { .. }), "{event:?}");
}

fn await_death(board: &Board, worker: &Worker) {
    let event = next(board, &[worker.seat]);
    assert!(
        matches!(event, Event::Gone(seat) if seat == worker.seat),
        "{event:?}"
    );
}

#[test]
fn every_task_comes_back_once() {
    let board = Board::with_capacity(16).unwrap();
    let _workers = [(); 3].map(|()| Worker::start(&board, work));
    let long: Vec<u8> = (0..10_000).map(|n| n as u8).collect();
    let payload = |index: u64| match index % 50 {
        0 => long.clone(),
        _ => vec![1, index as u8],
    };
    for index in 0..500 {
        board.submit(task(9, index), &[&payload(index)]).unwrap();
    }
    let mut seen = BTreeSet::new();
    for _ in 0..500 {
        let (job, index, mut bytes) = result(&board);
        bytes.reverse();
        assert_eq!((job, bytes), (9, payload(index)));
        assert!(seen.insert(index));
    }
    assert_eq!(board.outstanding(), 0);
    let left = board.next_event(Deadline::NOW, &[]);
    assert!(matches!(left, Err(GetError::Empty)), "{left:?}");
}

#[test]
fn tasks_are_claimed_in_order() {
    let board = Board::new().unwrap();
    let bench = Workbench::open(&board.handle()).unwrap();
    for index in 0..5 {
        board.submit(task(1, index), &[]).unwrap();
    }
    for index in 0..5 {
        let mut claim = bench.claim(Deadline::NOW).unwrap();
        assert_eq!((claim.job(), claim.index(), claim.attempt()), (1, index, 0));
        claim.finish(0, &[]).unwrap();
    }
    assert!(matches!(bench.claim(Deadline::NOW), Err(GetError::Empty)));
}

#[test]
fn a_dropped_claim_is_reported() {
    let board = Board::new().unwrap();
    let bench = Workbench::open(&board.handle()).unwrap();
    board.submit(task(4, 2), &[]).unwrap();
    drop(bench.claim(Deadline::NOW).unwrap());
    let event = next(&board, &[]);
    assert!(
        matches!(event, Event::Abandoned { job: 4, index: 2 }),
        "{event:?}"
    );
}

#[test]
fn a_sleeping_worker_is_woken_for_a_task() {
    let board = Board::new().unwrap();
    let _worker = Worker::start(&board, |bench| {
        bench.notify(1, &[]).expect("memory");
        work(bench);
    });
    await_notice(&board);
    board.submit(task(0, 0), &[b"ab"]).unwrap();
    assert_eq!(result(&board).2, b"ba");
}
