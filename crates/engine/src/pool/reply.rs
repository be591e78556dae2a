//! What workers say to the submitting process: results, notices, and the bell it rings itself.

use crate::OwnerId;
use crate::channel::Message;

use super::ground::{u32_at, u64_at};
use super::tickets::Ticket;

/// Bytes in front of every message in the results queue:
/// `tone u8 | verdict u8 | 2 unused | worker u32 | ticket u64`.
pub const HEADER: usize = 16;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// A task's result.
    Result = 1,
    /// The task's claim was dropped without a result.
    Abandoned = 2,
    /// Something a worker says outside of any task.
    Notice = 3,
    /// The submitting process rang for itself.
    Rung = 4,
}

pub(super) fn header(tone: Tone, verdict: u8, worker: OwnerId, ticket: Ticket) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = tone as u8;
    bytes[1] = verdict;
    bytes[4..8].copy_from_slice(&worker.as_u32().to_ne_bytes());
    bytes[8..].copy_from_slice(&ticket.to_word().to_ne_bytes());
    bytes
}

/// The bytes a worker sent.
#[derive(Debug)]
pub struct Reply(Message);

impl Reply {
    /// Takes a message apart; `None` for bytes that no worker of ours sends.
    pub(super) fn parse(message: Message) -> Option<(Tone, u8, u32, Ticket, Reply)> {
        let bytes = message.bytes();
        if bytes.len() < HEADER {
            return None;
        }
        let tone = match bytes[0] {
            1 => Tone::Result,
            2 => Tone::Abandoned,
            3 => Tone::Notice,
            4 => Tone::Rung,
            _ => return None,
        };
        let (verdict, worker) = (bytes[1], u32_at(bytes, 4));
        let ticket = Ticket::from_word(u64_at(bytes, 8));
        Some((tone, verdict, worker, ticket, Reply(message)))
    }

    /// Whether the reply keeps objects alive that its bytes mention.
    pub fn holds_objects(&self) -> bool {
        self.0.holds_objects()
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
