//! One death: a scenario, the step at which its victim dies, and how it dies.

use crate::common::{
    Child, End, Footprint, PROMPTLY, SharedCells, isolated_within, promptly, stalled,
};
use procession_engine::failpoint::{self, Action};
use procession_engine::process;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// What the processes of a scenario do. A new one is made in a fresh arena for every case.
pub trait Scenario {
    /// Whether a second process runs from before the death until [`is_over`].
    const BYSTANDER: bool = false;

    /// At which visits of a step the action happens: the first, when much is done for the first time, the second, and
    /// one when all caches are warm.
    const VISITS: &[u32] = &[1, 2, 4];

    /// What the process does that dies on the way. Ends by itself if it survives.
    fn victim(&mut self, cells: SharedCells);

    /// What the second process does.
    fn bystander(&mut self, _cells: SharedCells) {}

    /// What must go on while the victim is only stopped.
    fn while_stopped(&mut self, _cells: SharedCells) {}

    /// What must go on after the death, before the victim is reaped.
    fn survive(&mut self, cells: SharedCells);

    /// What must be true after the victim was reaped, before everything is dropped.
    fn verify(&mut self, _cells: SharedCells) {}
}

/// The shared cells that the cases use. Scenarios use those from [`FREE_CELLS`] on.
const FINISHED: usize = 1;
const OVER: usize = 2;
const VISITED: usize = 8;
/// The victim's owner id.
pub const VICTIM_ID: usize = 4;
pub const FREE_CELLS: usize = 512;

/// Whether the scenario is over, so that the bystander may end.
pub fn is_over(cells: SharedCells) -> bool {
    cells.read(OVER) != 0
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The victim died or stopped at the step, and all promises were kept.
    Hit,
    /// The victim finished without coming to that step that often.
    NotReached,
}

const LIMIT: Duration = Duration::from_secs(30);

/// Runs one case in a process of its own. Panics, naming the case, if a promise is broken.
pub fn run_case<P: Scenario>(
    make: fn(SharedCells) -> P,
    step: &'static str,
    nth: u32,
    action: Action,
) -> Outcome {
    let cells = SharedCells::new();
    let hit = cells.cell(VISITED);
    isolated_within(LIMIT, || {
        process::ensure().expect("an arena");
        let before = Footprint::take();
        let mut scenario = make(cells);
        let bystander = P::BYSTANDER.then(|| Child::fork(|| scenario.bystander(cells)));
        let victim = Child::fork(|| {
            failpoint::arm(step, nth, action);
            scenario.victim(cells);
            failpoint::disarm();
            cells.write(FINISHED, 1);
        });
        cells.write(VICTIM_ID, id_of(&victim));
        let end = victim.ended_or_stopped();
        let finished = cells.read(FINISHED) == 1;
        if !finished {
            hit.store(1, SeqCst);
        }
        match (end, action, finished) {
            (End::Killed(libc::SIGKILL), Action::Kill, false)
            | (End::Exited(0), Action::Exit | Action::Exec, false)
            | (End::Exited(0), _, true) => {}
            (End::Stopped(_), Action::Stop, false) => {
                scenario.while_stopped(cells);
                victim.resume();
                assert_eq!(
                    victim.ended(),
                    End::Exited(0),
                    "it did not go on after SIGCONT"
                );
            }
            other => panic!("the victim should have met {action:?}: {other:?}"),
        }
        scenario.survive(cells);
        victim.join();
        cells.write(OVER, 1);
        if let Some(bystander) = bystander {
            bystander.succeed();
        }
        scenario.verify(cells);
        drop(scenario);
        before.assert_unchanged();
    });
    if hit.load(SeqCst) == 1 {
        Outcome::Hit
    } else {
        Outcome::NotReached
    }
}

/// Forks a process that runs `body` and stops at the `nth` visit of a step.
#[track_caller]
pub fn stopped_at(step: &'static str, nth: u32, body: impl FnOnce()) -> Child {
    let child = Child::fork(|| {
        failpoint::arm(step, nth, Action::Stop);
        body();
    });
    assert!(matches!(child.ended_or_stopped(), End::Stopped(_)));
    child
}

fn id_of(child: &Child) -> u64 {
    child.proc_id().map_or(0, |slot| slot.as_u32().into())
}

/// Runs it. Runs it again if it failed while the machine stood still: no process could be prompt then.
fn on_a_running_machine<T>(run: impl Fn() -> T) -> std::thread::Result<T> {
    let run = || catch_unwind(AssertUnwindSafe(&run));
    for _ in 0..2 {
        let outcome = run();
        if outcome.is_ok() || stalled() < PROMPTLY / 4 {
            return outcome;
        }
    }
    run()
}

