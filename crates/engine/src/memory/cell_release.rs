//! Returns the cells of blocks to the system: 32 bytes for each block that existed at some time.
//!
//! When the last blocks of a segment are free and have no memory, the pages of their cells are returned, and the blocks
//! count as never taken. A word per segment, `closed` (generation u32 | process u32, zero for nobody), keeps other
//! processes from them:
//!
//! ```text
//! 1  closed := (n, me)        a taker of a block loads the word before and after, and frees the block if it changed
//! 2  all free from k on?      else closed := (n, 0)
//! 3  generations recorded in the root; pages of the cells from k on returned; bump := k
//! 4  stack of the class emptied, in a new generation: its links went through these cells
//! 5  closed := (n + 1, 0)
//! 6  all free blocks of the class listed again
//! ```
//!
//! A cell whose page was returned reads like a new one: free, owned by nobody, not listed. Between 1 and 5 nobody takes
//! a block of the segment for good: step 2 sees a block that was taken before 1, and a block that was taken later is
//! freed again. A block that is freed meanwhile may be listed: step 4 empties the list, and a mark of its former
//! generation does not count. A process that finds a segment closed by a dead one starts again at 1, and does not undo
//! it in step 2.

use std::sync::atomic::Ordering;

use crate::arena::Arena;
use crate::arena::cell::Cell;
use crate::arena::owner::{Owner, ProcId};
use crate::arena::segment::Segment;
use crate::arena::size_class::SizeClass;
use crate::failpoint;
use crate::sys::memfd;

/// Releasing this many bytes of cells is worth listing the free blocks again.
const WORTH: u64 = match cfg!(feature = "kill-points") {
    false => 256 << 10,
    // The kill matrix releases cells at each of its deaths.
    true => 4 << 10,
};

/// The last blocks of a segment, all of them free.
#[derive(Debug, Clone, Copy)]
struct Tail {
    number: u32,
    from: u32,
    end: u32,
}

impl Tail {
    fn bytes(&self) -> u64 {
        u64::from(self.end - self.from) * size_of::<Cell>() as u64
    }
}

fn without_owner(word: u64) -> u64 {
    word >> 32 << 32
}

impl Arena {
    /// The word that says whether blocks of a segment can be taken; `None` while they cannot.
    #[inline]
    pub(crate) fn open_word(&self, number: u32) -> Option<u64> {
        let closed = self.root().closed.get(number as usize)?;
        Some(closed.load(Ordering::Acquire)).filter(|&word| word as u32 == 0)
    }

    /// Whether that word is unchanged.
    #[inline]
    pub(crate) fn is_open_still(&self, number: u32, word: u64) -> bool {
        self.root().closed[number as usize].load(Ordering::SeqCst) == word
    }

    /// Releases the cells of all blocks at the ends of segments that are free and have no memory, if they are many.
    pub(crate) fn release_cells(&self) {
        let segments: Vec<(u32, Segment)> = self.segments().collect();
        let tails: Vec<(SizeClass, Tail)> = segments
            .iter()
            .filter_map(|(number, segment)| Some((segment.class, self.tail(*number)?)))
            .collect();
        if tails.iter().map(|(_, tail)| tail.bytes()).sum::<u64>() < WORTH {
            return;
        }
        // While the guard exists, nobody takes over the segments that this process has closed.
        let Some(_release) = self.begin_page_release() else {
            return;
        };
        let mut classes: Vec<SizeClass> = tails.iter().map(|(class, _)| *class).collect();
        classes.sort_unstable_by_key(|class| class.index());
        classes.dedup();
        for class in classes {
            let of_class = tails.iter().filter(|(of, _)| *of == class);
            let cut: Vec<u32> = of_class
                .filter(|(_, tail)| self.release_tail(class, *tail))
                .map(|(_, tail)| tail.number)
                .collect();
            self.reopen(class, &cut);
        }
    }

    /// Opens the segments of a class that dead processes left closed.
    pub(crate) fn reopen_abandoned(&self, class: SizeClass) {
        let segments = self
            .segments()
            .filter(|(_, segment)| segment.class == class);
        let numbers: Vec<u32> = segments.map(|(number, _)| number).collect();
        if numbers
            .iter()
            .all(|&number| self.open_word(number).is_some())
        {
            return;
        }
        // As in `release_cells`.
        let Some(_release) = self.begin_page_release() else {
            return;
        };
        let is_closed = |number: &u32| self.closed_word(*number) as u32 != 0;
        let inherits = |number: &u32| {
            self.close(*number).is_some_and(|inherited| {
                if !inherited {
                    self.open(*number);
                }
                inherited
            })
        };
        let inherited: Vec<u32> = numbers
            .into_iter()
            .filter(is_closed)
            .filter(inherits)
            .collect();
        self.reopen(class, &inherited);
    }

