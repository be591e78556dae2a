//! The items of tasks: chunks of a sequence, and chunks from an iterator.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use procession_engine::pool::guided;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyIterator, PyList, PySlice, PyString, PyTuple};

/// A shorter string is not worth sharing between tasks.
const SMALL: usize = 1024;

/// The division of a sequence into chunks, and its progress.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunks {
    /// The items in each chunk. `None` means guided self-scheduling: chunks get smaller towards the end.
    size: Option<usize>,
    workers: usize,
    /// The number of items, the number of items before the first one, and the number of items in chunks so far.
    length: usize,
    before: usize,
    start: usize,
    /// The number of the next task.
    pub(super) index: usize,
}

/// The items of one task.
pub(super) struct Chunk {
    pub(super) range: Range<usize>,
    /// Whether they are sent as a list.
    pub(super) many: bool,
    /// The number of the first item.
    pub(super) first: usize,
}

impl Chunks {
    pub(super) fn new(length: usize, size: Option<usize>, workers: usize) -> Chunks {
        Chunks {
            size: size.map(|size| size.max(1)),
            workers,
            length,
            before: 0,
            start: 0,
            index: 0,
        }
    }

    /// Returns the largest number of chunks of so many items.
    pub(super) fn count(items: usize, size: Option<usize>, workers: usize) -> usize {
        match size {
            Some(size) => items.div_ceil(size.max(1)),
            None => guided(items, workers).count(),
        }
    }

    /// Returns whether the chunks get smaller.
    pub(super) fn is_guided(&self) -> bool {
        self.size.is_none()
    }

    /// Makes all chunks as large as the first one, as in the standard library. Returns how many there are then.
    pub(super) fn even_out(&mut self, first: &Chunk) -> usize {
        let size = first.range.len();
        self.size = Some(size);
        self.length.div_ceil(size)
    }

    /// Returns the next chunk.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Chunk> {
        let left = self.length - self.start;
        // The size of a guided chunk depends only on the number of items left.
        let first_of_left = || guided(left, self.workers).next().map(|chunk| chunk.len());
        let size = self.size.or_else(first_of_left)?;
        let many = size > 1;
        let range = self.start..self.start + size.min(left);
        if range.is_empty() {
            return None;
        }
        let first = self.before + self.start;
        self.start = range.end;
        self.index += 1;
        Some(Chunk { range, many, first })
    }

    /// Returns the items of a chunk, or its only item.
    #[inline]
    pub(super) fn items<'py>(
        chunk: &Chunk,
        items: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Range { start, end } = chunk.range;
        if chunk.many {
            // This does not check for collections.abc.Sequence: the check runs Python, where a signal can arrive.
            let slice = PySlice::new(items.py(), start as isize, end as isize, 1);
            return items.get_item(slice);
        }
        match items.cast::<PyList>() {
            Ok(list) => list.get_item(start),
            Err(_) => items.get_item(start),
        }
    }
}

/// The items of a sequence that are not submitted yet.
#[pyclass(frozen, module = "procession._native")]
#[derive(Debug)]
pub struct PoolRemainder {
    /// A copy of these items, because the program can change the sequence.
    pub(super) items: Py<PyAny>,
    chunks: Mutex<Chunks>,
}

impl PoolRemainder {
    /// Takes the items that are not in chunks yet.
    pub(super) fn new(chunks: Chunks, items: &Bound<'_, PyAny>) -> PyResult<PoolRemainder> {
        let Chunks { start, length, .. } = chunks;
        let slice = PySlice::new(items.py(), start as isize, length as isize, 1);
        let rest = Chunks {
            length: length - start,
            before: chunks.before + start,
            start: 0,
            ..chunks
        };
        Ok(PoolRemainder {
            items: items.get_item(slice)?.unbind(),
            chunks: Mutex::new(rest),
        })
    }

    pub(super) fn chunks(&self) -> Chunks {
        *self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_chunks(&self, chunks: Chunks) {
        *self.chunks.lock().unwrap_or_else(PoisonError::into_inner) = chunks;
    }
}

#[pymethods]
impl PoolRemainder {
    /// The number of the next task.
    #[getter]
    fn index(&self) -> usize {
        self.chunks().index
    }
}

/// Returns whether the first two items share a large object. A chunk then carries the object once for all of its items.
pub(super) fn have_common_parts(items: &Bound<'_, PyAny>) -> PyResult<bool> {
    if items.len()? < 2 {
        return Ok(false);
    }
    let (first, second) = (items.get_item(0)?, items.get_item(1)?);
    if first.is(&second) {
        return Ok(true);
    }
    let (first, second) = (parts(&first), parts(&second));
    let mut pairs = first.iter().zip(&second);
    Ok(pairs.any(|(first, second)| first.is(second) && !is_small(first)))
}

fn parts<'py>(item: &Bound<'py, PyAny>) -> Vec<Bound<'py, PyAny>> {
    match (item.cast::<PyTuple>(), item.cast::<PyList>()) {
        (Ok(tuple), _) => tuple.iter().collect(),
        (_, Ok(list)) => list.iter().collect(),
        _ => Vec::new(),
    }
}

/// Returns whether an object is not worth sharing, and refers to no other memory.
fn is_small(part: &Bound<'_, PyAny>) -> bool {
    part.is_none()
        || part.is_instance_of::<PyInt>()
        || part.is_instance_of::<PyFloat>()
        || part
            .cast::<PyString>()
            .is_ok_and(|text| text.len().is_ok_and(|length| length < SMALL))
}

/// Returns whether all arguments of a call are small, as far as a quick look tells.
pub(super) fn are_small(args: &Bound<'_, PyAny>, kwds: &Bound<'_, PyAny>) -> bool {
    let is_empty = kwds.len().is_ok_and(|length| length == 0);
    let are_few = |args: &Bound<'_, PyTuple>| args.len() < SMALL / 8;
    is_empty
        && args
            .cast_exact::<PyTuple>()
            .is_ok_and(|args| are_few(args) && args.iter().all(|part| is_small(&part)))
}

/// Returns the next item, or for chunks of several items the list of the next items.
pub(super) fn next_chunk<'py>(
    items: &mut Bound<'py, PyIterator>,
    chunksize: usize,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(first) = items.next().transpose()? else {
        return Ok(None);
    };
    if chunksize == 1 {
        return Ok(Some(first));
    }
    let chunk = PyList::new(first.py(), [first])?;
    while chunk.len() < chunksize {
        match items.next().transpose()? {
            Some(item) => chunk.append(item)?,
            None => break,
        }
    }
    Ok(Some(chunk.into_any()))
}
