//! Handing shared objects to another process, with arguments or in a message.
//!
//! An object lives while somebody holds it. So when an argument that refers to one is serialised,
//! the proc_id reserved for the child becomes a holder at once, before the parent can let go; and an
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
struct Destination(u32);

impl Destination {
    /// Nobody who could be made a holder of an object.
    const NOBODY: Destination = Destination(0);
    /// A message, which can hold objects; the number of no proc_id.
    const MESSAGE: Destination = Destination(u32::MAX);

    /// A child that is being started.
    fn child(proc_id: OwnerId) -> Destination {
        Destination(proc_id.as_u32())
    }

    fn proc_id(self) -> Option<OwnerId> {
        OwnerId::from_u32(self.0).filter(|_| self != Destination::MESSAGE)
    }
}

#[derive(Default)]
struct TransferContext {
    /// Descriptors for the child.
    keep: Vec<OwnedFd>,
    /// What the message that is being serialised refers to.
    attached: Vec<Held>,
    /// Why an object refused to be serialised or deserialised.
    reason: Option<Error>,
}

/// What every serialisation looks at, in one place so that it costs a message next to nothing.
#[derive(Clone, Copy)]
struct State {
    /// For whom what is serialised next is, and what is being serialised now. Something that a `Serialize` sends
    /// on the side is not for them.
    next: Destination,
    now: Destination,
    /// Whether the message that is being serialised refers to any object.
    attached: bool,
    /// Whether there may be a reason.
    failed: bool,
}

thread_local! {
    static CONTEXT: RefCell<TransferContext> = RefCell::new(TransferContext::default());
    static STATE: Cell<State> = const {
        Cell::new(State {
            next: Destination::NOBODY,
            now: Destination::NOBODY,
            attached: false,
            failed: false,
        })
    };
}

/// While it lives, something is serialised.
pub(crate) struct Serialising {
    outer: State,
    /// Where its own begin in what is attached: before them are those of a message whose `Serialize` sends another.
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
        Serialising::of(Destination::MESSAGE)
    }

    #[inline]
    fn of(destination: Destination) -> Serialising {
        let outer = STATE.get();
        STATE.set(State {
            next: Destination::NOBODY,
            now: destination,
            attached: false,
            failed: outer.failed,
        });
        let from = match outer.attached {
            true => attached_so_far(),
            false => 0,
        };
        Serialising { outer, from }
    }

    /// What it refers to, to be sent along.
    #[inline]
    pub(crate) fn take_attached(&self) -> Vec<Held> {
        match STATE.get().attached {
            true => take_attached(self.from),
            false => Vec::new(),
        }
    }
}

impl Drop for Serialising {
    #[inline]
    fn drop(&mut self) {
        let State {
            attached, failed, ..
        } = STATE.get();
        if attached {
            // A message that failed has left something.
            drop(take_attached(self.from));
        }
        STATE.set(State {
            failed,
            ..self.outer
        });
    }
}

#[cold]
fn attached_so_far() -> usize {
    CONTEXT.with_borrow(|context| context.attached.len())
}

#[cold]
fn take_attached(from: usize) -> Vec<Held> {
    STATE.set(State {
        attached: false,
        ..STATE.get()
    });
    CONTEXT.with_borrow_mut(|context| context.attached.split_off(from))
}

/// Says for whom what is serialised next is, while it lives.
struct DestinationGuard(Destination);

impl DestinationGuard {
    fn set(destination: Destination) -> DestinationGuard {
        let state = STATE.get();
        STATE.set(State {
            next: destination,
            ..state
        });
        DestinationGuard(state.next)
    }
}

impl Drop for DestinationGuard {
    fn drop(&mut self) {
        STATE.set(State {
            next: self.0,
            ..STATE.get()
        });
    }
}

/// Serialises something that is a part of what is being serialised, and for the same destination.
pub(crate) fn nested<T>(work: impl FnOnce() -> T) -> T {
    let _recipient = DestinationGuard::set(STATE.get().now);
    work()
}

/// Runs `serialise` such that what it meets is handed to `child`. Returns the descriptors too.
pub(crate) fn transfer_to<T>(child: OwnerId, serialise: impl FnOnce() -> T) -> (T, Vec<OwnedFd>) {
    struct ContextGuard(Option<TransferContext>);
    impl Drop for ContextGuard {
        fn drop(&mut self) {
            if let Some(before) = self.0.take() {
                CONTEXT.set(before);
            }
        }
    }
    let guard = ContextGuard(Some(CONTEXT.replace(TransferContext::default())));
    let child = DestinationGuard::set(Destination::child(child));
    let made = serialise();
    drop(child);
    let keep = CONTEXT.with_borrow_mut(|context| std::mem::take(&mut context.keep));
    drop(guard);
    (made, keep)
}

/// Makes whoever the bytes are for a holder of the object.
pub(crate) fn attach(handle: &Handle, kind: &'static str) -> Result<(), Error> {
    let state = STATE.get();
    if state.now != Destination::MESSAGE {
        return attach_to_child(handle, kind);
    }
    let held = Held::of(handle)?;
    STATE.set(State {
        attached: true,
        ..state
    });
    CONTEXT.with_borrow_mut(|context| context.attached.push(held));
    Ok(())
}

/// As [`attach`], of what only a process that is being started can get.
pub(crate) fn attach_to_child(handle: &Handle, kind: &'static str) -> Result<(), Error> {
    let child = STATE.get().now.proc_id().ok_or(Error::NotSpawning(kind))?;
    Ok(process::hold_for(child, handle)?)
}

/// Passes a descriptor to the child that is being started; returns the number it has there.
pub(crate) fn attach_fd(fd: OwnedFd) -> RawFd {
    let number = fd.as_raw_fd();
    CONTEXT.with_borrow_mut(|context| context.keep.push(fd));
    number
}

fn set_failed(failed: bool) {
    STATE.set(State {
        failed,
        ..STATE.get()
    });
}

fn store_reason(reason: Error) -> String {
    let text = reason.to_string();
    set_failed(true);
    CONTEXT.with_borrow_mut(|context| context.reason = Some(reason));
    text
}

/// Keeps the reason of a failure that is about to pass through the serialiser.
pub(crate) fn fail_de<E: serde::de::Error>(reason: Error) -> E {
    E::custom(store_reason(reason))
}

/// As [`fail_de`], on the way out.
pub(crate) fn fail_ser<E: serde::ser::Error>(reason: Error) -> E {
    E::custom(store_reason(reason))
}

/// Forgets the reason of a failure that nobody asked about.
#[inline]
pub(crate) fn forget_reason() {
    if STATE.get().failed {
        take_reason();
    }
}

/// The reason of the failure that just came out of the serialiser, if it was ours.
pub(crate) fn take_reason() -> Option<Error> {
    set_failed(false);
    CONTEXT.with_borrow_mut(|context| context.reason.take())
}