    /// The blocks of a segment after the last one that is used or has memory, starting on a page of cells.
    fn tail(&self, number: u32) -> Option<Tail> {
        let mapped = self.mapped(number).ok()?;
        let end = self.root().bump[number as usize].load(Ordering::Acquire);
        let is_unused = |index: &u32| {
            let cell = mapped.cell(*index);
            cell.is_some_and(|cell| cell.owner.is(Owner::Free) && cell.committed() == 0)
        };
        let unused = (0..end).rev().take_while(is_unused).count() as u32;
        let in_page = memfd::page() as u32 / size_of::<Cell>() as u32;
        let from = (end - unused).next_multiple_of(in_page);
        (from < end).then_some(Tail { number, from, end })
    }

    fn closed_word(&self, number: u32) -> u64 {
        self.root().closed[number as usize].load(Ordering::SeqCst)
    }

    /// Opens a segment that this process closed, and left unchanged.
    fn open(&self, number: u32) {
        let closed = &self.root().closed[number as usize];
        closed.store(without_owner(self.closed_word(number)), Ordering::SeqCst);
    }

    /// Closes a segment; returns whether a dead process had left it closed. `None` when a living process has it closed.
    fn close(&self, number: u32) -> Option<bool> {
        let closed = &self.root().closed[number as usize];
        let seen = closed.load(Ordering::SeqCst);
        let by = ProcId::from_u32(seen as u32);
        if seen as u32 != 0 && by.is_some_and(|by| !self.is_dead(by)) {
            return None;
        }
        let word = without_owner(seen) | u64::from(self.me().as_u32());
        closed
            .compare_exchange(seen, word, Ordering::SeqCst, Ordering::SeqCst)
            .ok()?;
        failpoint::hit("cells.closed");
        Some(seen as u32 != 0)
    }

    /// Releases the cells of a tail, and leaves the segment closed; false, with nothing changed, if that is not
    /// possible.
    fn release_tail(&self, class: SizeClass, tail: Tail) -> bool {
        let Some(inherited) = self.close(tail.number) else {
            return false;
        };
        let is_unused = (tail.from..tail.end).all(|index| {
            let cell = self
                .mapped(tail.number)
                .ok()
                .and_then(|mapped| mapped.cell(index));
            cell.is_some_and(|cell| {
                if class.is_of_objects() {
                    let generation = cell.generation.load(Ordering::Relaxed);
                    self.root()
                        .object_generations
                        .fetch_max(generation, Ordering::Relaxed);
                }
                cell.owner.is(Owner::Free) && cell.committed() == 0
            })
        });
        let bump = &self.root().bump[tail.number as usize];
        let is_whole = bump.load(Ordering::SeqCst) <= tail.end;
        if is_unused && is_whole && tail.from < tail.end {
            self.release_tail_pages(tail);
            failpoint::hit("cells.cut");
            bump.store(tail.from, Ordering::SeqCst);
        } else if !inherited {
            self.open(tail.number);
            return false;
        }
        true
    }

    fn release_tail_pages(&self, tail: Tail) {
        let Ok(mapped) = self.mapped(tail.number) else {
            return;
        };
        let (start, place) = mapped.cells_from(tail.from);
        let length = tail.bytes().next_multiple_of(memfd::page());
        self.release_file_pages(start, place, length as usize);
    }

    /// Lists the free blocks of a class again, and opens the segments whose cells were released.
    fn reopen(&self, class: SizeClass, numbers: &[u32]) {
        if numbers.is_empty() {
            return;
        }
        self.empty_stack(class);
        failpoint::hit("cells.emptied");
        for &number in numbers {
            let closed = &self.root().closed[number as usize];
            let next = without_owner(self.closed_word(number)).wrapping_add(1 << 32);
            closed.store(next, Ordering::SeqCst);
        }
        failpoint::hit("cells.opened");
        self.list_all(class);
    }

