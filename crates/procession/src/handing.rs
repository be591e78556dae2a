//! Handing shared objects to another process, with arguments or in a message.
//!
//! An object lives while somebody holds it. So when an argument that refers to one is serialised,
//! the seat reserved for the child becomes a holder at once, before the parent can let go; and an
//! end of a pipe goes along as a descriptor. A message holds what it refers to until it is received.
//! Both need to know for whom the bytes are, which serde's traits have no place for: it lies in a
//! thread-local while they are serialised.
//!
//! Postcard's errors drop the text of custom errors; the real reason waits here too.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use procession_engine::process::{self, OwnerId};
use procession_engine::{Handle, Held};

use crate::error::Error;

/// For whom something is serialised; a number, since it is put down and taken up for each message.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Recipient(u32);

impl Recipient {
    /// Nobody who could be made a holder of an object.
    const NOBODY: Recipient = Recipient(0);
    /// A message, which can hold objects; the number of no seat.
    const MESSAGE: Recipient = Recipient(u32::MAX);

    /// A child that is being started.
    fn child(seat: OwnerId) -> Recipient {
        Recipient(seat.as_u32())
    }

    fn seat(self) -> Option<OwnerId> {
        OwnerId::from_u32(self.0).filter(|_| self != Recipient::MESSAGE)
    }
}

#[derive(Default)]
struct Desk {
    /// Descriptors for the child.
    keep: Vec<OwnedFd>,
    /// What the message that is being serialised refers to.
    enclosed: Vec<Held>,
    /// Why an object refused to be serialised or deserialised.
    reason: Option<Error>,
}

/// What every serialisation looks at, in one place so that it costs a message next to nothing.
#[derive(Clone, Copy)]
struct State {
    /// For whom what is serialised next is, and what is being serialised now. Something that a `Serialize` sends
    /// on the side is not for them.
    next: Recipient,
    now: Recipient,
    /// Whether the message that is being serialised refers to any object.
    enclosed: bool,
    /// Whether there may be a reason.
    explained: bool,
}

thread_local! {
    static DESK: RefCell<Desk> = RefCell::new(Desk::default());
    static STATE: Cell<State> = const {
        Cell::new(State {
            next: Recipient::NOBODY,
            now: Recipient::NOBODY,
            enclosed: false,
            explained: false,
        })
    };
}

/// While it lives, something is serialised.
pub(crate) struct Serialising {
    outer: State,
    /// Where its own begin in what is enclosed: before them are those of a message whose `Serialize` sends another.
    from: usize,
}

impl Serialising {
    /// For whoever was said.
    #[inline]
    pub(crate) fn next() -> Serialising {
        Serialising::of(STATE.get().next)
    }

    /// As a message.
    #[inline]
    pub(crate) fn message() -> Serialising {
        Serialising::of(Recipient::MESSAGE)
    }

    #[inline]
    fn of(recipient: Recipient) -> Serialising {
        let outer = STATE.get();
        STATE.set(State {
            next: Recipient::NOBODY,
            now: recipient,
            enclosed: false,
            explained: outer.explained,
        });
        let from = match outer.enclosed {
            true => enclosed_so_far(),
            false => 0,
        };
        Serialising { outer, from }
    }

    /// What it refers to, to be sent along.
    #[inline]
    pub(crate) fn take_enclosed(&self) -> Vec<Held> {
        match STATE.get().enclosed {
            true => take_enclosed(self.from),
            false => Vec::new(),
        }
    }
}

impl Drop for Serialising {
    #[inline]
    fn drop(&mut self) {
        let State {
            enclosed,
            explained,
            ..
        } = STATE.get();
        if enclosed {
            // A message that failed has left something.
            drop(take_enclosed(self.from));
        }
        STATE.set(State {
            explained,
            ..self.outer
        });
    }
}

#[cold]
fn enclosed_so_far() -> usize {
    DESK.with_borrow(|desk| desk.enclosed.len())
}

#[cold]
fn take_enclosed(from: usize) -> Vec<Held> {
    STATE.set(State {
        enclosed: false,
        ..STATE.get()
    });
    DESK.with_borrow_mut(|desk| desk.enclosed.split_off(from))
}

/// Says for whom what is serialised next is, while it lives.
struct For(Recipient);

impl For {
    fn recipient(recipient: Recipient) -> For {
        let state = STATE.get();
        STATE.set(State {
            next: recipient,
            ..state
        });
        For(state.next)
    }
}

impl Drop for For {
    fn drop(&mut self) {
        STATE.set(State {
            next: self.0,
            ..STATE.get()
        });
    }
}

/// Serialises something that is a part of what is being serialised, and for the same recipient.
pub(crate) fn passing_on<T>(work: impl FnOnce() -> T) -> T {
    let _recipient = For::recipient(STATE.get().now);
    work()
}

/// Runs `serialise` such that what it meets is handed to `child`. Returns the descriptors too.
pub(crate) fn handing_to<T>(child: OwnerId, serialise: impl FnOnce() -> T) -> (T, Vec<OwnedFd>) {
    struct Clear(Option<Desk>);
    impl Drop for Clear {
        fn drop(&mut self) {
            if let Some(before) = self.0.take() {
                DESK.set(before);
            }
        }
    }
    let clear = Clear(Some(DESK.replace(Desk::default())));
    let child = For::recipient(Recipient::child(child));
    let made = serialise();
    drop(child);
    let keep = DESK.with_borrow_mut(|desk| std::mem::take(&mut desk.keep));
    drop(clear);
    (made, keep)
}

/// Makes whoever the bytes are for a holder of the object.
pub(crate) fn hand_over(handle: &Handle, kind: &'static str) -> Result<(), Error> {
    let state = STATE.get();
    if state.now != Recipient::MESSAGE {
        return hand_to_child(handle, kind);
    }
    let held = Held::of(handle)?;
    STATE.set(State {
        enclosed: true,
        ..state
    });
    DESK.with_borrow_mut(|desk| desk.enclosed.push(held));
    Ok(())
}

/// As [`hand_over`], of what only a process that is being started can get.
pub(crate) fn hand_to_child(handle: &Handle, kind: &'static str) -> Result<(), Error> {
    let child = STATE.get().now.seat().ok_or(Error::NotSpawning(kind))?;
    Ok(process::hold_for(child, handle)?)
}

/// Passes a descriptor to the child that is being started; returns the number it has there.
pub(crate) fn hand_over_fd(fd: OwnedFd) -> RawFd {
    let number = fd.as_raw_fd();
    DESK.with_borrow_mut(|desk| desk.keep.push(fd));
    number
}

fn explain_later(explained: bool) {
    STATE.set(State {
        explained,
        ..STATE.get()
    });
}

fn keep_reason(reason: Error) -> String {
    let text = reason.to_string();
    explain_later(true);
    DESK.with_borrow_mut(|desk| desk.reason = Some(reason));
    text
}

/// Keeps the reason of a failure that is about to pass through the serialiser.
pub(crate) fn explain<E: serde::de::Error>(reason: Error) -> E {
    E::custom(keep_reason(reason))
}

/// As [`explain`], on the way out.
pub(crate) fn explain_ser<E: serde::ser::Error>(reason: Error) -> E {
    E::custom(keep_reason(reason))
}

/// Forgets the reason of a failure that nobody asked about.
#[inline]
pub(crate) fn forget_reason() {
    if STATE.get().explained {
        take_reason();
    }
}

/// The reason of the failure that just came out of the serialiser, if it was ours.
pub(crate) fn take_reason() -> Option<Error> {
    explain_later(false);
    DESK.with_borrow_mut(|desk| desk.reason.take())
}
