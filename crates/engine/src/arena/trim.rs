//! Giving idle memory back to the system.
//!
//! A freed block keeps its pages for whoever takes it next. Memory that nobody took for a while is idle:
//!
//! ```text
//! a look at all free blocks:   not marked  -->  marked as idle        (taking a block takes the mark off)
//!                              marked      -->  the pages of whole runs of such blocks are given back
//! ```
//!
//! Nothing is counted where blocks are taken and freed, but for the bytes that a process freed, which it adds to a
//! number of all processes every [`NOTICE`]. When that is a [`PART`] of the file's memory, and that is more than
//! [`FLOOR`], a thread looks every [`INTERVAL`] until there is not much more than is in use, and ends. It looks at once
//! where the machine, or the container, is short of memory. It ends before every fork, too (it is started again when
//! more is freed), so no fork meets it.
//!
//! What stays is at most [`FLOOR`], or a quarter more than is in use: an eighth that a look leaves, and a [`PART`] that
//! may be freed before the next.
//!
//! A block is taken like any other while its pages go, so nobody else takes it. A strip begins a life of its own
//! when it is used again (`reclaim::empty_strip`): with its pages goes the number of its last one.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use super::block::{BlockId, Cell};
use super::class::{Class, NOTES};
use super::object::Kind;
use super::owner::{Owner, OwnerId};
use super::segment::Segment;
use super::{Arena, budget, home_if_any};
use crate::deadline::monotonic_ns;
use crate::kill;
use crate::sys::{memfd, thread};

/// What a tree of processes may keep while it has a queue or a pipe, used or not.
const FLOOR: u64 = 16 << 20;
/// As [`FLOOR`], with neither queue nor pipe.
const BARE_FLOOR: u64 = 2 << 20;
/// How long memory lies free before it is idle, at least.
const INTERVAL: Duration = Duration::from_millis(200);
/// How soon after a fork it is looked first whether the child is gone, and how rarely at last.
const SOON: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(60);
/// How often it is asked whether memory is short, at most.
const ASK: u64 = 50_000_000;
/// So much is freed by a process before it tells the others.
const NOTICE: u64 = 1 << 20;
/// So much that a look is due, whatever there is.
const DUE: u64 = 1 << 62;
/// The part of the memory that is freed before somebody looks.
const PART: u64 = 16;
/// The most that is taken at a time, so that others find free blocks.
const RUN_BYTES: u64 = 8 << 20;
const RUN_BLOCKS: usize = 1024;

