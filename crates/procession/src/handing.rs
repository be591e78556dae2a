//! Handing shared objects to a process that is being started.
//!
//! An object lives while somebody holds it. So when an argument that refers to one is serialised,
//! the seat reserved for the child becomes a holder at once, before the parent can let go; and an
//! end of a pipe goes along as a descriptor. Both need to know for whom the bytes are, which
//! serde's traits have no place for: it lies in a thread-local while arguments are serialised.
//!
//! Postcard's errors drop the text of custom errors; the real reason waits here too.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use procession_engine::Handle;
use procession_engine::process::{self, OwnerId};

use crate::error::Error;

#[derive(Default)]
struct Desk {
    /// The child that is being started.
    child: Option<OwnerId>,
    /// Descriptors for it.
    keep: Vec<OwnedFd>,
    /// Why an object refused to be serialised or deserialised.
    reason: Option<Error>,
}

thread_local! {
    static DESK: RefCell<Desk> = RefCell::new(Desk::default());
    /// Whether there may be a reason; asking this costs a message nothing.
    static EXPLAINED: Cell<bool> = const { Cell::new(false) };
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
    let fresh = Desk {
        child: Some(child),
        ..Desk::default()
    };
    let clear = Clear(Some(DESK.replace(fresh)));
    let made = serialise();
    let keep = DESK.with_borrow_mut(|desk| std::mem::take(&mut desk.keep));
    drop(clear);
    (made, keep)
}

/// Makes the child that is being started a holder of the object.
pub(crate) fn hand_over(handle: &Handle, kind: &'static str) -> Result<(), Error> {
    let child = DESK
        .with_borrow(|desk| desk.child)
        .ok_or(Error::NotSpawning(kind))?;
    Ok(process::hold_for(child, handle)?)
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
