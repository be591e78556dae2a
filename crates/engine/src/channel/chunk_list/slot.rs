//! A slot's state: one word that says what the slot holds.
//!
//! ```text
//!            put                  get
//! EMPTY --> RESERVED(me) --> READY ----------------------> DONE
//!               |            ^  \--> RECEIVING(me) --large--> DONE
//!    owner dies |            +----------+ owner dies
//!               +--> SKIPPED +-- (a large message that was complete)
//!               +--> LOST --> SKIPPED   where tasks are counted: see `channel/counting/task_done.rs`
//! ```
//!
//! The word carries the chunk's generation (`inc` in the code, because `generation` there is that of
//! a shared object). So it tells apart every state of the same memory in an earlier generation. A
//! slot is used once per generation. A slot is EMPTY in generation `n` exactly when its word still
//! says `n - 1`: a chunk is reused only after every slot says `n - 1`.

use crate::arena::owner::ProcId;
use crate::sys::atomic::{AtomicU64, Ordering};

const INC_BITS: u32 = 30;
pub(crate) const INC_MASK: u32 = (1 << INC_BITS) - 1;

/// The state of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A process is writing a message.
    Reserved(ProcId),
    /// A message is waiting.
    Ready,
    /// A process is reading the message.
    Receiving(ProcId),
    /// The message was received.
    Done,
    /// There never was a message: its writer died.
    Skipped,
    /// Like [`Phase::Skipped`], but the slot is still counted as a message that was put.
    Lost,
}

impl Phase {
    /// Whether the slot is finished: it will not change again in this generation.
    pub(crate) fn is_finished(self) -> bool {
        matches!(self, Phase::Done | Phase::Skipped)
    }
}

/// A slot's word as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen(u64);

/// What the word says about the generation asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Empty,
    In(Phase),
    /// The chunk is in another generation already: look at the queue again.
    Stale,
}

impl Seen {
    fn new(phase: Phase, inc: u32) -> Seen {
        let (kind, owner) = match phase {
            Phase::Reserved(owner) => (1, owner.as_u32()),
            Phase::Ready => (2, 0),
            Phase::Receiving(owner) => (3, owner.as_u32()),
            Phase::Lost => (4, 0),
            Phase::Done => (5, 0),
            Phase::Skipped => (6, 0),
        };
        Seen(kind << 61 | u64::from(inc & INC_MASK) << 31 | u64::from(owner))
    }

    /// How the word looks to a process at work in generation `inc`.
    #[inline]
    pub(crate) fn view(self, inc: u32) -> View {
        let own = (self.0 >> 31) as u32 & INC_MASK;
        if own == inc.wrapping_sub(1) & INC_MASK {
            return View::Empty;
        }
        if own != inc & INC_MASK {
            return View::Stale;
        }
        let owner = ProcId::from_u32(self.0 as u32 & 0x7fff_ffff);
        match (self.0 >> 61, owner) {
            (1, Some(owner)) => View::In(Phase::Reserved(owner)),
            (2, _) => View::In(Phase::Ready),
            (3, Some(owner)) => View::In(Phase::Receiving(owner)),
            (4, _) => View::In(Phase::Lost),
            (6, _) => View::In(Phase::Skipped),
            _ => View::In(Phase::Done),
        }
    }
}

#[repr(transparent)]
pub(crate) struct SlotWord(AtomicU64);

impl SlotWord {
    #[cfg(loom)]
    pub(crate) fn new() -> SlotWord {
        SlotWord(AtomicU64::new(0))
    }

    #[inline]
    pub(crate) fn look(&self) -> Seen {
        Seen(self.0.load(Ordering::SeqCst))
    }

    /// EMPTY to RESERVED, if the word still is as `seen`.
    ///
    /// Acquire pairs with the Release of the last reader's [`SlotWord::pass`]: that reader is done.
    #[inline]
    pub(crate) fn claim(&self, seen: Seen, inc: u32, me: ProcId) -> Result<(), Seen> {
        let claimed = Seen::new(Phase::Reserved(me), inc);
        self.0
            .compare_exchange(seen.0, claimed.0, Ordering::SeqCst, Ordering::SeqCst)
            .map(drop)
            .map_err(Seen)
    }

    /// Moves from one phase to the next. Returns false if the slot was no longer in `from`.
    ///
    /// The move to READY is the Release that pairs with the reader's Acquire (READY to RECEIVING):
    /// the reader sees the whole message. It is SeqCst because the writer checks for sleepers next.
    #[inline]
    pub(crate) fn pass(&self, inc: u32, from: Phase, to: Phase) -> bool {
        self.0
            .compare_exchange(
                Seen::new(from, inc).0,
                Seen::new(to, inc).0,
                Ordering::SeqCst,
                Ordering::SeqCst,
            )
            .is_ok()
    }

    /// Marks a slot as used up in `inc`. The caller must own the chunk.
    pub(crate) fn mark_used_up(&self, inc: u32) {
        self.0
            .store(Seen::new(Phase::Done, inc).0, Ordering::SeqCst);
    }

    /// Sets the word to what it reads after the kernel took the memory back.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn zero(&self) {
        self.0.store(0, Ordering::SeqCst);
    }
}
