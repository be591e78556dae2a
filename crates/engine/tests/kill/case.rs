//! One death: a scenario, the step at which its victim dies, and how.

use crate::common::{Child, End, Footprint, PROMPTLY, Slate, isolated_within, promptly, stalled};
use procession_engine::failpoint::{self, Action};
use procession_engine::process;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// What a scenario's processes do. A new one is made in a fresh arena for every case.
pub trait Play {
    /// Whether a second process plays from before the death until the [`curtain`] falls.
    const BYSTANDER: bool = false;

    /// The how-manieth visits of a step are struck: the first, when much is done for the first time,
    /// the second, and one when all is warm.
    const VISITS: &[u32] = &[1, 2, 4];

    /// What the process does that dies on the way. Ends by itself if it survives.
    fn victim(&mut self, slate: Slate);

    /// What the second process does.
    fn bystander(&mut self, _slate: Slate) {}

    /// What must go on while the victim is merely stopped.
    fn while_stopped(&mut self, _slate: Slate) {}

    /// What must go on after the death, before anybody reaped the victim.
    fn survive(&mut self, slate: Slate);

    /// What must be true after the burial, before all is dropped.
    fn verify(&mut self, _slate: Slate) {}
}

/// Cells of the slate that the cases use; plays have those from [`FREE_CELLS`] on.
const FINISHED: usize = 1;
const CURTAIN: usize = 2;
const VISITED: usize = 8;
/// Where the victim sits.
pub const VICTIM_SEAT: usize = 4;
pub const FREE_CELLS: usize = 512;

/// Whether the bystander may go home.
pub fn curtain(slate: Slate) -> bool {
    slate.read(CURTAIN) != 0
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The victim died or stopped at the step, and all the promises were kept.
    Struck,
    /// The victim finished without coming to that step so often.
    NotReached,
}

const LIMIT: Duration = Duration::from_secs(30);

/// Plays one case in a process of its own; panics, naming the case, if a promise is broken.
pub fn strike<P: Play>(
    make: fn(Slate) -> P,
    step: &'static str,
    nth: u32,
    action: Action,
) -> Outcome {
    let slate = Slate::new();
    let struck = slate.cell(VISITED);
    isolated_within(LIMIT, || {
        process::ensure().expect("an arena");
        let before = Footprint::take();
        let mut play = make(slate);
        let bystander = P::BYSTANDER.then(|| Child::fork(|| play.bystander(slate)));
        let victim = Child::fork(|| {
            failpoint::arm(step, nth, action);
            play.victim(slate);
            failpoint::disarm();
            slate.write(FINISHED, 1);
        });
        slate.write(VICTIM_SEAT, seat_of(&victim));
        let end = victim.ended_or_stopped();
        let finished = slate.read(FINISHED) == 1;
        if !finished {
            struck.store(1, SeqCst);
        }
        match (end, action, finished) {
            (End::Killed(libc::SIGKILL), Action::Kill, false)
            | (End::Exited(0), Action::Exit | Action::Exec, false)
            | (End::Exited(0), _, true) => {}
            (End::Stopped(_), Action::Stop, false) => {
                play.while_stopped(slate);
                victim.go_on();
                assert_eq!(
                    victim.ended(),
                    End::Exited(0),
                    "it did not go on after SIGCONT"
                );
            }
            other => panic!("the victim should have struck {action:?}: {other:?}"),
        }
        play.survive(slate);
        victim.join();
        slate.write(CURTAIN, 1);
        if let Some(bystander) = bystander {
            bystander.succeed();
        }
        play.verify(slate);
        drop(play);
        before.assert_unchanged();
    });
    if struck.load(SeqCst) == 1 {
        Outcome::Struck
    } else {
        Outcome::NotReached
    }
}

/// A process that is stopped at the `nth` visit of a step of what it does.
#[track_caller]
pub fn stopped_at(step: &'static str, nth: u32, body: impl FnOnce()) -> Child {
    let child = Child::fork(|| {
        failpoint::arm(step, nth, Action::Stop);
        body();
    });
    assert!(matches!(child.ended_or_stopped(), End::Stopped(_)));
    child
}

fn seat_of(child: &Child) -> u64 {
    child.slot().map_or(0, |slot| slot.as_u32().into())
}

