//! Giving idle memory back to the system.
//!
//! A freed block keeps its pages for whoever takes it next. Memory that nobody took for a while is idle:
//!
//! ```text
//! a look at all free blocks:   not marked  -->  marked as idle        (taking a block takes the mark off)
//!                              marked      -->  the pages of whole runs of such blocks are given back
//! ```
//!
//! Nothing is counted where blocks are taken and freed, but for the bytes that a process freed since it last asked
//! how large the file is. When that is more than [`FLOOR`], and more than a quarter over what is in use, a thread
//! looks every [`INTERVAL`] until it is not, and ends. It ends before every fork, too (it is started again when more
//! is freed), so no fork meets it.
//!
//! A block is taken like any other while its pages go, so nobody else takes it. A strip begins a life of its own
//! when it is used again (`reclaim::empty_strip`): with its pages goes the number of its last one.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use super::block::{BlockId, Cell};
use super::class::Class;
use super::owner::Owner;
use super::segment::Segment;
use super::{Arena, home_if_any};
use crate::kill;
use crate::sys::{memfd, thread};

/// What a tree of processes may keep while it has a queue or a pipe, used or not.
const FLOOR: u64 = 16 << 20;
/// As [`FLOOR`], with neither queue nor pipe.
const BARE_FLOOR: u64 = 2 << 20;
/// How long memory lies free before it is idle, at least.
const INTERVAL: Duration = Duration::from_millis(400);
/// How soon after a fork it is looked first whether the child is gone, and how rarely at last.
const SOON: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(60);
/// So much is freed by a process before it looks at the whole.
const NOTICE: u64 = 4 << 20;
/// The most that is taken at a time, so that others find free blocks.
const RUN_BYTES: u64 = 8 << 20;
const RUN_BLOCKS: usize = 1024;

/// Bytes that this process freed since it last looked. Racing threads may lose some of each other's.
static FREED: AtomicU64 = AtomicU64::new(0);

/// Which free blocks are given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Those that were free at the last look already.
    Idle,
    All,
}

impl Arena {
    /// Notes that a block of this process's was freed.
    #[inline]
    pub(super) fn note_freed(&self, bytes: u64) {
        let freed = FREED.load(Ordering::Relaxed) + bytes;
        FREED.store(freed, Ordering::Relaxed);
        if freed >= NOTICE {
            self.notice();
        }
    }

    /// Sees to it that somebody gives back what becomes idle, if that is much.
    #[cold]
    pub(super) fn notice(&self) {
        // Miri wants all threads joined.
        if cfg!(miri) || self.is_trimming() {
            FREED.store(0, Ordering::Relaxed);
            hasten();
            return;
        }
        if self.resident() <= self.floor() && !super::alone::is_waiting() {
            FREED.store(0, Ordering::Relaxed);
            return;
        }
        // Whoever has it forks, or starts the thread. To wait here could be for ever: see `stop`.
        if let Ok(mut trimmer) = TRIMMER.try_lock() {
            // Another thread may have started it since the first look: the one that `stop` knows is the only one.
            if !self.is_trimming() {
                trimmer.start(self);
            }
            // With no room for a thread, whoever frees as much again tries again.
            FREED.store(0, Ordering::Relaxed);
        }
    }

    fn is_trimming(&self) -> bool {
        RUNS_IN.load(Ordering::Relaxed) == self.me().as_u32()
    }

    fn floor(&self) -> u64 {
        match self.root().channels.load(Ordering::Relaxed) {
            ..=0 => BARE_FLOOR,
            _ => FLOOR,
        }
    }

    /// A queue or pipe was made.
    pub(super) fn channel_made(&self) {
        self.root().channels.fetch_add(1, Ordering::Relaxed);
    }

    /// A queue or pipe is gone. With the last one goes all that lies free.
    ///
    /// A process that is killed in between leaves the number wrong: then what is idle goes a moment later.
    pub(super) fn channel_gone(&self) {
        let before = self.root().channels.fetch_sub(1, Ordering::Relaxed);
        // A program that makes and drops small queues, one after the other, has nothing to give back.
        let freed_much = FREED.load(Ordering::Relaxed) >= BARE_FLOOR / 2 || self.is_trimming();
        if before > 1 || !freed_much {
            return;
        }
        match self.resident() {
            ..=BARE_FLOOR => FREED.store(0, Ordering::Relaxed),
            _ => self.give_back_all(),
        }
    }