/// Bytes that this process freed since it last looked. Racing threads may lose some of each other's.
static FREED: AtomicU64 = AtomicU64::new(0);
/// What was resident still when this process had given back all that lay free.
static LEFT: AtomicU64 = AtomicU64::new(0);
/// When this process asked last whether memory is short.
static ASKED: AtomicU64 = AtomicU64::new(0);
/// The kernel, or a sandbox, gives no pages back.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Which free blocks are given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Those that were free at the last look already.
    Idle,
    /// All, by the thread, since memory is short.
    Free,
    /// All, by whoever asks for it.
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
        let freed = self.tell_freed();
        // Miri wants all threads joined.
        if cfg!(miri) || REFUSED.load(Ordering::Relaxed) {
            return;
        }
        let waits = super::alone::is_waiting();
        if waits && self.is_trimming() {
            ask_for(Wish::Look);
        }
        let resident = self.resident();
        if !waits && (resident <= BARE_FLOOR || resident <= FLOOR && resident <= self.floor()) {
            return;
        }
        // A look is a walk over all that is in use: as much has to be freed that it is little beside that.
        if !self.is_trimming() && (waits || freed >= resident / PART) {
            // Whoever has it forks, or starts the thread. To wait here could be for ever: see `stop`.
            if let Ok(mut trimmer) = TRIMMER.try_lock()
                // Another thread may have started it since the first look: the one that `stop` knows is the only one.
                && (self.is_trimming() || trimmer.start(self))
            {
                self.root().freed.store(0, Ordering::Relaxed);
            }
            // With no room for a thread, whoever frees as much again tries again.
        }
        if self.is_trimming() && self.is_short() {
            ask_for(Wish::Hurry);
        }
    }

    /// Adds what this process freed to what all did since somebody began to look; how much that is.
    pub(super) fn tell_freed(&self) -> u64 {
        let freed = FREED.swap(0, Ordering::Relaxed);
        self.root().freed.fetch_add(freed, Ordering::Relaxed) + freed
    }

    /// Whoever frees anything next is to look: somebody who was at it is gone.
    pub(super) fn look_is_due(&self) {
        self.root().freed.fetch_max(DUE, Ordering::Relaxed);
    }

    /// Whether what the arena has might be needed by others at once: a container's limit is near, say.
    fn is_short(&self) -> bool {
        let now = monotonic_ns();
        if now.saturating_sub(ASKED.load(Ordering::Relaxed)) < ASK {
            return false;
        }
        ASKED.store(now, Ordering::Relaxed);
        budget::at_ease().is_some_and(|left| self.resident() > left / 2)
    }

    fn is_trimming(&self) -> bool {
        RUNS_IN.load(Ordering::Relaxed) == self.me().as_u32()
    }

    fn floor(&self) -> u64 {
        match self.has_channels(1) {
            false => BARE_FLOOR,
            true => FLOOR,
        }
    }

    /// A queue or pipe was made.
    pub(super) fn channel_made(&self, block: BlockId) {
        let known = &self.root().channels;
        if let Some(gone) = known.iter().find(|known| !self.is_channel(known)) {
            gone.store(block.0, Ordering::Relaxed);
        }
    }

    fn is_channel(&self, block: &AtomicU32) -> bool {
        let cell = BlockId::new(block.load(Ordering::Relaxed)).map(|block| self.cell(block));
        cell.is_some_and(|cell| cell.is_ok_and(is_channel))
    }

    /// Whether there are so many queues and pipes, two at most. Looks at those that were found last, then at all
    /// objects.
    fn has_channels(&self, count: usize) -> bool {
        let known = &self.root().channels;
        let mut there: Vec<u32> = known
            .iter()
            .filter(|known| self.is_channel(known))
            .map(|known| known.load(Ordering::Relaxed))
            .collect();
        there.dedup();
        if there.len() >= count {
            return true;
        }
        let of_objects = self
            .segments()
            .filter(|(_, segment)| segment.class.is_of_objects());
        let found = of_objects
            .flat_map(|(number, _)| self.blocks_of(number))
            .filter(|(_, cell)| is_channel(cell))
            .map(|(block, _)| block.0)
            .take(known.len());
        let mut number = 0;
        for (place, block) in known.iter().zip(found) {
            place.store(block, Ordering::Relaxed);
            number += 1;
        }
        number >= count
    }

    /// A queue or pipe is gone. With the last one goes all that lies free.
    pub(super) fn channel_gone(&self) {
        if self.has_grown() && !self.has_channels(1) {
            self.give_back_all();
        }
    }

    /// As with the last queue or pipe, which somebody keeps but does not use any more.
    pub(crate) fn trim_for_last_channel(&self) {
        if self.has_grown() && !self.has_channels(2) {
            self.give_back_all();
        }
    }

    /// Whether there may be more than was left the last time. A program that makes and drops small queues, one after
    /// the other, has nothing to give back.
    fn has_grown(&self) -> bool {
        let resident = self.resident();
        let some = BARE_FLOOR / 2;
        resident > BARE_FLOOR
            && (resident > LEFT.load(Ordering::Relaxed) + some
                || self.is_trimming()
                || self.tell_freed() >= some)
    }

    /// Gives the pages of all free blocks back.
    pub(crate) fn give_back_all(&self) {
        FREED.store(0, Ordering::Relaxed);
        self.root().freed.store(0, Ordering::Relaxed);
        self.give_back_free(Which::All, u64::MAX);
        self.give_back_tables();
        LEFT.store(self.resident(), Ordering::Relaxed);
    }

    /// One look: gives back what is idle and too much, and marks what may be at the next look. False when no
    /// further look is of use.
    fn look(&self, which: Which) -> bool {
        let resident = self.resident();
        let floor = self.floor();
        if resident <= floor || REFUSED.load(Ordering::Relaxed) {
            return false;
        }
        // With its cell, which cannot go before the block does.
        let in_use: u64 = self
            .used()
            .map(|cell| cell.committed() + size_of::<Cell>() as u64)
            .sum();
        let Some(excess) = resident.checked_sub(floor.max(in_use + in_use / 8)) else {
            return false;
        };
        let given = self.give_back_free(which, excess);
        if !must_stop() {
            self.give_back_tables();
        }
        let marked = self.mark_free();
        given > 0 || marked
    }

    /// Marks all free blocks that have memory; whether there was one without a mark.
    fn mark_free(&self) -> bool {
        let mut marked = false;
        for (number, (_, cell)) in self.blocks().enumerate() {
            if cell.owner.is(Owner::Free) {
                marked |= cell.mark_idle();
            }
            if number % RUN_BLOCKS == 0 && must_stop() {
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
                if given >= enough
                    || REFUSED.load(Ordering::Relaxed)
                    || which != Which::All && must_stop()
                {
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
                    _ => which != Which::Idle || cell.is_idle(),
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
        let Some(open) = self.open_word(number) else {
            return 0;
        };
        let block = |index: u32| BlockId::at(number, index);
        let take = |index: &u32| {
            let cell = self.cell(block(*index));
            cell.is_ok_and(|cell| self.take(block(*index), cell, open))
        };
        let taken: Vec<u32> = run.take_while(take).collect();
        let Some(&first) = taken.first() else {
            return 0;
        };
        kill::point("arena.giving_back");
        let given = self.empty_taken(number, class, first, taken.len() as u32);
        // Otherwise this thread is about to end, and others free the blocks.
        if given.is_some() {
            for index in taken {
                self.free(block(index), self.mine());
            }
        }
        given.unwrap_or(0)
    }

    /// Gives back the pages of blocks that are this process's, one behind the other; how much it was. `None` when
    /// others take it for dead.
    fn empty_taken(&self, number: u32, class: Class, first: u32, count: u32) -> Option<u64> {
        let bytes = u64::from(count) * class.size();
        let Some((start, length)) = self.whole_pages(number, first, bytes) else {
            return Some(0);
        };
        let blocks = (first..first + count).map(|index| BlockId::at(number, index));
        let mut had = Vec::with_capacity(count as usize);
        for block in blocks.clone() {
            if class.is_of_strips() {
                crate::reclaim::empty_strip(self, block);
            }
            had.push(self.cell(block).map_or(0, Cell::emptied));
        }
        kill::point("arena.emptied");
        let giving_back = self.give_back_pages()?;
        let (place, _) = self.file_range(BlockId::at(number, first))?;
        let skipped = start.as_ptr().addr()
            - self
                .payload(BlockId::at(number, first))
                .ok()?
                .as_ptr()
                .addr();
        let is_given = self.give_back_part(start, place + skipped as u64, length);
        drop(giving_back);
        if is_given {
            return Some(had.iter().sum::<u64>().min(length as u64));
        }
        for (block, bytes) in blocks.zip(had) {
            if let Ok(cell) = self.cell(block) {
                cell.touched(bytes);
            }
        }
        REFUSED.store(true, Ordering::Relaxed);
        Some(0)
    }

    /// The bytes of memory behind the blocks that somebody uses.
    pub(crate) fn in_use(&self) -> u64 {
        self.used().map(Cell::committed).sum()
    }

    /// The blocks in use, but for the notes of who uses them.
    pub(crate) fn used(&self) -> impl Iterator<Item = &Cell> {
        let segments = self
            .segments()
            .filter(|(_, segment)| segment.class != NOTES);
        let cells = segments
            .flat_map(|(number, _)| self.blocks_of(number))
            .map(|(_, cell)| cell);
        cells.filter(|cell| !cell.owner.is(Owner::Free))
    }
}

/// The process whose thread runs, which a child never has. Zero for none.
static RUNS_IN: AtomicU32 = AtomicU32::new(0);
/// What the thread is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Look when the time has come.
    Wait,
    /// Look at once: somebody is gone whom it may have waited for.
    Look,
    /// Look at once, and give back all that is too much.
    Hurry,
    End,
}

static WISH: Mutex<Wish> = Mutex::new(Wish::Wait);
static WISHED: Condvar = Condvar::new();
static TRIMMER: Mutex<Trimmer> = Mutex::new(Trimmer(None));

/// The thread that gives memory back, and the process that has it: a raw `clone` copies this and no thread.
pub(crate) struct Trimmer(Option<(OwnerId, JoinHandle<()>)>);

impl Trimmer {
    /// False with no room for a thread.
    fn start(&mut self, arena: &Arena) -> bool {
        *super::lock(&WISH) = Wish::Wait;
        let me = arena.me();
        RUNS_IN.store(me.as_u32(), Ordering::Relaxed);
        let started = thread::start_deaf("procession-trim", trim_until_done).ok();
        self.0 = started.map(|thread| (me, thread));
        if self.0.is_none() {
            RUNS_IN.store(0, Ordering::Relaxed);
        }
        self.0.is_some()
    }

    fn end(&mut self) {
        let Some((owner, thread)) = self.0.take() else {
            return;
        };
        if super::fork::current() != Some(owner) {
            // It is another process's: whoever waited for it would wait for ever.
            std::mem::forget(thread);
            return;
        }
        *super::lock(&WISH) = Wish::End;
        WISHED.notify_all();
        // It does not panic, and if it did it is gone as well.
        let _ = thread.join();
        // Whoever frees something next looks whether it is needed again.
        FREED.fetch_add(NOTICE, Ordering::Relaxed);
        if let Some(arena) = home_if_any() {
            arena.look_is_due();
        }
    }
}

fn must_stop() -> bool {
    *super::lock(&WISH) == Wish::End
}

/// Has the thread look at once, unless it is to end.
fn ask_for(what: Wish) {
    let mut wish = super::lock(&WISH);
    if matches!(*wish, Wish::Wait | Wish::Look) {
        *wish = what;
        WISHED.notify_all();
    }
}

fn is_channel(cell: &Cell) -> bool {
    cell.owner.is(Owner::Shared) && Kind::from_u32(cell.kind.load(Ordering::Acquire)).is_channel()
}

fn trim_until_done() {
    let Some(arena) = home_if_any() else { return };
    // Children that do little have ended by then.
    let mut wait = match super::alone::is_waiting() {
        true => SOON,
        false => INTERVAL,
    };
    loop {
        let wish = super::lock(&WISH);
        let waited = WISHED.wait_timeout_while(wish, wait, |wish| *wish == Wish::Wait);
        let mut wish = waited.unwrap_or_else(|e| e.into_inner()).0;
        let asked = *wish;
        let which = match asked {
            Wish::Wait | Wish::Look => Which::Idle,
            Wish::Hurry => Which::Free,
            Wish::End => break,
        };
        *wish = Wish::Wait;
        drop(wish);
        arena.take_out_what_is_alone(must_stop);
        let looks_for_idle = arena.look(which);
        if !looks_for_idle && !super::alone::is_waiting() {
            break;
        }
        wait = match looks_for_idle || asked != Wish::Wait {
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
pub(crate) fn stop() -> MutexGuard<'static, Trimmer> {
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
    arena.tell_freed();
    RUNS_IN.store(arena.me().as_u32(), Ordering::Relaxed);
}

#[cfg(all(test, not(loom)))]
pub(super) mod tests {
    use super::*;
    use rustix::io::{read, write};
    use rustix::process::{Pid, WaitOptions, waitpid};
    use std::os::fd::OwnedFd;

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

    /// A child whose first thread ends while another one is in the kernel, giving pages back.
    pub(in super::super) struct GivesBackLater {
        pid: libc::pid_t,
        pub(in super::super) id: OwnerId,
        ends: OwnedFd,
        go_on: OwnedFd,
    }

    impl GivesBackLater {
        pub(in super::super) fn start(arena: &'static Arena) -> GivesBackLater {
            let (told, tell) = rustix::pipe::pipe().expect("a pipe");
            let (heard, go_on) = rustix::pipe::pipe().expect("a pipe");
            let (end, ends) = rustix::pipe::pipe().expect("a pipe");
            // SAFETY: the child starts a thread, makes system calls, and ends by `_exit`.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let await_word = move || read(&heard, &mut [0; 1]);
                std::thread::spawn(move || {
                    let giving_back = arena.give_back_pages();
                    let me = arena.me().as_u32().to_ne_bytes();
                    let _ = write(&tell, &me).and_then(|_| await_word());
                    drop(giving_back);
                    let _ = await_word();
                    // SAFETY: a call without preconditions.
                    unsafe { libc::_exit(7) }
                });
                // SAFETY: only this thread ends, the one that holds the life word; who waits for ever is ended.
                unsafe {
                    libc::alarm(60);
                    let _ = read(&end, &mut [0; 1]);
                    libc::syscall(libc::SYS_exit, 0);
                }
            }
            let mut id = [0; 4];
            assert_eq!(read(&told, &mut id), Ok(4));
            let id = OwnerId::from_u32(u32::from_ne_bytes(id)).expect("an id");
            GivesBackLater {
                pid,
                id,
                ends,
                go_on,
            }
        }

        pub(in super::super) fn lose_first_thread(&self, arena: &Arena) {
            assert_eq!(write(&self.ends, b"x"), Ok(1));
            while !arena.has_lost_its_thread(self.id) {
                std::thread::yield_now();
            }
            assert!(!arena.is_dead(self.id), "its thread is in the kernel still");
        }

        pub(in super::super) fn give_back(self, arena: &Arena) {
            assert_eq!(write(&self.go_on, b"x"), Ok(1));
            while !arena.is_dead(self.id) {
                std::thread::yield_now();
            }
            assert_eq!(write(&self.go_on, b"x"), Ok(1));
            let ended = waitpid(Pid::from_raw(self.pid), WaitOptions::empty());
            let (_, status) = ended.expect("a child").expect("its end");
            assert_eq!(status.exit_status(), Some(7));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "forks")]
    fn a_process_is_not_dead_while_a_thread_of_it_gives_pages_back() {
        let arena = crate::arena::home().expect("an arena");
        let child = GivesBackLater::start(arena);
        child.lose_first_thread(arena);
        child.give_back(arena);
    }
}
