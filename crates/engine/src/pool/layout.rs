//! The memory of a task queue: its words, its ring slots and its records, in one shared object.
//!
//! ```text
//!    0  magic u64 | capacity u32 | closed u32
//!   64  head u64        128  tail u64        192  doorbell u32       256  handle of the results queue
//!  320  dismissed: a u32 for each slot of the process table, the owner id of the worker that is to exit
//!       ring slots: capacity x u64
//!       records: capacity x 256 bytes, 64-aligned
//! ```
//!
//! A record: `state u64 | job u64 | index u64 | started_at u64 | attempt u32 | length u32 | handle of the payload, 32
//! bytes | position u32 | 4 unused | payload of up to 168 bytes`. A longer payload lies in an object of its own. The
//! submitting process keeps that object alive until the task is done.

use crate::arena::layout::MAX_PROCESSES;
use crate::arena::owner::ProcId;
use crate::error::{Error, Result};
use crate::eventcount::EventCount;
use crate::objects::handle::Handle;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::value::SharedBytes;

use super::ring::RingMemory;

const MAGIC: u64 = u64::from_le_bytes(*b"procpool");
const CLOSED: usize = 12;
const HEAD: usize = 64;
const TAIL: usize = 128;
const DOORBELL: usize = 192;
const RESULTS: usize = 256;
const DISMISSED: usize = 320;
const RING: usize = DISMISSED + MAX_PROCESSES * 4;

const RECORD: usize = 256;
const JOB: usize = 8;
const STARTED_AT: usize = 24;
const ATTEMPT: usize = 32;
const HANDLE: usize = 40;
const POSITION: usize = 72;
const INLINE: usize = 80;

/// The longest payload that fits into the record itself.
pub(super) const INLINE_MAX: usize = RECORD - INLINE;

/// A payload as a worker reads it.
#[derive(Debug)]
pub(super) enum Payload {
    Inline([u8; INLINE_MAX], usize),
    Spilled(Vec<u8>),
}

/// The part of a record that is written once per task and read once per claim.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    pub(super) job: u64,
    pub(super) index: u64,
    pub(super) attempt: u32,
    pub(super) length: u32,
}

#[derive(Debug)]
pub(super) struct SharedState {
    bytes: SharedBytes,
    capacity: u32,
    records: usize,
}

fn records_at(capacity: u32) -> usize {
    (RING + capacity as usize * 8).next_multiple_of(64)
}

impl SharedState {
    /// Allocates memory for `capacity` tasks, a power of two.
    pub(super) fn new(capacity: u32, results: &Handle) -> Result<SharedState> {
        let records = records_at(capacity);
        let bytes = SharedBytes::new(records + capacity as usize * RECORD)?;
        let mut header = [0; 16];
        header[..8].copy_from_slice(&MAGIC.to_ne_bytes());
        header[8..12].copy_from_slice(&capacity.to_ne_bytes());
        bytes.write_at(0, &header);
        bytes.write_at(RESULTS, &results.to_bytes());
        Ok(SharedState {
            bytes,
            capacity,
            records,
        })
    }

    /// Opens the same memory in another process. Also returns the handle of its results queue.
    pub(super) fn open(handle: &Handle) -> Result<(SharedState, Handle)> {
        let bytes = SharedBytes::open(handle)?;
        let mut header = [0; 16];
        let mut results = [0; 32];
        if bytes.len() > RING {
            bytes.read_at(0, &mut header);
            bytes.read_at(RESULTS, &mut results);
        }
        let capacity = u32_at(&header, 8);
        let records = records_at(capacity);
        let fits =
            capacity.is_power_of_two() && bytes.len() >= records + capacity as usize * RECORD;
        if u64_at(&header, 0) != MAGIC || !fits {
            return Err(Error::BadHandle);
        }
        let shared = SharedState {
            bytes,
            capacity,
            records,
        };
        Ok((shared, Handle::from_bytes(&results)?))
    }

    pub(super) fn handle(&self) -> Handle {
        self.bytes.handle()
    }

    pub(super) fn close(&self) {
        self.bytes.atomic_u32(CLOSED).store(1, Ordering::SeqCst);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.bytes.atomic_u32(CLOSED).load(Ordering::SeqCst) != 0
    }

    /// The dismissal word of the worker's process-table slot. It holds a whole owner id, so it does not match a later
    /// process in the same slot.
    fn dismissed(&self, worker: ProcId) -> &AtomicU32 {
        let slot = worker.slot() as usize % MAX_PROCESSES;
        self.bytes.atomic_u32(DISMISSED + slot * 4)
    }

