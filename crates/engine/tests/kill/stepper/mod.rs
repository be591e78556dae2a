//! The single-stepper: kills a short operation after every k-th *instruction*.
//!
//! Named steps are where the authors expected that something might go wrong. The stepper expects nothing. It prepares
//! and traces a fresh child, advances it by k instructions of the operation and kills it, for all k
//! (`PROCESSION_KILL=full`) or every seventh. After each death the survivor does the same operations, and every
//! promise of the engine is checked. In turn with that, the survivor also goes on while the child hangs between two
//! instructions. Only then the child is killed, or goes on itself.

mod handover;
mod operations;
mod tasks;
mod tracee;

use crate::case::is_whole_matrix;
use crate::common::{Footprint, SharedCells, isolated_within, set_context};
use procession_engine::failpoint::{self, Action};
use procession_engine::{ProcId, process};
use std::time::Duration;
use tracee::{Mark, Tracee};

/// A short operation on fresh objects.
pub trait Operation {
    /// Creates the objects, in the survivor.
    fn new(cells: SharedCells) -> Self;

    /// Tells the survivor the child's id.
    fn forked(&mut self, _child: ProcId) {}

    /// In the child: does everything that is done lazily, so that only the operation itself is stepped.
    fn prepare(&mut self) {}

    /// In the child: the operation that is cut off.
    fn operate(&mut self);

    /// What the child does after the operation if it stays alive.
    fn conclude(&mut self) {}

    /// What the survivor does while the child hangs in the middle.
    fn beside(&mut self) {}

    /// What the survivor does after the death.
    fn survive(&mut self);

    /// What is true after the child was reaped; `done` if the operation was finished.
    fn verify(&mut self, _done: bool) {}
}

/// In a sample: every seventh instruction, or fewer if there would be more samples than this.
const STRIDE: usize = 7;
const SAMPLES: usize = 200;
const LIMIT: Duration = Duration::from_secs(3600);

/// What happens to the child after that many instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// It is killed.
    Killed,
    /// Others go on meanwhile, then it is killed.
    Hung,
    /// Others go on meanwhile, then it goes on as well.
    Stalled,
}

const CUTS: [Cut; 3] = [Cut::Killed, Cut::Hung, Cut::Stalled];

/// Cuts the operation off at each k and checks the result.
fn sweep<O: Operation>() {
    let full = is_whole_matrix();
    let cells = SharedCells::new();
    isolated_within(LIMIT, || {
        tracee::stay_on_one_processor();
        // Recording the named steps would take more instructions than the operations do.
        failpoint::arm("nowhere", u32::MAX, Action::Kill);
        process::ensure().expect("an arena");
        // The first run creates everything that is kept for good.
        cut_off::<O>(cells, 0, Cut::Stalled);
        let length = cut_off::<O>(cells, usize::MAX, Cut::Killed);
        let stride = if full {
            1
        } else {
            (length / SAMPLES).max(STRIDE) | 1
        };
        for (round, at) in (0..=length).step_by(stride).enumerate() {
            let one = [CUTS[round % CUTS.len()]];
            for &cut in if full { &CUTS[..] } else { &one } {
                cut_off::<O>(cells, at, cut);
            }
        }
    });
}

/// Runs the operation, cut off after `at` instructions. Returns after how many it was cut off.
fn cut_off<O: Operation>(cells: SharedCells, at: usize, cut: Cut) -> usize {
    cells.clear();
    let before = Footprint::take();
    let mut operation = O::new(cells);
    let child = Tracee::fork(cells, |mark| {
        operation.prepare();
        mark(Mark::Begin);
        operation.operate();
        mark(Mark::End);
        operation.conclude();
    });
    operation.forked(child.proc_id());
    let mut steps = 0;
    let mut done = false;
    while steps < at && !done {
        done = !child.step();
        steps += 1;
    }
    set_context(&format!(
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
