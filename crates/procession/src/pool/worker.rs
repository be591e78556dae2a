//! What a worker process does.

use std::fmt;
use std::sync::Arc;

use procession_engine::error::{GetError, PutError};
use procession_engine::pool::{Board, Standing, Workbench};
use procession_engine::{Deadline, Handle, process};
use serde::de::Deserializer;
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};

use super::state;
use crate::call::{self, Failure};
use crate::error::{Error, Result};
use crate::handing;
use crate::panic;

/// The bytes are the answer to an order.
pub(super) const ANSWER: u8 = 0;
/// The bytes are the reason why there is none.
pub(super) const REFUSAL: u8 = 1;

/// What a worker is told when it is started.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    pub(super) board: BoardName,
    /// In the order in which they are to be called.
    pub(super) initializers: Vec<Initializer>,
    pub(super) max_tasks: Option<u64>,
}

/// A board on its way to a worker.
#[derive(Debug)]
pub(super) struct BoardName {
    name: Handle,
    /// What the worker has to hold to open it.
    parts: Vec<Handle>,
}

impl BoardName {
    pub(super) fn of(board: &Board) -> BoardName {
        BoardName {
            name: board.handle(),
            parts: board.handles().to_vec(),
        }
    }
}

impl Serialize for BoardName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        for part in &self.parts {
            handing::hand_over(part, "Pool").map_err(handing::explain_ser)?;
        }
        self.name.to_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BoardName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BoardName, D::Error> {
        let name = Handle::from_bytes(&<[u8; 32]>::deserialize(deserializer)?);
        let name = name.map_err(|error| handing::explain(error.into()))?;
        Ok(BoardName {
            name,
            parts: Vec::new(),
        })
    }
}

/// A call that every worker makes first.
#[derive(Clone)]
pub(super) enum Initializer {
    /// Encodes it anew for each worker, so that each is handed what the arguments refer to.
    Recipe(Arc<dyn Fn() -> Result<Vec<u8>, Error> + Send + Sync>),
    /// As it reached the worker.
    Order(Vec<u8>),
}

impl Serialize for Initializer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Initializer::Recipe(recipe) => handing::passing_on(|| recipe())
                .map_err(handing::explain_ser)?
                .serialize(serializer),
            Initializer::Order(_) => Err(S::Error::custom("an initializer is not passed on")),
        }
    }
}

impl<'de> Deserialize<'de> for Initializer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Initializer, D::Error> {
        Vec::deserialize(deserializer).map(Initializer::Order)
    }
}

impl fmt::Debug for Initializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initializer(..)")
    }
}

/// Works until the board is closed, or this worker has done its share.
pub(super) fn work(orders: Orders) -> Result<(), Failure> {
    let failed = |error: &dyn fmt::Display| Failure::Undelivered(error.to_string());
    let bench = Workbench::open(&orders.board.name).map_err(|error| failed(&error))?;
    for initializer in &orders.initializers {
        let Initializer::Order(order) = initializer else {
            continue;
        };
        let answer = call::carry_out(order);
        end_copy(&bench, answer.is_err());
        let answer = answer.map_err(Failure::Undelivered)?;
        call::next_result::<()>(&mut &answer[..]).map_err(|error| failed(&error))??;
    }
    bench.notify(ANSWER, &[]).map_err(|error| failed(&error))?;
    // A task's panic is its error; nobody has to read about it twice.
    let done = panic::quietly(|| work_at(&bench, orders.max_tasks.unwrap_or(u64::MAX)));
    state::let_go();
    done
}

fn work_at(bench: &Workbench, mut left: u64) -> Result<(), Failure> {
    let failed = |error: &dyn fmt::Display| Failure::Undelivered(error.to_string());
    while left > 0 {
        let mut claim = match bench.claim(Deadline::NEVER) {
            Ok(claim) => claim,
            Err(GetError::Closed) => return Ok(()),
            Err(GetError::Empty | GetError::Interrupted) => continue,
            Err(error) => {
                end_copy(bench, true);
                return Err(failed(&error));
            }
        };
        left -= 1;
        let answer = call::carry_out(claim.bytes());
        end_copy(bench, answer.is_err());
        let sent = match answer {
            Ok(answer) => claim.finish(ANSWER, &[&answer]),
            Err(reason) => claim.finish(REFUSAL, &[reason.as_bytes()]),
        };
        let standing = match sent {
            // No memory for the result: there is some for the reason.
            Err(PutError::Failed(error)) => claim.finish(REFUSAL, &[error.to_string().as_bytes()]),
            sent => sent,
        };
        match standing {
            Ok(Standing::Good) => {}
            Ok(Standing::Doomed) => wait_for_the_end(),
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(())
}

/// Ends a copy of the worker that a task forked and that came back from it: the result is the worker's, and so are the
/// next task and the pool's word that the worker ended.
fn end_copy(bench: &Workbench, failed: bool) {
    if !bench.is_here() {
        process::leave_at_once(failed.into());
    }
}

/// The task of this worker was given up on: it is about to be killed.
fn wait_for_the_end() -> ! {
    loop {
        std::thread::park();
    }
}
