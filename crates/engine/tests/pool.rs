//! A board and its workers, as several processes see them.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use procession_engine::error::{Error, GetError, PutError};
use procession_engine::pool::{Board, Cancelled, Event, Lost, Standing, Task, Workbench};
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
fn a_closed_board_gives_out_what_it_has_and_then_sends_workers_home() {
    let board = Board::new().unwrap();
    let bench = Workbench::open(&board.handle()).unwrap();
    board.submit(task(0, 0), &[b"last"]).unwrap();
    board.close();
    assert!(board.submit(task(0, 1), &[]).is_err());
    assert_eq!(bench.claim(soon()).unwrap().bytes(), b"last");
    assert!(matches!(bench.claim(soon()), Err(GetError::Closed)));
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
fn a_killed_worker_loses_its_task_and_no_other() {
    let board = Board::new().unwrap();
    for index in 0..3 {
        board.submit(task(1, index), &[b"x"]).unwrap();
    }
    let victim = Worker::start(&board, hold_one);
    await_notice(&board);
    victim.kill();
    await_death(&board, &victim);
    let lost = Lost {
        job: 1,
        index: 0,
        item: 0,
        attempts: 1,
        repeated: false,
    };
    assert_eq!(board.lost_by(victim.seat), [lost]);
    assert_eq!(board.lost_by(victim.seat), []);
    let _other = Worker::start(&board, work);
    let left: BTreeSet<u64> = (0..2).map(|_| result(&board).1).collect();
    assert_eq!(left, BTreeSet::from([1, 2]));
}

#[test]
fn what_a_worker_sent_before_it_died_is_not_lost() {
    let board = Board::new().unwrap();
    for index in 0..4 {
        board.submit(task(1, index), &[b"x"]).unwrap();
    }
    let victim = Worker::start(&board, |bench| {
        for _ in 0..3 {
            bench.claim(soon()).unwrap().finish(1, &[]).unwrap();
        }
        bench.claim(soon()).unwrap().leave_unfinished();
    });
    for index in 0..3 {
        match next(&board, &[victim.seat]) {
            Event::Result { index: came, .. } => assert_eq!(came, index),
            other => panic!("{other:?}"),
        }
    }
    await_death(&board, &victim);
    let lost: Vec<u64> = board
        .lost_by(victim.seat)
        .iter()
        .map(|lost| lost.index)
        .collect();
    assert_eq!(lost, [3]);
}

#[test]
fn a_lost_task_is_tried_again_as_often_as_allowed() {
    let board = Board::new().unwrap();
    let stubborn = Task {
        retries: 1,
        ..task(1, 0)
    };
    board.submit(stubborn, &[b"again"]).unwrap();
    for attempts in 1..=2 {
        let victim = Worker::start(&board, hold_one);
        await_notice(&board);
        victim.kill();
        await_death(&board, &victim);
        let lost = board.lost_by(victim.seat)[0];
        assert_eq!(
            (lost.attempts, lost.repeated),
            (attempts, attempts == 1),
            "{lost:?}"
        );
    }
    assert_eq!(board.outstanding(), 0);
}

#[test]
fn a_waiting_task_is_taken_back_and_a_running_one_dooms_its_worker() {
    let board = Board::with_capacity(8).unwrap();
    let bench = Workbench::open(&board.handle()).unwrap();
    for index in 0..20 {
        board.submit(task(1, index), &[]).unwrap();
    }
    board.submit(task(2, 0), &[]).unwrap();
    let mut running = bench.claim(Deadline::NOW).unwrap();
    let cancelled = board.cancel(1, None);
    assert_eq!(cancelled.running, [(0, process::me())]);
    assert_eq!(cancelled.withdrawn.len(), 19);
    assert_eq!(board.cancel(1, Some(3)), Cancelled::default());
    assert_eq!(running.finish(1, &[]).unwrap(), Standing::Doomed);
    let mut other = bench.claim(Deadline::NOW).unwrap();
    assert_eq!(other.job(), 2);
    other.finish(1, &[]).unwrap();
    assert_eq!(result(&board).0, 2);
}

#[test]
fn a_task_beyond_its_time_is_reported_with_its_worker() {
    let board = Board::new().unwrap();
    let hasty = Task {
        timeout: Some(Duration::from_millis(1)),
        ..task(6, 1)
    };
    board.submit(hasty, &[]).unwrap();
    let worker = Worker::start(&board, hold_one);
    let overdue = loop {
        match next(&board, &[]) {
            Event::Notice { .. } => {}
            Event::Overdue {
                job, index, worker, ..
            } => break (job, index, worker),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(overdue, (6, 1, worker.seat));
    worker.kill();
    while !matches!(next(&board, &[worker.seat]), Event::Gone(_)) {}
    assert_eq!(board.lost_by(worker.seat), []);
    assert_eq!(board.outstanding(), 0);
}

/// Until the thread that sends its number sleeps for good.
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
    let board = Board::new().unwrap();
    let worker = Worker::start(&board, |bench| {
        let _claim = bench.claim(soon()).expect("a task");
        loop {
            std::thread::park();
        }
    });
    let (say, who) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            say.send(rustix::thread::gettid().as_raw_nonzero().get())
                .unwrap();
            loop {
                match board.next_event(Deadline::NEVER, &[]) {
                    Ok(Event::Rung | Event::Notice { .. }) => {}
                    event => break event,
                }
            }
        });
        until_asleep(&who);
        let hasty = Task {
            timeout: Some(Duration::from_millis(1)),
            ..task(6, 1)
        };
        board.submit(hasty, &[]).unwrap();
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

#[test]
fn ringing_ends_a_wait() {
    let board = Board::new().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| board.ring().unwrap());
        assert!(matches!(next(&board, &[]), Event::Rung));
    });
}

