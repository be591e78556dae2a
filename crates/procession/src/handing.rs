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

/// For whom something is serialised.
#[derive(Clone, Copy)]
enum Recipient {
    /// Nobody who could be made a holder of an object.
    Nobody,
    /// A message, which can hold objects.
    Message,
    /// A child that is being started.
    Child(OwnerId),
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

thread_local! {
    static DESK: RefCell<Desk> = RefCell::new(Desk::default());
    /// For whom what is serialised next is, and what is being serialised now. Something that a `Serialize` sends
    /// on the side is not for them.
    static NEXT: Cell<Recipient> = const { Cell::new(Recipient::Nobody) };
    static NOW: Cell<Recipient> = const { Cell::new(Recipient::Nobody) };
    /// Whether it refers to any; asking this costs a message nothing.
    static ENCLOSED: Cell<bool> = const { Cell::new(false) };
    /// Whether there may be a reason; asking this costs a message nothing.
    static EXPLAINED: Cell<bool> = const { Cell::new(false) };
}

/// Says for whom what is serialised next is, while it lives.
struct For(Recipient);

impl For {
    fn recipient(recipient: Recipient) -> For {
        For(NEXT.replace(recipient))
    }
}

impl Drop for For {
    fn drop(&mut self) {
        NEXT.set(self.0);
    }
}

/// Serialises something.
#[inline]
pub(crate) fn serialising<T>(work: impl FnOnce() -> T) -> T {
    struct Outer {
        next: Recipient,
        now: Recipient,
    }
    impl Drop for Outer {
        fn drop(&mut self) {
            NEXT.set(self.next);
            NOW.set(self.now);
        }
    }
    let next = NEXT.replace(Recipient::Nobody);
    let _outer = Outer {
        next,
        now: NOW.replace(next),
    };
    work()
}

/// Serialises something that is a part of what is being serialised, and for the same recipient.
pub(crate) fn passing_on<T>(work: impl FnOnce() -> T) -> T {
    let _recipient = For::recipient(NOW.get());
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
    let child = For::recipient(Recipient::Child(child));
    let made = serialise();
    drop(child);
    let keep = DESK.with_borrow_mut(|desk| std::mem::take(&mut desk.keep));
    drop(clear);
    (made, keep)
}

/// Serialises a message, and may send it: what it refers to is [`take_enclosed`]'s meanwhile.
#[inline]
pub(crate) fn enclosing<T>(send: impl FnOnce() -> T) -> T {
    /// What a message refers to whose serialisation sends another.
    struct Outer(Vec<Held>);
    impl Drop for Outer {
        fn drop(&mut self) {
            if ENCLOSED.replace(!self.0.is_empty()) || !self.0.is_empty() {
                let outer = std::mem::take(&mut self.0);
                // A message that failed has left something.
                drop(DESK.with_borrow_mut(|desk| std::mem::replace(&mut desk.enclosed, outer)));
            }
        }
    }
    let _outer = Outer(take_enclosed());
    let _message = For::recipient(Recipient::Message);
    send()
}

/// What the message that was just serialised refers to, to be sent along.
#[inline]
pub(crate) fn take_enclosed() -> Vec<Held> {
    match ENCLOSED.replace(false) {
        true => DESK.with_borrow_mut(|desk| std::mem::take(&mut desk.enclosed)),
        false => Vec::new(),
    }
}

/// Makes whoever the bytes are for a holder of the object.
pub(crate) fn hand_over(handle: &Handle, kind: &'static str) -> Result<(), Error> {
    match NOW.get() {
        Recipient::Message => {
            let held = Held::of(handle)?;
            ENCLOSED.set(true);
            DESK.with_borrow_mut(|desk| desk.enclosed.push(held));
            Ok(())
        }
        _ => hand_to_child(handle, kind),
    }
}

/// As [`hand_over`], of what only a process that is being started can get.
pub(crate) fn hand_to_child(handle: &Handle, kind: &'static str) -> Result<(), Error> {
    match NOW.get() {
        Recipient::Child(child) => Ok(process::hold_for(child, handle)?),
        _ => Err(Error::NotSpawning(kind)),
    }
}

/// Passes a descriptor to the child that is being started; returns the number it has there.
pub(crate) fn hand_over_fd(fd: OwnedFd) -> RawFd {
    let number = fd.as_raw_fd();
    DESK.with_borrow_mut(|desk| desk.keep.push(fd));
    number
}

fn keep_reason(reason: Error) -> String {
    let text = reason.to_string();
    EXPLAINED.set(true);
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
    if EXPLAINED.get() {
        take_reason();
    }
}

/// The reason of the failure that just came out of the serialiser, if it was ours.
pub(crate) fn take_reason() -> Option<Error> {
    EXPLAINED.set(false);
    DESK.with_borrow_mut(|desk| desk.reason.take())
}
