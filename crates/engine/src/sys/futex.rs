//! Sleeping on words of shared memory.
//!
//! If a waker is killed between its store and its `futex` call, the wake-up is lost. That costs the sleeper one nap of
//! [`NAP`], and never makes it sleep for ever. A sleeper whose first nap ended without an event may sleep for long
//! ([`wait_long`]) on words that also report deaths. If a waker is stopped between the two steps, such a sleeper
//! notices after the [`longest`] sleep.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, WaitvFlags};
use rustix::time::{ClockId, Timespec};

use crate::deadline::Deadline;
use crate::sys::signals;

/// The longest time a sleeper stays asleep before it checks again.
pub(crate) const NAP: Duration = Duration::from_millis(400);

/// The longest sleep of a sleeper that is told of deaths.
#[cfg(not(feature = "kill-points"))]
const LONGEST: Duration = Duration::from_secs(10);

/// The nap of a sleeper that watches more words than the kernel lets it wait for.
pub(crate) const SHORT_NAP: Duration = Duration::from_millis(40);

/// The most words that one `futex_waitv` takes.
pub(crate) const WAITV_MAX: usize = 128;

/// Why a sleep ended. After `Stirred`, the sleeper checks its word again: it may have been woken, the word may have
/// changed before it slept, or the deadline may have passed. `Idle` means that a whole nap passed and nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slept {
    Stirred,
    Idle,
    Interrupted,
}

/// Whether `futex_waitv` is missing (it needs Linux 5.16, and a filter may refuse it). Miri does not have it.
static NO_WAITV: AtomicBool = AtomicBool::new(cfg!(miri));

fn timespec(at: Deadline) -> Timespec {
    let ns = at.as_nanos();
    Timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as i64,
    }
}

/// `on_timeout`: what the end of the time means.
fn outcome(result: Result<(), Errno>, on_timeout: Slept) -> Slept {
    match result {
        Err(Errno::INTR) => Slept::Interrupted,
        Err(Errno::TIMEDOUT) => on_timeout,
        _ => Slept::Stirred,
    }
}

/// The longest sleep of a sleeper that is told of deaths. Tests that check the telling set it.
pub(crate) fn longest() -> Duration {
    #[cfg(not(feature = "kill-points"))]
    return LONGEST;
    #[cfg(feature = "kill-points")]
    return crate::failpoint::longest_sleep();
}

/// When a nap ends, and what it means when it ends by time.
fn end_of_nap(deadline: Deadline, length: Duration) -> (Deadline, Slept) {
    let end = Deadline::after(length);
    match end < deadline {
        true => (end, Slept::Idle),
        false => (deadline, Slept::Stirred),
    }
}

/// Sleeps while `word` holds `expected`, until a wake, `deadline`, or the end of a nap.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Deadline) -> Slept {
    nap(word, expected, end_of_nap(deadline, NAP))
}

fn nap(word: &AtomicU32, expected: u32, (until, on_timeout): (Deadline, Slept)) -> Slept {
    let until = timespec(until);
    if signals::is_attentive() {
        let slept = attentive_nap(word, expected, &until);
        return slept.map_or(Slept::Interrupted, |slept| outcome(slept, on_timeout));
    }
    let any = std::num::NonZeroU32::MAX;
    let slept = futex::wait_bitset(word, Flags::empty(), expected, Some(&until), any);
    outcome(slept, on_timeout)
}

fn attentive_nap(word: &AtomicU32, expected: u32, until: &Timespec) -> Option<Result<(), Errno>> {
    let operation = libc::FUTEX_WAIT_BITSET;
    let (nobody, any) = (ptr::null::<u32>(), u32::MAX);
    signals::sleep(Some(word), (until.tv_sec, until.tv_nsec), |until| {
        let call = libc::SYS_futex;
        // SAFETY: the kernel reads the word and the time, both of which outlive the call; the rest is numbers.
        result_of(unsafe { libc::syscall(call, word, operation, expected, until, nobody, any) })
    })
}

fn attentive_waitv(
    words: &[futex::Wait],
    first: &AtomicU32,
    until: &Timespec,
) -> Result<(), Errno> {
    let flags = 0_u32;
    let slept = signals::sleep(Some(first), (until.tv_sec, until.tv_nsec), |until| {
        let (call, clock) = (libc::SYS_futex_waitv, libc::CLOCK_MONOTONIC);
        let (at, count) = (words.as_ptr(), words.len() as u32);
        // SAFETY: the kernel reads the list, the words it names and the time, all of which outlive the call.
        result_of(unsafe { libc::syscall(call, at, count, flags, until, clock) })
    });
    slept.unwrap_or(Err(Errno::INTR))
}

