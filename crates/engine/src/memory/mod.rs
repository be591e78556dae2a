//! Memory: taking and freeing blocks of the [arena](crate::arena), and returning idle memory to the system. See README.md
//! in this folder for the protocols. The layers above decide what the blocks are for.

pub(crate) mod block;
mod cell_release;
mod grow;
pub(crate) mod memory_limit;
pub(crate) mod ownership_log;
pub(crate) mod page_release;
pub(crate) mod trim;
pub(crate) mod trimmer;