    /// As with the last queue or pipe, which somebody keeps but does not use any more.
    pub(crate) fn trim_for_last_channel(&self) {
        let is_last = self.root().channels.load(Ordering::Relaxed) <= 1;
        if is_last && self.resident() > BARE_FLOOR {
            self.give_back_all();
        }
    }

    /// Gives the pages of all free blocks back.
    pub(crate) fn give_back_all(&self) {
        FREED.store(0, Ordering::Relaxed);
        self.give_back_free(Which::All, u64::MAX);
    }

    /// One look: gives back what is idle and too much, and marks what may be at the next look. False when no
    /// further look is of use.
    fn look_for_idle(&self) -> bool {
        let resident = self.resident();
        if resident <= self.floor() {
            return false;
        }
        let in_use = self.in_use();
        let Some(excess) = resident.checked_sub(self.floor().max(in_use + in_use / 4)) else {
            return false;
        };
        let given = self.give_back_free(Which::Idle, excess);
        let marked = self.mark_free();
        given > 0 || marked
    }

    /// Marks all free blocks that have memory; whether there was one without a mark.
    fn mark_free(&self) -> bool {
        let mut marked = false;
        for (_, cell) in self.blocks() {
            if cell.owner.is(Owner::Free) {
                marked |= cell.mark_idle();
            }
            if must_stop() {
                break;
            }
        }
        marked
    }

    /// Gives back the pages of free blocks, of the largest first, until it was as much as `enough`; how much it
    /// was.
    fn give_back_free(&self, which: Which, enough: u64) -> u64 {
        let mut segments: Vec<_> = self.segments().collect();
        segments.sort_by_key(|(_, segment)| std::cmp::Reverse(segment.class.size()));
        let mut given = 0;
        for (number, segment) in segments {
            let fresh = self.root().fresh[number as usize].load(Ordering::Acquire);
            let end = fresh.min(segment.count);
            let mut index = 0;
            while index < end {
                if given >= enough || which == Which::Idle && must_stop() {
                    return given;
                }
                let (after, bytes) = self.give_back_run(number, segment, index..end, which);
                index = after;
                given += bytes;
            }
        }
        given
    }

    /// Gives back the pages of the first run of free blocks in a part of a segment: where to go on, and how
    /// much it was.
    fn give_back_run(
        &self,
        number: u32,
        segment: Segment,
        part: std::ops::Range<u32>,
        which: Which,
    ) -> (u32, u64) {
        let end = part.end;
        let size = segment.class.size();
        // Blocks that share pages with others go by whole runs, those without memory included.
        let shares_pages = !size.is_multiple_of(memfd::page());
        let is_due = |cell: &Cell| {
            cell.owner.is(Owner::Free)
                && match cell.committed() {
                    0 => shares_pages,
                    _ => which == Which::All || cell.is_idle(),
                }
        };
        let cell = |index: u32| self.cell(BlockId::at(number, index)).ok();
        let Some(first) = part.into_iter().find(|&at| cell(at).is_some_and(is_due)) else {
            return (end, 0);
        };
        let most = (RUN_BYTES / size).clamp(1, RUN_BLOCKS as u64) as u32;
        let mut after = first;
        let mut with_memory = 0;
        while after < end && after - first < most && cell(after).is_some_and(is_due) {
            with_memory += cell(after).map_or(0, Cell::committed);
            after += 1;
        }
        if with_memory == 0
            || self
                .whole_pages(number, first, u64::from(after - first) * size)
                .is_none()
        {
            return (after, 0);
        }
        (after, self.empty_run(number, segment.class, first..after))
    }

    /// The pages that lie within so many bytes from a block on: where in this process, and how many bytes.
    fn whole_pages(&self, number: u32, first: u32, length: u64) -> Option<(NonNull<u8>, usize)> {
        let page = memfd::page() as usize;
        let start = self.payload(BlockId::at(number, first)).ok()?;
        let address = start.as_ptr().addr();
        let from = address.next_multiple_of(page);
        let to = (address + length as usize) / page * page;
        // SAFETY: within the segment.
        (from < to).then(|| (unsafe { start.add(from - address) }, to - from))
    }