fn result_of(returned: libc::c_long) -> Result<(), Errno> {
    match returned {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
        _ => Ok(()),
    }
}

/// Sleeps while every word of `words` holds the value beside it.
///
/// Words beyond the kernel's limit are checked after a shorter nap.
pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], deadline: Deadline) -> Slept {
    match words {
        [] => return Slept::Stirred,
        [(word, expected)] => return wait(word, *expected, deadline),
        _ => {}
    }
    if !can_wait_for_several() {
        return nap(words[0].0, words[0].1, end_of_nap(deadline, SHORT_NAP));
    }
    let length = if words.len() > WAITV_MAX {
        SHORT_NAP
    } else {
        NAP
    };
    let (until, on_timeout) = end_of_nap(deadline, length);
    match waitv(words, until) {
        Some(result) => outcome(result, on_timeout),
        None => Slept::Stirred,
    }
}

/// Whether the kernel can wait for several words, as far as is known.
pub(crate) fn can_wait_for_several() -> bool {
    !NO_WAITV.load(Ordering::Relaxed)
}

/// Sleeps while every word of `words` (at most [`WAITV_MAX`]) holds the value beside it: until `deadline`, and no
/// longer than `longest`. Where signals end sleeps, the count of signals is one more word. `None` when the kernel
/// cannot do that.
pub(crate) fn wait_long(
    words: &[(&AtomicU32, u32)],
    deadline: Deadline,
    longest: Duration,
) -> Option<Slept> {
    if !can_wait_for_several() {
        return None;
    }
    let (until, on_timeout) = end_of_nap(deadline, longest);
    let slept = match signals::counted() {
        Some(signals) => waitv(&[&[signals], words].concat(), until),
        None => waitv(words, until),
    };
    let slept = outcome(slept?, on_timeout);
    let came = signals::counted().is_some_and(|(count, seen)| count.load(Ordering::SeqCst) != seen);
    Some(if came { Slept::Interrupted } else { slept })
}

/// One call for several words; `None` when the kernel does not have it.
fn waitv(words: &[(&AtomicU32, u32)], until: Deadline) -> Option<Result<(), Errno>> {
    let waiters: Vec<futex::Wait> = words
        .iter()
        .take(WAITV_MAX)
        .map(|(word, expected)| {
            let mut wait = futex::Wait::new();
            wait.val = u64::from(*expected);
            wait.uaddr = futex::WaitPtr::new(word.as_ptr().cast());
            wait.flags = futex::WaitFlags::SIZE_U32;
            wait
        })
        .collect();
    let time = timespec(until);
    let result = match signals::is_attentive() {
        true => attentive_waitv(&waiters, words[0].0, &time),
        false => {
            let (clock, time) = (
                ClockId::Monotonic,
                (until != Deadline::NEVER).then_some(&time),
            );
            futex::waitv(&waiters, WaitvFlags::empty(), time, clock).map(drop)
        }
    };
    // Any other error comes from a kernel that does not know the call, or from a filter that refuses it.
    let answers = [Errno::AGAIN, Errno::INTR, Errno::TIMEDOUT];
    if result.as_ref().is_err_and(|errno| !answers.contains(errno)) {
        NO_WAITV.store(true, Ordering::Relaxed);
        return None;
    }
    Some(result)
}

/// The low half of a 64-bit word, to sleep on.
pub(crate) fn low_half(word: &AtomicU64) -> &AtomicU32 {
    if cfg!(miri) {
        // Miri takes the kernel's read of half a word for a data race. Nobody expects the value of this word, so a
        // thread that would sleep checks again at once.
        static SLEEPLESS: AtomicU32 = AtomicU32::new(u32::MAX);
        return &SLEEPLESS;
    }
    let low = if cfg!(target_endian = "little") { 0 } else { 4 };
    // SAFETY: half of a live atomic, aligned; the kernel and we access it only atomically.
    unsafe { AtomicU32::from_ptr(word.as_ptr().byte_add(low).cast()) }
}

/// Wakes up to `count` sleepers; returns how many there were.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> usize {
    // The kernel reads the count as signed.
    futex::wake(word, Flags::empty(), count.min(i32::MAX as u32)).unwrap_or(0)
}

/// Moves the sleepers on `word` to `other`, if `word` holds `expected`. Wakes them where the kernel cannot do that.
pub(crate) fn requeue(word: &AtomicU32, expected: u32, other: &AtomicU32) {
    let all = i32::MAX as u32;
    let moved = futex::cmp_requeue(word, Flags::empty(), 0, all, other, expected);
    if moved.is_err_and(|errno| errno != Errno::AGAIN) {
        wake(word, all);
    }
}