/// Workers that end at each of their steps, and what becomes of the tasks.
#[cfg(feature = "kill-points")]
mod kill_matrix {
    use procession_engine::kill::{self, Deed};

    use super::*;

    const TASKS: u64 = 6;

    fn survive(point: &'static str, deed: Deed) {
        let board = Board::new().unwrap();
        for index in 0..TASKS {
            board.submit(task(1, index), &[b"x"]).unwrap();
        }
        let victim = Worker::start(&board, |bench| {
            kill::arm(point, 2, deed);
            work(bench);
        });
        let mut ended = Vec::new();
        loop {
            match next(&board, &[victim.seat]) {
                Event::Result { index, .. } => ended.push(index),
                Event::Gone(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(ended.len() < TASKS as usize, "{point} was never met");
        ended.extend(board.lost_by(victim.seat).iter().map(|lost| lost.index));
        let _other = Worker::start(&board, work);
        while board.outstanding() > 0 {
            ended.push(result(&board).1);
        }
        ended.sort_unstable();
        assert_eq!(ended, (0..TASKS).collect::<Vec<_>>(), "{point}");
    }

    #[test]
    fn every_task_ends_once_wherever_a_worker_ends() {
        let points = kill::names()
            .iter()
            .filter(|name| name.starts_with("pool."));
        for point in points {
            for deed in [Deed::Kill, Deed::Exit, Deed::Exec] {
                survive(point, deed);
            }
        }
    }
}

/// Has tasks done one by one by whoever sees the results first, this thread or the one that watches.
fn done_by_whoever_looks(board: &Board, tasks: u64) {
    let seen = Mutex::new(BTreeSet::new());
    let file = |event: Event| match event {
        Event::Result { index, .. } => {
            assert!(seen.lock().unwrap().insert(index), "twice: {index}")
        }
        other => panic!("{other:?}"),
    };
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            loop {
                match next(board, &[]) {
                    Event::Rung => return,
                    event => file(event),
                }
            }
        });
        for index in 0..tasks {
            board.submit(task(1, index), &[&[1]]).unwrap();
            let is_done = || seen.lock().unwrap().contains(&index);
            while !is_done() {
                board.assist(is_done, file);
            }
        }
        board.ring().unwrap();
        watcher.join().unwrap();
    });
    assert_eq!(seen.lock().unwrap().len() as u64, tasks);
    assert_eq!(board.outstanding(), 0);
}

#[test]
fn whoever_waits_may_look_for_its_result_itself() {
    let board = Board::new().unwrap();
    let _worker = Worker::start(&board, work);
    done_by_whoever_looks(&board, 2_000);
}

#[test]
fn what_a_helper_finds_besides_results_reaches_the_watcher() {
    let board = Board::new().unwrap();
    let notes = 200;
    let _worker = Worker::start(&board, |bench| {
        (0..notes).for_each(|_| bench.notify(7, &[]).expect("memory"));
        work(bench);
    });
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                board.assist(|| over.load(SeqCst), |event| panic!("{event:?}"));
            }
        });
        let mut heard = 0;
        while heard < notes {
            match next(&board, &[]) {
                Event::Notice { verdict: 7, .. } => heard += 1,
                Event::Rung => {}
                other => panic!("{other:?}"),
            }
        }
        over.store(true, SeqCst);
    });
}

#[test]
fn a_death_is_told_though_others_look_for_results() {
    let board = Board::new().unwrap();
    let worker = Worker::start(&board, hold_one);
    board.submit(task(1, 0), &[&[1]]).unwrap();
    await_notice(&board);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                board.assist(|| over.load(SeqCst), |event| panic!("{event:?}"));
            }
        });
        worker.kill();
        await_death(&board, &worker);
        over.store(true, SeqCst);
    });
    let lost = board.lost_by(worker.seat);
    assert_eq!(lost.len(), 1, "{lost:?}");
}

#[test]
fn a_closed_board_keeps_its_workers_while_tasks_wait_for_room() {
    let board = Board::with_capacity(8).unwrap();
    let bench = Workbench::open(&board.handle()).unwrap();
    for index in 0..9 {
        board.submit(task(1, index), &[b"x"]).unwrap();
    }
    board.close();
    let finish_one = || bench.claim(soon()).unwrap().finish(0, &[b"y"]).unwrap();
    for _ in 0..8 {
        finish_one();
    }
    // The ninth gets room only when the submitter has seen a result.
    assert!(matches!(bench.claim(Deadline::NOW), Err(GetError::Empty)));
    assert_eq!(result(&board), (1, 0, b"y".to_vec()));
    finish_one();
    assert!(matches!(bench.claim(soon()), Err(GetError::Closed)));
}

