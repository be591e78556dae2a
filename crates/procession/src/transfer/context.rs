//! Sends shared objects to another process, in arguments or in a message.
//!
//! An object lives while a process or a message holds it. When an argument refers to one, serialising it makes
//! the process entry reserved for the child a holder at once, before the parent can drop it; the end of a pipe
//! goes along as a descriptor. A message holds its objects until it is received. Both need to know the
//! destination of the bytes. Serde's traits have no parameter for that, so the destination is in a thread-local
//! during serialisation.
//!
//! Postcard drops the text of custom errors, so the real reason is stored here as well.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use procession_engine::process::{self, ProcId};
use procession_engine::{Handle, ObjectRef};

use crate::error::Error;

/// The destination of serialised bytes. A plain number, because it is set and reset for each message.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Destination(u32);

impl Destination {
    /// No process or message that could hold an object.
    const NONE: Destination = Destination(0);
    /// A message, which can hold objects. This is the number of no process.
    const MESSAGE: Destination = Destination(u32::MAX);

    /// A child that is being started.
    fn child(proc_id: ProcId) -> Destination {
        Destination(proc_id.as_u32())
    }

    fn proc_id(self) -> Option<ProcId> {
        ProcId::from_u32(self.0).filter(|_| self != Destination::MESSAGE)
    }
}

#[derive(Default)]
struct TransferContext {
    /// Descriptors for the child.
    keep: Vec<OwnedFd>,
    /// The objects of the message that is being serialised.
    attached: Vec<ObjectRef>,
    /// Why an object could not be serialised or deserialised.
    reason: Option<Error>,
}

/// What every serialisation reads, in one cell, so that a message pays almost nothing for it.
#[derive(Clone, Copy)]
struct State {
    /// The destination of the next serialisation, and of the current one. They differ because a `Serialize`
    /// may itself send something else to another destination.
    next: Destination,
    now: Destination,
    /// Whether the current message refers to any object.
    attached: bool,
    /// Whether a reason may be stored.
    failed: bool,
}

thread_local! {
    static CONTEXT: RefCell<TransferContext> = RefCell::new(TransferContext::default());
    static STATE: Cell<State> = const {
        Cell::new(State {
            next: Destination::NONE,
            now: Destination::NONE,
            attached: false,
            failed: false,
        })
    };
}

/// A serialisation in progress.
pub(crate) struct Serialising {
    outer: State,
    /// The index of its first attached object. Earlier ones belong to an outer message, whose `Serialize`
    /// sends this one.
    from: usize,
}

impl Serialising {
    /// Begins a serialisation for the destination that was set.
    #[inline]
    pub(crate) fn next() -> Serialising {
        Serialising::of(STATE.get().next)
    }

    /// Begins the serialisation of a message.
    #[inline]
    pub(crate) fn message() -> Serialising {
        Serialising::of(Destination::MESSAGE)
    }

    #[inline]
    fn of(destination: Destination) -> Serialising {
        let outer = STATE.get();
        STATE.set(State {
            next: Destination::NONE,
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

    /// Takes the objects the message refers to, to be sent along.
    #[inline]
    pub(crate) fn take_attached(&self) -> Vec<ObjectRef> {
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
            // A message that failed has left some.
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
fn take_attached(from: usize) -> Vec<ObjectRef> {
    STATE.set(State {
        attached: false,
        ..STATE.get()
    });
    CONTEXT.with_borrow_mut(|context| context.attached.split_off(from))
}

/// Sets the destination of the next serialisation until it is dropped.
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

/// Serialises a part of the current value for the same destination.
pub(crate) fn nested<T>(work: impl FnOnce() -> T) -> T {
    let _recipient = DestinationGuard::set(STATE.get().now);
    work()
}

/// Runs `serialise` with `child` as the destination. Also returns the descriptors for the child.
pub(crate) fn transfer_to<T>(child: ProcId, serialise: impl FnOnce() -> T) -> (T, Vec<OwnedFd>) {
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

/// Makes the destination a holder of the object.
pub(crate) fn attach(handle: &Handle, kind: &'static str) -> Result<(), Error> {
    let state = STATE.get();
    if state.now != Destination::MESSAGE {
        return attach_to_child(handle, kind);
    }
    let held = ObjectRef::of(handle)?;
    STATE.set(State {
        attached: true,
        ..state
    });
    CONTEXT.with_borrow_mut(|context| context.attached.push(held));
    Ok(())
}

/// Like [`attach`], for objects that only a child being started can receive.
pub(crate) fn attach_to_child(handle: &Handle, kind: &'static str) -> Result<(), Error> {
    let child = STATE.get().now.proc_id().ok_or(Error::NotSpawning(kind))?;
    Ok(process::hold_for(child, handle)?)
}

/// Passes a descriptor to the child being started, and returns its number there.
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

/// Stores the reason of a failure, and returns an error that carries it through the deserialiser.
pub(crate) fn fail_de<E: serde::de::Error>(reason: Error) -> E {
    E::custom(store_reason(reason))
}

/// Like [`fail_de`], for the serialiser.
pub(crate) fn fail_ser<E: serde::ser::Error>(reason: Error) -> E {
    E::custom(store_reason(reason))
}

/// Discards a reason that no one has asked for.
#[inline]
pub(crate) fn forget_reason() {
    if STATE.get().failed {
        take_reason();
    }
}

/// Takes the reason of the failure that just came out of the serialiser, if this crate caused it.
pub(crate) fn take_reason() -> Option<Error> {
    set_failed(false);
    CONTEXT.with_borrow_mut(|context| context.reason.take())
}
