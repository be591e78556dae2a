//! An object changes hands while another process looks whether anybody holds it.
//!
//! The holders are a set of cells that cannot be read at once. A process that lets go reads them one
//! after the other; here, between any two of its instructions, the last holder makes another process a
//! holder and lets go itself. The object must never be without a holder in anybody's eyes, and must be
//! there after the reader was killed in the middle.

use super::tracee::{Mark, Tracee, stay_on_one_processor};
use crate::common::{Child, Footprint, Slate, isolated_within, note};
use procession_engine::failpoint::{self, Action};
use procession_engine::process;
use procession_engine::value::SharedBytes;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(900);
const FLIP: usize = 8;
const FLIPPED: usize = 9;
/// So many instructions after the change, what the reader saw before it has had its effect.
const AFTERMATH: usize = 250;

#[test]
fn an_object_that_changes_hands_is_never_lost() {
    let slate = Slate::new();
    isolated_within(LIMIT, || {
        stay_on_one_processor();
        failpoint::arm("nowhere", u32::MAX, Action::Kill);
        process::ensure().expect("an arena");
        change_hands(slate, usize::MAX);
        let length = change_hands(slate, usize::MAX);
        // What the reader sees of one cell takes it a few instructions.
        let stride = if super::is_whole_matrix() { 1 } else { 3 };
        for at in (0..length).step_by(stride) {
            change_hands(slate, at);
        }
    });
}

/// Lets a child let go, and the object change hands after `at` of its instructions. Says how many
/// there were.
fn change_hands(slate: Slate, at: usize) -> usize {
    slate.clear();
    let before = Footprint::take();
    let object = SharedBytes::new(8).expect("memory");
    let handle = object.handle();
    let me = process::me();
    let mut object = Some(object);
    let holder = Child::fork(|| {
        slate.until(FLIP, 1);
        process::hold_for(me, &handle).expect("it is held here");
        object = None;
        slate.write(FLIPPED, 1);
    });
    let reader = Tracee::fork(slate, |mark| {
        mark(Mark::Begin);
        object = None;
        mark(Mark::End);
    });
    drop(object);
    let mut steps = 0;
    while steps < at && reader.step() {
        steps += 1;
    }
    slate.write(FLIP, 1);
    slate.until(FLIPPED, 1);
    holder.succeed();
    note(&format!(
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