    /// Lists all free blocks of a class that are not listed. Those at the lowest addresses come last, so that they are
    /// taken first.
    pub(crate) fn list_all(&self, class: SizeClass) {
        let mut numbers: Vec<u32> = self
            .segments()
            .filter(|(_, segment)| segment.class == class)
            .map(|(number, _)| number)
            .collect();
        numbers.reverse();
        for number in numbers {
            let Ok(mapped) = self.mapped(number) else {
                continue;
            };
            let end = self.root().bump[number as usize].load(Ordering::Acquire);
            for index in (0..end).rev() {
                if let Some(cell) = mapped.cell(index)
                    && cell.owner.is(Owner::Free)
                {
                    self.push(crate::arena::cell::BlockId::at(number, index), cell);
                }
            }
        }
    }
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use super::*;
    use crate::process_table::home;
    use crate::value::SharedBytes;

    /// No other test of this process has objects of this size.
    const SIZE: usize = 2_600;
    const COUNT: usize = 9_000;

    fn taken(arena: &Arena, class: SizeClass) -> u32 {
        let segments = arena
            .segments()
            .filter(|(_, segment)| segment.class == class);
        segments
            .map(|(number, _)| arena.root().bump[number as usize].load(Ordering::Acquire))
            .sum()
    }

    #[test]
    fn cells_of_blocks_that_are_free_go_and_old_handles_stay_unknown() {
        let arena = home().expect("an arena");
        let make = || SharedBytes::new(SIZE).expect("memory");
        let kept = make();
        kept.write_at(0, b"kept");
        let class = arena
            .mapped(
                crate::arena::cell::BlockId::new(kept.handle().block())
                    .expect("a block")
                    .segment(),
            )
            .expect("a segment")
            .class;
        for _ in 0..2 {
            let many: Vec<SharedBytes> = (0..COUNT).map(|_| make()).collect();
            let old: Vec<_> = many.iter().map(SharedBytes::handle).collect();
            assert!(taken(arena, class) > COUNT as u32);
            drop(many);
            // Other tests may be releasing memory, too.
            while taken(arena, class) > COUNT as u32 / 2 {
                arena.release_free_pages();
            }
            assert!(old.iter().all(|handle| SharedBytes::open(handle).is_err()));
            let again: Vec<SharedBytes> = (0..COUNT).map(|_| make()).collect();
            assert!(old.iter().all(|handle| SharedBytes::open(handle).is_err()));
            drop(again);
        }
        let mut seen = [0; 4];
        kept.read_at(0, &mut seen);
        assert_eq!(&seen, b"kept");
    }

    #[test]
    fn memory_is_taken_while_cells_go() {
        let arena = home().expect("an arena");
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for fill in 1..4u8 {
                let done = &done;
                scope.spawn(move || {
                    for _ in 0..20 {
                        let make = |_| SharedBytes::new(SIZE / 2).expect("memory");
                        let many: Vec<SharedBytes> = (0..4_000).map(make).collect();
                        many.iter().for_each(|bytes| bytes.write_at(0, &[fill; 8]));
                        let mut seen = [0; 8];
                        for bytes in many {
                            bytes.read_at(0, &mut seen);
                            assert_eq!(seen, [fill; 8], "somebody else writes here");
                        }
                    }
                    done.store(true, Ordering::Relaxed);
                });
            }
            while !done.load(Ordering::Relaxed) {
                arena.release_free_pages();
            }
        });
    }

    #[test]
    fn what_the_dead_closed_is_opened() {
        let arena = home().expect("an arena");
        let bytes = SharedBytes::new(SIZE * 2).expect("memory");
        let block = crate::arena::cell::BlockId::new(bytes.handle().block()).expect("a block");
        let number = block.segment();
        let class = arena.mapped(number).expect("a segment").class;
        let dead = crate::process::Reservation::reserve().expect("a slot");
        let gone = dead.id();
        drop(dead);
        arena.root().closed[number as usize].store(u64::from(gone.as_u32()), Ordering::SeqCst);
        assert_eq!(arena.open_word(number), None);
        arena.reopen_abandoned(class);
        assert_eq!(arena.open_word(number), Some(1 << 32));
        let more: Vec<_> = (0..200)
            .map(|_| SharedBytes::new(SIZE * 2).expect("memory"))
            .collect();
        drop((bytes, more));
    }
}