    /// Takes the blocks of a run as far as they are free still, gives back their pages, and frees them; how much
    /// it was.
    fn empty_run(&self, number: u32, class: Class, run: std::ops::Range<u32>) -> u64 {
        let mine = self.mine();
        let take = |index: &u32| {
            let cell = self.cell(BlockId::at(number, *index));
            cell.is_ok_and(|cell| cell.owner.pass(Owner::Free, mine))
        };
        let taken: Vec<u32> = run.take_while(take).collect();
        let Some(&first) = taken.first() else {
            return 0;
        };
        kill::point("arena.giving_back");
        let mut bytes = 0;
        if let Some((start, length)) =
            self.whole_pages(number, first, taken.len() as u64 * class.size())
        {
            for &index in &taken {
                let block = BlockId::at(number, index);
                if class.is_of_strips() {
                    crate::reclaim::empty_strip(self, block);
                }
                bytes += self.cell(block).map_or(0, Cell::emptied);
            }
            kill::point("arena.emptied");
            let Some(giving_back) = self.give_back_pages() else {
                // This thread is about to end, and others free the blocks.
                return 0;
            };
            memfd::give_back(start, length);
            drop(giving_back);
            bytes = bytes.min(length as u64);
        }
        for index in taken {
            self.free(BlockId::at(number, index), mine);
        }
        bytes
    }

    /// The bytes of memory behind the blocks that somebody uses.
    pub(crate) fn in_use(&self) -> u64 {
        self.blocks()
            .filter(|(_, cell)| !cell.owner.is(Owner::Free))
            .map(|(_, cell)| cell.committed())
            .sum()
    }
}

/// The process whose thread runs, which a child never has. Zero for none.
static RUNS_IN: AtomicU32 = AtomicU32::new(0);
/// What is said to the thread.
struct Word {
    /// It is to end.
    stop: bool,
    /// Somebody is gone whom it may have waited for.
    hasten: bool,
}

static STOP: Mutex<Word> = Mutex::new(Word {
    stop: false,
    hasten: false,
});
static STOPPED: Condvar = Condvar::new();
static TRIMMER: Mutex<Trimmer> = Mutex::new(Trimmer(None));

/// The thread that gives memory back, and the number of the process that has it: a raw `clone` copies this and no
/// thread.
pub(super) struct Trimmer(Option<(u32, JoinHandle<()>)>);

impl Trimmer {
    fn start(&mut self, arena: &Arena) {
        *super::lock(&STOP) = Word {
            stop: false,
            hasten: false,
        };
        RUNS_IN.store(arena.me().as_u32(), Ordering::Relaxed);
        let started = thread::start_deaf("procession-trim", trim_until_done).ok();
        self.0 = started.map(|thread| (std::process::id(), thread));
        if self.0.is_none() {
            RUNS_IN.store(0, Ordering::Relaxed);
        }
    }

    fn end(&mut self) {
        let Some((pid, thread)) = self.0.take() else {
            return;
        };
        if pid != std::process::id() {
            // It is another process's: whoever waited for it would wait for ever.
            std::mem::forget(thread);
            return;
        }
        super::lock(&STOP).stop = true;
        STOPPED.notify_all();
        // It does not panic, and if it did it is gone as well.
        let _ = thread.join();
        // Whoever frees something next looks whether it is needed again.
        FREED.fetch_add(NOTICE, Ordering::Relaxed);
    }
}

fn must_stop() -> bool {
    super::lock(&STOP).stop
}

/// Has the thread look soon for what it may wait for.
fn hasten() {
    if super::alone::is_waiting() {
        super::lock(&STOP).hasten = true;
        STOPPED.notify_all();
    }
}

fn trim_until_done() {
    let Some(arena) = home_if_any() else { return };
    // Children that do little have ended by then.
    let mut wait = match super::alone::is_waiting() {
        true => SOON,
        false => INTERVAL,
    };
    loop {
        let word = super::lock(&STOP);
        let waited = STOPPED.wait_timeout_while(word, wait, |word| !word.stop && !word.hasten);
        let mut word = waited.unwrap_or_else(|e| e.into_inner()).0;
        if word.stop {
            break;
        }
        let hastened = std::mem::take(&mut word.hasten);
        drop(word);
        arena.take_out_what_is_alone(must_stop);
        let looks_for_idle = arena.look_for_idle();
        if !looks_for_idle && !super::alone::is_waiting() {
            break;
        }
        wait = match looks_for_idle || hastened {
            true => INTERVAL,
            false => (wait * 2).min(LONGEST),
        };
    }
    RUNS_IN.store(0, Ordering::Relaxed);
}

/// How a program wants to have the thread started that a fork ended: in a moment, since its runtime looks at the
/// threads when a fork returns.
static IN_A_MOMENT: OnceLock<InAMoment> = OnceLock::new();

/// Has what it is given called in a moment.
pub(crate) type InAMoment = fn(fn());

/// See [`process::start_threads_by`](crate::process::start_threads_by).
pub(crate) fn start_threads_by(in_a_moment: InAMoment) {
    let _first = IN_A_MOMENT.set(in_a_moment);
}

