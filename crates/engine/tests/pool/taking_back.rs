//! Tasks that are taken back.

use procession_engine::pool::{Board, Cancelled, Standing, Workbench};
use procession_engine::{Deadline, process};

use crate::{Worker, await_notice, hold_one, result, task};

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
