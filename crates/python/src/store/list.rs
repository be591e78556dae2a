//! A list in shared memory.

use std::ops::ControlFlow;

use procession_engine::store::Room;
use pyo3::exceptions::{PyIndexError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySlice};

use super::{Pairs, Shared, StoreDetached, write_value};
use crate::support::late_init::{Keyword, Positional};
use crate::wire::{self, Comparison, Needle};

/// A list of plain values.
#[pyclass(frozen, subclass, module = "procession._native")]
#[derive(Debug)]
pub struct ListStore(Shared);

impl ListStore {
    fn list_of<'py>(py: Python<'py>, pairs: &Pairs) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for (_, value) in pairs.iter() {
            list.append(wire::decode(py, value)?)?;
        }
        Ok(list)
    }
}

/// The result of a search for a value.
#[derive(Default)]
struct Matches {
    /// How many items are certainly equal, and the index of the first one.
    equal: usize,
    first: Option<usize>,
    /// The items to compare as objects, and their indices.
    unsure: Pairs,
    places: Vec<usize>,
}

impl ListStore {
    fn matches(
        &self,
        value: &Bound<'_, PyAny>,
        start: isize,
        stop: isize,
        first_only: bool,
    ) -> PyResult<Matches> {
        let needle = Needle::new(value);
        let look = |matches: &mut Matches, place: usize, bytes: &[u8]| {
            match needle.compare(bytes) {
                Comparison::Different => {}
                Comparison::Unsure => {
                    matches.unsure.add(&[], bytes);
                    matches.places.push(place);
                }
                Comparison::Equal => {
                    matches.equal += 1;
                    matches.first = matches.first.or(Some(place));
                    if first_only {
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        };
        let places = |length| places_of_slice(Some(start), Some(stop), 1, length);
        self.0.access(value.py(), |store| {
            store.some(places, Matches::default, look)
        })
    }
}

/// Returns the position of an index; one out of range if there is none.
fn place(index: isize, length: usize) -> usize {
    match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => length
            .checked_sub(index.unsigned_abs())
            .unwrap_or(usize::MAX),
    }
}

fn index(index: &Bound<'_, PyAny>) -> PyResult<isize> {
    let number = index.extract();
    number.map_err(|_| StoreDetached::new_err("the index is no small int"))
}

#[pymethods]
impl ListStore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: Positional<'_, '_>, _kwargs: Option<Keyword<'_, '_>>) -> ListStore {
        ListStore(Shared::empty())
    }

    fn __init__(&self) -> PyResult<()> {
        self.0.make()
    }

