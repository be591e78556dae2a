//! The state a worker keeps between tasks, and how tasks reach it.
//!
//! The state never leaves the thread of the worker that created it, so it may be of any type. A task that
//! panics while using the state may leave it half changed, so that state is dropped and created again for the
//! next task that needs it.

use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;

use procession_engine::process::child::{self, EntryAdapter, Function, TaskFunction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Panic};
use crate::transfer::call::{self, Failure};
use crate::transfer::codec;
use crate::transfer::panic::caught;

struct WorkerState {
    make: Rc<dyn Fn() -> Result<Box<dyn Any>, Error>>,
    state: Option<Box<dyn Any>>,
}

thread_local! {
    static WORKER_STATE: RefCell<WorkerState> = RefCell::new(WorkerState {
        make: Rc::new(|| Ok(Box::new(()))),
        state: None,
    });
}

/// Returns the request to create the worker's state by calling `function` with `args`.
pub(crate) fn init_request<F, Args, Shape>(function: F, args: &Args) -> Result<Vec<u8>, Error>
where
    F: Function<Args, Shape>,
    F::Output: 'static,
    Args: Serialize + DeserializeOwned + 'static,
    Shape: 'static,
{
    let entry = child::entry_of::<F, Shape, StateInit<Args, Shape>>(function)?;
    call::request_for_entry(entry, std::slice::from_ref(args))
}

struct StateInit<Args, Shape>(PhantomData<fn(Args) -> Shape>);

impl<F, Args, Shape> EntryAdapter<F> for StateInit<Args, Shape>
where
    F: Function<Args, Shape>,
    F::Output: 'static,
    Args: DeserializeOwned + 'static,
    Shape: 'static,
{
    fn run(function: F, input: &[u8]) -> Vec<u8> {
        let (_count, input) = input.split_at(size_of::<u32>());
        let input = input.to_vec();
        let make = move || -> Result<Box<dyn Any>, Error> {
            let args = codec::decode(&input)?;
            Ok(Box::new(function.call(args)))
        };
        let made = match caught(&make) {
            Ok(Ok(state)) => {
                let (make, state) = (Rc::new(make), Some(state));
                WORKER_STATE.set(WorkerState { make, state });
                Ok(())
            }
            Ok(Err(error)) => Err(Failure::Undelivered(error.to_string())),
            Err(panic) => Err(Failure::Panicked(panic)),
        };
        codec::encode(&made).expect("text can always be encoded")
    }
}

/// Returns the request to call `function` once for each of `args`, in a worker that keeps an `S`.
pub(crate) fn request<S, F, Args, Shape, Sent>(function: F, args: &[Sent]) -> Result<Vec<u8>, Error>
where
    S: 'static,
    F: TaskFunction<S, Args, Shape>,
    F::Output: Serialize,
    Args: DeserializeOwned + 'static,
    Shape: 'static,
    Sent: Serialize,
{
    let entry = child::entry_of::<F, Shape, EachWith<S, Args, Shape>>(function)?;
    call::request_for_entry(entry, args)
}

struct EachWith<S, Args, Shape>(PhantomData<fn(S, Args) -> Shape>);

impl<F, S, Args, Shape> EntryAdapter<F> for EachWith<S, Args, Shape>
where
    S: 'static,
    F: TaskFunction<S, Args, Shape>,
    F::Output: Serialize,
    Args: DeserializeOwned + 'static,
    Shape: 'static,
{
    fn run(function: F, input: &[u8]) -> Vec<u8> {
        let (count, args) = call::counted(input);
        call::responses(count, args, |args| with_state(function, args))
    }
}

fn with_state<S, F, Args, Shape>(function: F, args: Args) -> Result<F::Output, Panic>
where
    S: 'static,
    F: TaskFunction<S, Args, Shape>,
{
    let mut borrowed: Option<Box<S>> = None;
    let slot = &mut borrowed;
    let done = caught(move || function.call(move || &mut **slot.insert(take()), args));
    match borrowed {
        Some(state) if done.is_ok() => {
            WORKER_STATE.with_borrow_mut(|worker| worker.state = Some(state))
        }
        // Ignore a panic of this drop: the task's own panic is reported.
        state => drop(caught(|| drop(state))),
    }
    done
}

fn take<S: 'static>() -> Box<S> {
    let (state, make) =
        WORKER_STATE.with_borrow_mut(|worker| (worker.state.take(), Rc::clone(&worker.make)));
    let state = state.map_or_else(|| make(), Ok);
    state
        .unwrap_or_else(|error| panic!("this worker's state cannot be created again: {error}"))
        .downcast()
        .expect("the type system ensures that the pool's functions take its state")
}

/// Drops the state, if there is one.
pub(crate) fn drop_state() {
    drop(WORKER_STATE.with_borrow_mut(|worker| worker.state.take()));
}
