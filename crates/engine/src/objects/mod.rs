//! Objects: what several processes share, how it is named, and which processes hold it. `README.md` has the buffers that
//! messages are written to, received in and used in.

pub(crate) mod attachment_index;
pub(crate) mod attachments;
pub(crate) mod cow_buffer;
pub(crate) mod cow_collapse;
pub(crate) mod handle;
mod holders;
pub(crate) mod labels;
pub(crate) mod local;
pub(crate) mod object;
pub(crate) mod object_ref;
pub(crate) mod private_mapping;
mod views;