/// The steps that the victim of a scenario passes.
pub fn steps_of<P: Scenario>(make: fn(SharedCells) -> P) -> Vec<&'static str> {
    on_a_running_machine(|| steps_passed(make)).unwrap_or_else(|why| resume_unwind(why))
}

fn steps_passed<P: Scenario>(make: fn(SharedCells) -> P) -> Vec<&'static str> {
    let cells = SharedCells::new();
    isolated_within(LIMIT, || {
        // A failpoint that is armed but never reached keeps this process's steps out of the child's record.
        failpoint::arm("nowhere", u32::MAX, Action::Kill);
        process::ensure().expect("an arena");
        let mut scenario = make(cells);
        let bystander = P::BYSTANDER.then(|| Child::fork(|| scenario.bystander(cells)));
        let victim = Child::fork(|| {
            failpoint::disarm();
            scenario.victim(cells);
            for name in failpoint::visited() {
                let at = failpoint::names().iter().position(|&listed| listed == name);
                cells.write(VISITED + at.expect("a listed step"), 1);
            }
        });
        cells.write(VICTIM_ID, id_of(&victim));
        assert_eq!(victim.ended(), End::Exited(0));
        scenario.survive(cells);
        cells.write(OVER, 1);
        if let Some(bystander) = bystander {
            bystander.succeed();
        }
    });
    let passed = |&(at, _): &(usize, &&str)| cells.read(VISITED + at) == 1;
    failpoint::names()
        .iter()
        .enumerate()
        .filter(passed)
        .map(|(_, &name)| name)
        .collect()
}

/// The cell in which the bystander counts its rounds.
const ROUNDS: usize = 3;

/// Called when the bystander has finished a round.
pub fn round_done(cells: SharedCells) {
    cells.count(ROUNDS);
}

/// Fails unless the bystander does a few more rounds at once.
#[track_caller]
pub fn assert_bystander_goes_on(cells: SharedCells) {
    assert_bystander_goes_on_after(cells, || ());
}

/// Fails unless the bystander does a few more rounds at once, after `nudge`.
#[track_caller]
pub fn assert_bystander_goes_on_after(cells: SharedCells, nudge: impl FnOnce()) {
    let limit = promptly();
    let goal = cells.read(ROUNDS) + 3;
    nudge();
    while cells.read(ROUNDS) < goal {
        assert!(!limit.is_past(), "the bystander stands still");
        std::thread::yield_now();
    }
}

/// Whether the whole matrix was requested: a sample of it takes minutes, the whole an hour.
pub fn is_whole_matrix() -> bool {
    std::env::var_os("PROCESSION_KILL").is_some_and(|what| what == "full")
}

/// What happens to the victim at a step. In a sample, the kill at each step, and one of the other actions.
fn actions_at(step: usize) -> Vec<Action> {
    let others = [Action::Exit, Action::Exec, Action::Stop];
    let chosen = match is_whole_matrix() {
        true => &others[..],
        false => &others[step % 3..][..1],
    };
    std::iter::once(Action::Kill)
        .chain(chosen.iter().copied())
        .collect()
}

/// Runs every case of a scenario: each step its victim passes, at the first few visits, with every action. Returns
/// the steps that were reached.
pub fn run_all_cases<P: Scenario>(make: fn(SharedCells) -> P) -> Vec<&'static str> {
    let steps = steps_of(make);
    assert!(!steps.is_empty(), "the victim passes no step");
    let mut failures = Vec::new();
    let mut hit = 0;
    for (at, &step) in steps.iter().enumerate() {
        for action in actions_at(at) {
            for &nth in P::VISITS {
                match on_a_running_machine(|| run_case(make, step, nth, action)) {
                    Ok(Outcome::Hit) => hit += 1,
                    // How often the victim comes by may depend on which other processes are there just then.
                    Ok(Outcome::NotReached) => break,
                    Err(why) => {
                        let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
                        failures.push(format!("{action:?} at visit {nth} of {step}:\n{why}"));
                    }
                }
            }
        }
    }
    assert!(
        hit >= steps.len(),
        "only {hit} deaths at {} steps: something is wrong",
        steps.len()
    );
    let failed = failures.len();
    assert!(
        failures.is_empty(),
        "{failed} deaths went badly:\n{}",
        failures.join("\n")
    );
    steps
}