/// Plays; again if it failed while the machine stood still, when nobody could be prompt.
fn on_a_running_machine<T>(play: impl Fn() -> T) -> std::thread::Result<T> {
    let play = || catch_unwind(AssertUnwindSafe(&play));
    for _ in 0..2 {
        let played = play();
        if played.is_ok() || stalled() < PROMPTLY / 4 {
            return played;
        }
    }
    play()
}

/// The steps that the victim of a scenario passes.
pub fn steps_of<P: Play>(make: fn(Slate) -> P) -> Vec<&'static str> {
    on_a_running_machine(|| steps_passed(make)).unwrap_or_else(|why| resume_unwind(why))
}

fn steps_passed<P: Play>(make: fn(Slate) -> P) -> Vec<&'static str> {
    let slate = Slate::new();
    isolated_within(LIMIT, || {
        // An arming that never strikes keeps what this process passes out of the child's record.
        failpoint::arm("nowhere", u32::MAX, Action::Kill);
        process::ensure().expect("an arena");
        let mut play = make(slate);
        let bystander = P::BYSTANDER.then(|| Child::fork(|| play.bystander(slate)));
        let victim = Child::fork(|| {
            failpoint::disarm();
            play.victim(slate);
            for name in failpoint::visited() {
                let at = failpoint::names().iter().position(|&listed| listed == name);
                slate.write(VISITED + at.expect("a listed step"), 1);
            }
        });
        slate.write(VICTIM_SEAT, seat_of(&victim));
        assert_eq!(victim.ended(), End::Exited(0));
        play.survive(slate);
        slate.write(CURTAIN, 1);
        if let Some(bystander) = bystander {
            bystander.succeed();
        }
    });
    let passed = |&(at, _): &(usize, &&str)| slate.read(VISITED + at) == 1;
    failpoint::names()
        .iter()
        .enumerate()
        .filter(passed)
        .map(|(_, &name)| name)
        .collect()
}

/// Cells in which the bystander counts its turns.
const TURNS: usize = 3;

/// The bystander did another turn.
pub fn turned(slate: Slate) {
    slate.count(TURNS);
}

/// Fails unless the bystander does a few more turns at once.
#[track_caller]
pub fn assert_bystander_goes_on(slate: Slate) {
    assert_bystander_goes_on_after(slate, || ());
}

/// Fails unless the bystander does a few more turns at once, given that nudge.
#[track_caller]
pub fn assert_bystander_goes_on_after(slate: Slate, nudge: impl FnOnce()) {
    let limit = promptly();
    let goal = slate.read(TURNS) + 3;
    nudge();
    while slate.read(TURNS) < goal {
        assert!(!limit.is_past(), "the bystander stands still");
        std::thread::yield_now();
    }
}

/// Whether the whole matrix was asked for: a sample of it takes minutes, the whole an hour.
pub fn is_whole_matrix() -> bool {
    std::env::var_os("PROCESSION_KILL").is_some_and(|what| what == "full")
}

/// What happens to the victim at a step. In a sample it is killed at each, and one of the other things happens.
fn deeds_at(step: usize) -> Vec<Action> {
    let others = [Action::Exit, Action::Exec, Action::Stop];
    let chosen = match is_whole_matrix() {
        true => &others[..],
        false => &others[step % 3..][..1],
    };
    std::iter::once(Action::Kill)
        .chain(chosen.iter().copied())
        .collect()
}

/// Plays every death a scenario can die: each step its victim passes, at the first few visits, in
/// every way. Says which steps were struck.
pub fn strike_everywhere<P: Play>(make: fn(Slate) -> P) -> Vec<&'static str> {
    let steps = steps_of(make);
    assert!(!steps.is_empty(), "the victim passes no step");
    let mut failures = Vec::new();
    let mut struck = 0;
    for (at, &step) in steps.iter().enumerate() {
        for action in deeds_at(at) {
            for &nth in P::VISITS {
                match on_a_running_machine(|| strike(make, step, nth, action)) {
                    Ok(Outcome::Struck) => struck += 1,
                    // How often it comes by may depend on who else is there just then.
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
        struck >= steps.len(),
        "only {struck} deaths at {} steps: something is wrong",
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
