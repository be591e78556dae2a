//! The single-stepper: kills a short operation after every k-th *instruction*.
//!
//! Named steps are where the authors thought that something might go wrong. Here nobody thinks: a
//! fresh child is prepared, traced, advanced by k instructions of the operation and killed, for all k
//! (`PROCESSION_KILL=full`) or every seventh. After each death the survivor does the same operations, and all
//! that the engine promises is checked. In turn with that, the survivor also goes on while the child
//! hangs between its two instructions, and the child is killed only then or goes on itself.

mod handover;
mod operations;
mod tasks;
mod tracee;

use crate::case::is_whole_matrix;
use crate::common::{Footprint, Slate, isolated_within, note};
use procession_engine::failpoint::{self, Action};
use procession_engine::{ProcId, process};
use std::time::Duration;
use tracee::{Mark, Tracee};

/// A short operation on fresh objects.
pub trait Operation {
    /// Makes the objects, in the survivor.
    fn new(slate: Slate) -> Self;

    /// In the survivor: which process the child is.
    fn forked(&mut self, _child: ProcId) {}

    /// In the child: does once what is done lazily, so that the operation is itself only.
    fn prepare(&mut self) {}

    /// The operation that is cut off, in the child.
    fn operate(&mut self);

    /// What the child does after the operation if it is let live.
    fn conclude(&mut self) {}

    /// What the survivor does while the child hangs in the middle.
    fn beside(&mut self) {}

    /// What the survivor does after the death.
    fn survive(&mut self);

    /// What is true after the burial; `done` if the operation had been finished.
    fn verify(&mut self, _done: bool) {}
}

/// Otherwise: every seventh instruction, but no more of them than that.
const STRIDE: usize = 7;
const SAMPLES: usize = 200;
const LIMIT: Duration = Duration::from_secs(3600);

/// What happens to the child after so many instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// It is killed.
    Killed,
    /// Others go on beside it, then it is killed.
    Hung,
    /// Others go on beside it, then it goes on as well.
    Stalled,
}

const CUTS: [Cut; 3] = [Cut::Killed, Cut::Hung, Cut::Stalled];

/// Kills the operation at each k and checks what is left.
fn sweep<O: Operation>() {
    let full = is_whole_matrix();
    let slate = Slate::new();
    isolated_within(LIMIT, || {
        tracee::stay_on_one_processor();
        // Recording the named steps takes more instructions than the operations do.
        failpoint::arm("nowhere", u32::MAX, Action::Kill);
        process::ensure().expect("an arena");
        // The first time round, everything is made that is kept for good.
        cut_off::<O>(slate, 0, Cut::Stalled);
        let length = cut_off::<O>(slate, usize::MAX, Cut::Killed);
        let stride = if full {
            1
        } else {
            (length / SAMPLES).max(STRIDE) | 1
        };
        for (round, at) in (0..=length).step_by(stride).enumerate() {
            let one = [CUTS[round % CUTS.len()]];
            for &cut in if full { &CUTS[..] } else { &one } {
                cut_off::<O>(slate, at, cut);
            }
        }
    });
}

/// Plays the operation, cut off after `at` instructions. Says after how many it was.
fn cut_off<O: Operation>(slate: Slate, at: usize, cut: Cut) -> usize {
    slate.clear();
    let before = Footprint::take();
    let mut operation = O::new(slate);
    let child = Tracee::fork(slate, |mark| {
        operation.prepare();
        mark(Mark::Begin);
        operation.operate();
        mark(Mark::End);
        operation.conclude();
    });
    operation.forked(child.slot());
    let mut steps = 0;
    let mut done = false;
    while steps < at && !done {
        done = !child.step();
        steps += 1;
    }
    note(&format!(
        "{cut:?} after {steps} instructions, at {}",
        child.place()
    ));
    if cut != Cut::Killed {
        operation.beside();
    }
    if cut == Cut::Stalled {
        child.finish();
        done = true;
        operation.survive();
    } else {
        child.kill();
        operation.survive();
        child.reap();
    }
    operation.verify(done);
    drop(operation);
    before.assert_unchanged();
    steps
}

macro_rules! swept {
    ($($test:ident: $operation:path;)*) => {
        $(
            #[test]
            fn $test() {
                sweep::<$operation>();
            }
        )*
    };
}

swept! {
    put_is_safe_at_every_instruction: operations::PutSmall;
    put_of_a_large_message_is_safe_at_every_instruction: operations::PutLarge;
    put_into_the_next_chunk_is_safe_at_every_instruction: operations::PutOver;
    get_is_safe_at_every_instruction: operations::GetSmall;
    get_of_a_large_message_is_safe_at_every_instruction: operations::GetLarge;
    get_from_the_next_chunk_is_safe_at_every_instruction: operations::GetOver;
    acquire_is_safe_at_every_instruction: operations::Acquire;
    release_is_safe_at_every_instruction: operations::Release;
    alloc_is_safe_at_every_instruction: operations::Alloc;
    free_is_safe_at_every_instruction: operations::Free;
    claim_of_a_task_is_safe_at_every_instruction: tasks::ClaimTask;
    result_of_a_task_is_safe_at_every_instruction: tasks::FinishSmall;
    large_result_of_a_task_is_safe_at_every_instruction: tasks::FinishLarge;
}
