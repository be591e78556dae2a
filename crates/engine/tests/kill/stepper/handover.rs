//! An object changes hands while another process checks whether it still has a holder.
//!
//! The holders are a set of cells that cannot be read at once. A process that releases its hold reads them one after
//! the other. Here, between any two of its instructions, the last holder makes another process a holder and releases
//! its own hold. No process may ever see the object without a holder. The object must also survive if the reader is
//! killed in the middle.

use super::tracee::{Mark, Tracee, stay_on_one_processor};
use crate::common::{Child, Footprint, SharedCells, isolated_within, set_context};
use procession_engine::failpoint::{self, Action};
use procession_engine::process;
use procession_engine::value::SharedBytes;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(900);
const FLIP: usize = 8;
const FLIPPED: usize = 9;
/// Within this many instructions after the change, what the reader saw before it takes effect.
const AFTERMATH: usize = 250;

#[test]
fn an_object_that_changes_hands_is_never_lost() {
    let cells = SharedCells::new();
    isolated_within(LIMIT, || {
        stay_on_one_processor();
        failpoint::arm("nowhere", u32::MAX, Action::Kill);
        process::ensure().expect("an arena");
        change_hands(cells, usize::MAX);
        let length = change_hands(cells, usize::MAX);
        // The reader takes a few instructions for each cell.
        let stride = if super::is_whole_matrix() { 1 } else { 3 };
        for at in (0..length).step_by(stride) {
            change_hands(cells, at);
        }
    });
}

/// Lets a child release its hold, and the object change hands after `at` of its instructions. Returns how many there
/// were.
fn change_hands(cells: SharedCells, at: usize) -> usize {
    cells.clear();
    let before = Footprint::take();
    let object = SharedBytes::new(8).expect("memory");
    let handle = object.handle();
    let me = process::me();
    let mut object = Some(object);
    let holder = Child::fork(|| {
        cells.until(FLIP, 1);
        process::hold_for(me, &handle).expect("it is held here");
        object = None;
        cells.write(FLIPPED, 1);
    });
    let reader = Tracee::fork(cells, |mark| {
        mark(Mark::Begin);
        object = None;
        mark(Mark::End);
    });
    drop(object);
    let mut steps = 0;
    while steps < at && reader.step() {
        steps += 1;
    }
    cells.write(FLIP, 1);
    cells.until(FLIPPED, 1);
    holder.succeed();
    set_context(&format!(
        "handed over after {steps} instructions, at {}",
        reader.place()
    ));
    let kept = SharedBytes::open(&handle).expect("it was handed to this process");
    for _ in 0..AFTERMATH {
        let there = SharedBytes::open(&handle).is_ok();
        assert!(
            there,
            "it is gone in the eyes of its holder, while the other is at {}",
            reader.place()
        );
        if steps >= at && !reader.step() {
            break;
        }
    }
    reader.kill();
    reader.reap();
    assert!(
        SharedBytes::open(&handle).is_ok(),
        "it was freed though it is held"
    );
    drop(kept);
    before.assert_unchanged();
    steps
}
