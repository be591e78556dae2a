//! A queue that holds one value: its latest message, read without being received.
//!
//! A process that replaces the value puts the new message and then receives the older ones. If it
//! is killed in between, both stay, and the latest is still the value. No other process may use the
//! queue meanwhile: a lock protects it.

use std::sync::atomic::Ordering;

use crate::arena::cell::BlockId;
use crate::channel::chunk_list::ListCursor;
use crate::channel::chunk_list::chunk::Chunk;
use crate::channel::chunk_list::slot::{Phase, View};
use crate::channel::counting::message_count::Step;
use crate::channel::recovery;
use crate::error::{Error, Result};

impl<'a> ListCursor<'a> {
    /// Copies the latest message into `out`. Returns false if there is none.
    pub(super) fn latest(&self, out: &mut Vec<u8>) -> Result<bool> {
        let mut copied = Ok(false);
        let first = self.first_to_receive()?;
        self.walk(first, |chunk, index, _| {
            match recovery::look(self, chunk, index) {
                View::In(Phase::Ready) => {
                    copied = self.copy(chunk, index, out).map(|()| true);
                    Step::NextSlot
                }
                View::In(_) => Step::NextSlot,
                View::Empty => Step::Done,
                View::Stale => Step::Restart,
            }
        })?;
        copied
    }

    fn copy(&self, chunk: &Chunk<'a>, index: u32, out: &mut Vec<u8>) -> Result<()> {
        let slot = chunk.slot(index);
        let length = slot.length.load(Ordering::Relaxed) as usize;
        out.clear();
        let Some(block) = BlockId::new(slot.block.load(Ordering::Acquire)) else {
            out.resize(length.min(chunk.body_size()), 0);
            chunk.read(index, out);
            return Ok(());
        };
        let payload = self.arena.payload(block)?;
        let start = self.arena.attachment_offset(block).unwrap_or(0);
        if length as u64 > self.arena.capacity(block) || start > length {
            return Err(Error::BadHandle);
        }
        out.resize(length - start, 0);
        // SAFETY: the block is never unmapped and holds this many bytes (checked). `out` is memory
        // of this process alone, so they do not overlap. If others write there meanwhile, the bytes
        // are still bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(payload.add(start).as_ptr(), out.as_mut_ptr(), out.len());
        }
        Ok(())
    }
}
