//! Workers that are sent home.

use procession_engine::error::GetError;
use procession_engine::pool::{Board, Standing, Workbench};
use procession_engine::{Deadline, process};

use crate::{Worker, await_death, result, soon, task, work};

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
