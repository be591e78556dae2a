//! Workers that end in the middle of their tasks, and copies of them.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use procession_engine::error::{Error, GetError, PutError};
use procession_engine::pool::{Board, Event, Lost, Standing, Task, Workbench};

use crate::{Worker, await_death, await_notice, hold_one, next, result, soon, task, work};

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