    pub(super) fn dismiss(&self, worker: ProcId) {
        self.dismissed(worker)
            .store(worker.as_u32(), Ordering::SeqCst);
    }

    pub(super) fn is_dismissed(&self, worker: ProcId) -> bool {
        self.dismissed(worker).load(Ordering::SeqCst) == worker.as_u32()
    }

    fn record(&self, number: u32) -> usize {
        self.records + (number % self.capacity) as usize * RECORD
    }

    /// Writes a FREE record. Returns the object that holds the payload if the payload does not fit into the record.
    /// That object must live as long as the task.
    pub(super) fn write(
        &self,
        number: u32,
        (job, index): (u64, u64),
        parts: &[&[u8]],
    ) -> Result<Option<SharedBytes>> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let short = u32::try_from(length)
            .map_err(|_| Error::Invalid("a task's arguments are limited to 4 GiB".into()))?;
        let at = self.record(number);
        let mut fields = [0; INLINE - JOB];
        fields[..8].copy_from_slice(&job.to_ne_bytes());
        fields[8..16].copy_from_slice(&index.to_ne_bytes());
        fields[28..32].copy_from_slice(&short.to_ne_bytes());
        let spilled = if length > INLINE_MAX {
            let object = SharedBytes::new(length)?;
            fields[32..64].copy_from_slice(&object.handle().to_bytes());
            write_parts(&object, 0, parts);
            Some(object)
        } else {
            write_parts(&self.bytes, at + INLINE, parts);
            None
        };
        self.bytes.write_at(at + JOB, &fields);
        Ok(spilled)
    }

    /// Counts one more attempt in a FREE record that keeps its payload.
    pub(super) fn write_attempt(&self, number: u32, attempt: u32) {
        let at = self.record(number);
        self.bytes.write_at(at + ATTEMPT, &attempt.to_ne_bytes());
        self.bytes
            .atomic_u64(at + STARTED_AT)
            .store(0, Ordering::Relaxed);
        self.position(number).store(0, Ordering::Relaxed);
    }

    pub(super) fn read(&self, number: u32) -> Fields {
        let mut fields = [0; HANDLE - JOB];
        self.bytes.read_at(self.record(number) + JOB, &mut fields);
        Fields {
            job: u64_at(&fields, 0),
            index: u64_at(&fields, 8),
            attempt: u32_at(&fields, ATTEMPT - JOB),
            length: u32_at(&fields, ATTEMPT - JOB + 4),
        }
    }

    pub(super) fn payload(&self, number: u32, length: u32) -> Result<Payload> {
        let at = self.record(number);
        let length = length as usize;
        if length <= INLINE_MAX {
            let mut bytes = [0; INLINE_MAX];
            self.bytes.read_at(at + INLINE, &mut bytes[..length]);
            return Ok(Payload::Inline(bytes, length));
        }
        let mut handle = [0; 32];
        self.bytes.read_at(at + HANDLE, &mut handle);
        let object = SharedBytes::open(&Handle::from_bytes(&handle)?)?;
        if object.len() < length {
            return Err(Error::BadHandle);
        }
        let mut bytes = vec![0; length];
        object.read_at(0, &mut bytes);
        Ok(Payload::Spilled(bytes))
    }

    /// The position of the item that the task's worker has come to.
    pub(super) fn position(&self, number: u32) -> &AtomicU32 {
        self.bytes.atomic_u32(self.record(number) + POSITION)
    }

    /// When the task's worker began, on the machine's monotonic clock; 0 until the worker has written it.
    pub(super) fn started_at(&self, number: u32) -> &AtomicU64 {
        self.bytes.atomic_u64(self.record(number) + STARTED_AT)
    }
}

impl RingMemory for SharedState {
    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn state(&self, number: u32) -> &AtomicU64 {
        self.bytes.atomic_u64(self.record(number))
    }

    fn ring_slot(&self, position: u64) -> &AtomicU64 {
        let slot = (position % u64::from(self.capacity)) as usize;
        self.bytes.atomic_u64(RING + slot * 8)
    }

    fn head(&self) -> &AtomicU64 {
        self.bytes.atomic_u64(HEAD)
    }

    fn tail(&self) -> &AtomicU64 {
        self.bytes.atomic_u64(TAIL)
    }

    fn doorbell(&self) -> &EventCount {
        EventCount::in_word(self.bytes.atomic_u32(DOORBELL))
    }
}

fn write_parts(object: &SharedBytes, mut at: usize, parts: &[&[u8]]) {
    for part in parts {
        object.write_at(at, part);
        at += part.len();
    }
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