    fn _adopt(&self, handle: &[u8]) -> PyResult<()> {
        self.0.adopt(handle)
    }

    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.0.handle(py)
    }

    /// Whether the items are in the store and its owner is alive.
    #[getter]
    fn is_attached(&self) -> bool {
        self.0.is_attached()
    }

    /// Makes room. Only the owner may call this.
    fn grow(&self, py: Python<'_>, entries: usize, bytes: usize) -> PyResult<()> {
        self.0.grow(py, Room { entries, bytes })
    }

    /// Takes all items out and detaches the store for good. Only the owner may call this.
    fn detach<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        ListStore::list_of(py, &self.0.detach(py)?)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.len(py)
    }

    /// Returns the item at an index.
    fn get<'py>(&self, at: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = at.py();
        let index = index(at)?;
        let mut value = Vec::new();
        let found = self.0.access(py, |store| {
            store.get_at(|length| place(index, length), &mut value)
        })?;
        match found {
            true => wire::decode(py, &value),
            false => Err(PyIndexError::new_err("list index out of range")),
        }
    }

    /// Replaces the item at an index.
    fn set(&self, at: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let index = index(at)?;
        let mut bytes = Vec::with_capacity(64);
        write_value(value, &mut bytes)?;
        let found = self.0.access(at.py(), |store| {
            store.set_at(|length| place(index, length), &bytes)
        })?;
        match found {
            true => Ok(()),
            false => Err(PyIndexError::new_err("list assignment index out of range")),
        }
    }

    fn append(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut bytes = Vec::with_capacity(64);
        write_value(value, &mut bytes)?;
        self.0.access(value.py(), |store| store.push(&bytes))
    }

    /// Appends all items of a list in one step.
    fn extend(&self, values: &Bound<'_, PyList>) -> PyResult<()> {
        let mut pairs = Pairs::default();
        for value in values.iter() {
            pairs.write(None, &value)?;
        }
        self.0
            .access(values.py(), |store| store.extend(&pairs.slices()))
    }

    /// Removes the last item and returns it.
    fn pop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let mut value = Vec::new();
        match self.0.access(py, |store| store.pop(&mut value))? {
            true => wire::decode(py, &value),
            false => Err(PyIndexError::new_err("pop from empty list")),
        }
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.0.clear(py)
    }

    /// Returns the items of a slice, as a plain list.
    fn get_slice<'py>(&self, slice: &Bound<'py, PySlice>) -> PyResult<Bound<'py, PyList>> {
        let py = slice.py();
        let (start, stop, step) = bounds(slice)?;
        let add = |pairs: &mut Pairs, _: usize, value: &[u8]| {
            pairs.add(&[], value);
            ControlFlow::Continue(())
        };
        let places = |length| places_of_slice(start, stop, step, length);
        let pairs = self
            .0
            .access(py, |store| store.some(places, Pairs::default, add))?;
        ListStore::list_of(py, &pairs)
    }

    fn __contains__(&self, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.find(value, 0, isize::MAX)?.is_some())
    }

    /// Returns the first index of a value, or None.
    fn find(&self, value: &Bound<'_, PyAny>, start: isize, stop: isize) -> PyResult<Option<usize>> {
        let matches = self.matches(value, start, stop, true)?;
        for ((_, bytes), place) in matches.unsure.iter().zip(matches.places) {
            if wire::decode(value.py(), bytes)?.eq(value)? {
                return Ok(Some(place));
            }
        }
        Ok(matches.first)
    }

    /// Returns how often a value occurs.
    fn count(&self, value: &Bound<'_, PyAny>) -> PyResult<usize> {
        let matches = self.matches(value, 0, isize::MAX, false)?;
        let mut count = matches.equal;
        for (_, bytes) in matches.unsure.iter() {
            count += usize::from(wire::decode(value.py(), bytes)?.eq(value)?);
        }
        Ok(count)
    }

    /// Returns a copy, as a plain list.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        ListStore::list_of(py, &self.0.all(py)?)
    }
}

/// Returns start, stop and step of a slice. An int out of range becomes the nearest index.
fn bounds(slice: &Bound<'_, PySlice>) -> PyResult<(Option<isize>, Option<isize>, isize)> {
    let bound = |name| -> PyResult<Option<isize>> {
        let bound = slice.getattr(name)?;
        if bound.is_none() {
            return Ok(None);
        }
        match bound.extract() {
            Ok(number) => Ok(Some(number)),
            Err(error) if error.is_instance_of::<PyOverflowError>(slice.py()) => {
                Ok(Some(if bound.lt(0)? { isize::MIN } else { isize::MAX }))
            }
            Err(_) => Err(PyTypeError::new_err(
                "slice indices must be integers or None or have an __index__ method",
            )),
        }
    };
    let step = bound("step")?.unwrap_or(1);
    if step == 0 {
        return Err(PyValueError::new_err("slice step cannot be zero"));
    }
    Ok((bound("start")?, bound("stop")?, step))
}

/// Returns the positions of a slice, in a list of this length.
fn places_of_slice(
    start: Option<isize>,
    stop: Option<isize>,
    step: isize,
    length: usize,
) -> impl Iterator<Item = usize> {
    let length = isize::try_from(length).unwrap_or(isize::MAX);
    // Backwards, both ends are one lower.
    let (lowest, highest) = if step > 0 {
        (0, length)
    } else {
        (-1, length - 1)
    };
    let clamped = |bound: isize| match bound < 0 {
        true => bound.saturating_add(length).max(lowest),
        false => bound.min(highest),
    };
    let (first, end) = if step > 0 {
        (lowest, highest)
    } else {
        (highest, lowest)
    };
    let start = start.map_or(first, clamped);
    let stop = stop.map_or(end, clamped);
    let goes_on = move |place: &isize| {
        if step > 0 {
            *place < stop
        } else {
            *place > stop
        }
    };
    std::iter::successors(Some(start), move |place| place.checked_add(step))
        .take_while(goes_on)
        .map(isize::unsigned_abs)
}