#[test]
fn a_dismissed_worker_finishes_its_task_and_claims_no_other() {
    let board = Board::new().unwrap();
    let bench = Workbench::open(&board.handle()).unwrap();
    for index in 0..2 {
        board.submit(task(1, index), &[]).unwrap();
    }
    let mut claim = bench.claim(soon()).unwrap();
    board.dismiss(process::me());
    assert_eq!(claim.finish(0, &[]).unwrap(), Standing::Good);
    assert!(matches!(bench.claim(soon()), Err(GetError::Closed)));
    assert_eq!(board.outstanding(), 2);
}

#[test]
fn a_sleeping_worker_is_woken_to_leave() {
    let board = Board::new().unwrap();
    let stays = Worker::start(&board, work);
    let leaves = Worker::start(&board, work);
    board.dismiss(leaves.seat);
    await_death(&board, &leaves);
    for index in 0..20 {
        board.submit(task(1, index), &[b"ab"]).unwrap();
        assert_eq!(result(&board), (1, index, b"ba".to_vec()));
    }
    board.close();
    await_death(&board, &stays);
}

#[test]
fn what_runs_is_not_withdrawn() {
    let board = Board::new().unwrap();
    board.submit(task(1, 0), &[]).unwrap();
    let worker = Worker::start(&board, hold_one);
    await_notice(&board);
    board.submit(task(1, 1), &[]).unwrap();
    board.submit(task(2, 0), &[]).unwrap();
    assert_eq!(board.busy(), [worker.seat]);
    assert_eq!(board.withdraw(1), [1]);
    assert_eq!(board.outstanding(), 2);
}

#[test]
fn jobs_are_taken_back_one_by_one_and_the_others_keep_their_order() {
    let board = Board::with_capacity(8).unwrap();
    let bench = Workbench::open(&board.handle()).unwrap();
    // Half of them are in records by then, and the others wait.
    for index in 0..5 {
        for job in 1..=3 {
            board.submit(task(job, index), &[]).unwrap();
        }
    }
    let mut withdrawn = board.withdraw(2);
    withdrawn.sort_unstable();
    assert_eq!(withdrawn, [0, 1, 2, 3, 4]);
    assert_eq!(board.cancel(3, Some(4)).withdrawn, [4]);
    assert_eq!(board.withdraw(7), [0_u64; 0]);
    let left = [
        (1, 0),
        (3, 0),
        (1, 1),
        (3, 1),
        (1, 2),
        (3, 2),
        (1, 3),
        (3, 3),
        (1, 4),
    ];
    assert_eq!(board.outstanding(), left.len());
    for (job, index) in left {
        let mut claim = bench.claim(Deadline::NOW).unwrap();
        assert_eq!((claim.job(), claim.index()), (job, index));
        claim.finish(1, &[]).unwrap();
        assert_eq!(result(&board).0, job);
    }
    assert_eq!(board.outstanding(), 0);
}

#[test]
fn a_ring_that_nobody_heard_is_one_ring() {
    let board = Board::new().unwrap();
    for _ in 0..2 {
        for _ in 0..100 {
            board.ring().unwrap();
        }
        let event = board.next_event(soon(), &[]).unwrap();
        assert!(matches!(event, Event::Rung), "{event:?}");
        assert!(!board.has_messages());
    }
}

/// Forks within a task. The copy tries all that a worker may do, and its exit status says whether it was refused.
fn fork_within_a_task(bench: &Workbench) {
    let mut claim = bench.claim(soon()).expect("a task");
    // SAFETY: as in `Worker::start`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let refused = [
            matches!(
                claim.finish(1, &[b"copy"]),
                Err(PutError::Failed(Error::NotTheWorker))
            ),
            matches!(
                bench.claim(soon()),
                Err(GetError::Failed(Error::NotTheWorker))
            ),
            bench.notify(7, &[b"copy"]).is_err(),
            !claim.note_item(3, true),
            !bench.is_here(),
        ];
        drop(claim);
        // SAFETY: ends the process.
        unsafe { libc::_exit(refused.contains(&false).into()) }
    }
    let mut status = 0;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(
        claim.finish(1, &[&status.to_le_bytes()]).expect("memory"),
        Standing::Good
    );
    work(bench);
}

#[test]
fn a_copy_of_a_worker_claims_nothing_and_sends_nothing() {
    let board = Board::new().unwrap();
    for index in 0..2 {
        board.submit(task(1, index), &[b"ab"]).unwrap();
    }
    let worker = Worker::start(&board, fork_within_a_task);
    assert_eq!(result(&board), (1, 0, 0_i32.to_le_bytes().to_vec()));
    assert_eq!(result(&board), (1, 1, b"ba".to_vec()));
    board.close();
    await_death(&board, &worker);
    assert_eq!(board.outstanding(), 0);
}