/// After a fork that leased much: starts the thread again.
pub(super) fn start_after_fork() {
    if super::alone::is_waiting() {
        match IN_A_MOMENT.get() {
            Some(in_a_moment) => in_a_moment(start_if_waiting),
            None => start_if_waiting(),
        }
    }
}

fn start_if_waiting() {
    if let Some(arena) = home_if_any()
        && super::fork::current().is_some()
        && super::alone::is_waiting()
    {
        arena.notice();
    }
}

/// Before a fork: ends the thread. Nobody starts one while the guard is there.
///
/// To be called with no lock of the engine held. Who holds one only tries for this lock.
pub(super) fn stop() -> MutexGuard<'static, Trimmer> {
    let mut trimmer = super::lock(&TRIMMER);
    trimmer.end();
    trimmer
}

/// Before this process ends: ends the thread, and no other is started.
///
/// Others free what a process owned as soon as its first thread is gone. A thread that is in the kernel by then,
/// giving pages back, would go on with it.
pub(crate) fn stop_for_good(arena: &Arena) {
    let _trimmer = stop();
    RUNS_IN.store(arena.me().as_u32(), Ordering::Relaxed);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::arena::owner::OwnerId;
    use rustix::process::{Pid, WaitOptions, waitpid};

    #[test]
    #[cfg_attr(miri, ignore = "forks")]
    fn a_child_of_a_raw_clone_does_not_wait_for_its_parents_thread() {
        let arena = crate::arena::home().expect("an arena");
        let mut trimmer = stop();
        trimmer.start(arena);
        // SAFETY: a fork that no handler hears of; the child makes system calls and ends.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if pid == 0 {
            // SAFETY: calls without preconditions: who waits for ever is ended.
            unsafe { libc::alarm(10) };
            trimmer.end();
            // SAFETY: as above.
            unsafe { libc::_exit(7) }
        }
        let ended = waitpid(Pid::from_raw(pid as libc::pid_t), WaitOptions::empty());
        let (_, status) = ended.expect("a child").expect("its end");
        assert_eq!(status.exit_status(), Some(7));
        trimmer.end();
    }

    #[test]
    #[cfg_attr(miri, ignore = "threads")]
    fn a_process_that_leaves_gives_nothing_back_behind_its_back() {
        let arena = crate::arena::home().expect("an arena");
        stop().start(arena);
        stop_for_good(arena);
        let trimmer = super::super::lock(&TRIMMER);
        assert!(trimmer.0.is_none());
        RUNS_IN.store(0, Ordering::Relaxed);
    }

    #[test]
    #[cfg_attr(miri, ignore = "forks")]
    fn a_process_is_not_dead_while_a_thread_of_it_gives_pages_back() {
        use rustix::io::{read, write};
        let arena = crate::arena::home().expect("an arena");
        let (told, tell) = rustix::pipe::pipe().expect("a pipe");
        let (heard, go_on) = rustix::pipe::pipe().expect("a pipe");
        // SAFETY: the child starts a thread, makes system calls, and ends by `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let await_word = move || read(&heard, &mut [0; 1]);
            let (begun, begins) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let giving_back = arena.give_back_pages();
                let _ = begun.send(());
                let me = arena.me().as_u32().to_ne_bytes();
                let _ = write(&tell, &me).and_then(|_| await_word());
                drop(giving_back);
                let _ = await_word();
                // SAFETY: a call without preconditions.
                unsafe { libc::_exit(7) }
            });
            let _ = begins.recv();
            // SAFETY: only this thread ends, the one that holds the life word; who waits for ever is ended.
            unsafe {
                libc::alarm(20);
                libc::syscall(libc::SYS_exit, 0);
            }
        }
        let mut id = [0; 4];
        assert_eq!(read(&told, &mut id), Ok(4));
        let child = OwnerId::from_u32(u32::from_ne_bytes(id)).expect("an id");
        while !arena.has_lost_its_thread(child) {
            std::thread::yield_now();
        }
        assert!(!arena.is_dead(child), "its thread is in the kernel still");
        assert_eq!(write(&go_on, b"x"), Ok(1));
        while !arena.is_dead(child) {
            std::thread::yield_now();
        }
        assert_eq!(write(&go_on, b"x"), Ok(1));
        let ended = waitpid(Pid::from_raw(pid), WaitOptions::empty());
        let (_, status) = ended.expect("a child").expect("its end");
        assert_eq!(status.exit_status(), Some(7));
    }
}
