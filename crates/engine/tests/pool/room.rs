//! How much a submitter that can wait has under way.

use procession_engine::Deadline;
use procession_engine::pool::{Board, Room, Task, Workbench};

use crate::{result, soon, task};

const MIB: u64 = 1 << 20;

fn heavy(job: u64, index: u64, weight: u64) -> Task {
    Task {
        weight,
        ..task(job, index)
    }
}

fn has_room(board: &Board, room: Room) -> bool {
    board.wait_for_room(room, Deadline::NOW)
}

#[test]
fn tasks_weigh_until_they_end_however_they_do() {
    let board = Board::with_capacity(8).unwrap();
    let bench = Workbench::open(&board.handle()).unwrap();
    for index in 0..10 {
        let all = board.submit(heavy(1, index, MIB), &[]).unwrap();
        assert_eq!(all, (index + 1) * MIB);
    }
    bench.claim(soon()).unwrap().finish(0, &[]).unwrap();
    assert_eq!(board.weight(), 10 * MIB, "nobody has seen the result");
    result(&board);
    assert_eq!(board.weight(), 9 * MIB);
    let claim = bench.claim(soon()).unwrap();
    let cancelled = board.cancel(1, Some(9));
    assert_eq!(cancelled.withdrawn, [9], "it waited outside");
    assert_eq!(board.weight(), 8 * MIB);
    board.submit(heavy(2, 0, 5 * MIB), &[]).unwrap();
    board.withdraw(1);
    assert_eq!(board.weight(), (1 + 5) * MIB, "one is running");
    drop(claim);
    board.withdraw_all();
    let left = board.weight();
    board.submit(heavy(3, 0, MIB), &[]).unwrap();
    assert_eq!(board.weight(), left + MIB);
}

#[test]
fn what_cannot_be_submitted_weighs_nothing() {
    let board = Board::new().unwrap();
    board.close();
    board.submit(heavy(1, 0, MIB), &[]).unwrap_err();
    assert_eq!(board.weight(), 0);
}

#[test]
fn a_submitter_waits_until_there_is_room_again() {
    let board = Board::new().unwrap();
    let bench = Workbench::open(&board.handle()).unwrap();
    let room = Room::for_workers(1);
    let mut submitted = 0;
    while has_room(&board, room) {
        board.submit(heavy(1, submitted, 8 * MIB), &[]).unwrap();
        submitted += 1;
    }
    assert_eq!(submitted, 4, "two for the worker, and two");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| board.wait_for_room(room, soon()));
        bench.claim(soon()).unwrap().finish(0, &[]).unwrap();
        result(&board);
        assert!(waits.join().unwrap());
    });
    board.submit(heavy(1, 4, 8 * MIB), &[]).unwrap();
    assert!(!has_room(&board, room));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| board.wait_for_room(room, soon()));
        board.withdraw(1);
        assert!(waits.join().unwrap());
    });
}
