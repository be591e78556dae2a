//! The messages in the results queue: results, notices, and the submitting process's own wake-up.

use crate::arena::owner::ProcId;
use crate::channel::Message;

use super::layout::{u32_at, u64_at};
use super::ring::RingSlot;

/// Bytes in front of every message in the results queue:
/// `kind u8 | result_kind u8 | 2 unused | worker u32 | ring slot u64`.
pub const HEADER: usize = 16;

/// The verdicts of a worker's notices: it can work, or its initializer failed.
pub(super) const READY: u8 = 1;
pub(super) const INITIALIZER_FAILED: u8 = 2;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageKind {
    /// A task's result.
    Result = 1,
    /// The task's claim was dropped without a result.
    Abandoned = 2,
    /// A worker's message outside of any task.
    Notice = 3,
    /// The submitting process wakes itself.
    Rung = 4,
}

pub(super) fn header(
    kind: MessageKind,
    result_kind: u8,
    worker: ProcId,
    ring_slot: RingSlot,
) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = kind as u8;
    bytes[1] = result_kind;
    bytes[4..8].copy_from_slice(&worker.as_u32().to_ne_bytes());
    bytes[8..].copy_from_slice(&ring_slot.to_word().to_ne_bytes());
    bytes
}

/// The bytes a worker sent.
#[derive(Debug)]
pub struct WorkerMessage(Message);

impl WorkerMessage {
    /// Parses a message; `None` for bytes that no worker sends.
    pub(super) fn parse(
        message: Message,
    ) -> Option<(MessageKind, u8, u32, RingSlot, WorkerMessage)> {
        let bytes = message.bytes();
        if bytes.len() < HEADER {
            return None;
        }
        let kind = match bytes[0] {
            1 => MessageKind::Result,
            2 => MessageKind::Abandoned,
            3 => MessageKind::Notice,
            4 => MessageKind::Rung,
            _ => return None,
        };
        let (result_kind, worker) = (bytes[1], u32_at(bytes, 4));
        let ring_slot = RingSlot::from_word(u64_at(bytes, 8));
        Some((kind, result_kind, worker, ring_slot, WorkerMessage(message)))
    }

    /// Whether the reply keeps alive the objects that its bytes refer to.
    pub fn holds_objects(&self) -> bool {
        self.0.holds_objects()
    }

    /// Whether this process owns the bytes; see [`Message::is_mine`].
    pub fn is_mine(&self) -> bool {
        self.0.is_mine()
    }

    /// The message that the worker passed to `finish` or `notify`.
    pub fn into_message(self) -> Message {
        self.0.without_front(HEADER)
    }

    /// What the worker passed to `finish` or `notify`.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes()[HEADER..]
    }
}
