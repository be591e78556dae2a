//! What lies in a block: one number in its cell.

use crate::numbered::numbered_enum;

numbered_enum! {
    /// What lies in a block. Every free block has the kind zero, plain bytes.
    pub(crate) enum Kind: u32 {
        Bytes = 0,
        Chunk = 1,
        Part = 2,
        Queue = 3,
        Pipe = 4,
        Lock = 5,
        RLock = 6,
        Semaphore = 7,
        Condition = 8,
        Event = 9,
        Barrier = 10,
        Value = 11,
        /// Bytes with attachments, which hold objects: see `objects/attachments.rs`.
        Attachments = 12,
        /// Holds a block that several processes map privately: see `objects/private_mapping.rs`.
        CowBuffer = 13,
        RwLock = 14,
        /// See `objects/labels.rs`.
        Label = 15,
    }
}

impl Kind {
    /// The kind with that number. A number that stands for none was overwritten; the block is treated as bytes.
    #[inline]
    pub(crate) fn from_u32(raw: u32) -> Kind {
        Kind::from_number(raw).unwrap_or(Kind::Bytes)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Bytes | Kind::Chunk | Kind::Part | Kind::Attachments | Kind::Label => "block",
            Kind::Queue => "queue",
            Kind::Pipe => "pipe",
            Kind::Lock => "lock",
            Kind::RLock => "recursive lock",
            Kind::Semaphore => "semaphore",
            Kind::Condition => "condition",
            Kind::Event => "event",
            Kind::Barrier => "barrier",
            Kind::Value => "shared value",
            Kind::CowBuffer => "copy-on-write buffer",
            Kind::RwLock => "readers-writer lock",
        }
    }

    pub(crate) fn is_channel(self) -> bool {
        matches!(self, Kind::Queue | Kind::Pipe)
    }

    /// Whether blocks of this kind start with an `ObjectHead` (`objects/object.rs`).
    pub(crate) fn is_object(self) -> bool {
        !matches!(
            self,
            Kind::Bytes | Kind::Chunk | Kind::Part | Kind::Attachments | Kind::Label
        )
    }
}
