//! Snapshots, which show whether an object and everything that it refers to is unchanged.
//!
//! To the garbage collector an object is the set of its references. An object is unchanged if every container that is
//! reachable from it has the same references as before, and its other objects are immutable. This check takes a fraction
//! of the time of unpickling. There is no snapshot of objects whose state the collector does not see, such as most
//! objects of extension modules.

use procession_engine::{IdMap, IdSet};

use procession_engine::BorrowedBuffer;
use procession_pyffi::is_made_by_python;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyTuple, PyType};

/// The largest array with memory of its own, in bytes, that is copied for the comparison.
const SMALL: usize = 64 * 1024;

/// What a snapshot knows about the objects of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// They cannot change, or are not part of what was sent.
    Leaf,
    /// Their references are their state; these include a dict of attributes, or dict items.
    Container { attributes: bool, items: bool },
    /// Their state is an array.
    Array,
    /// Their state is not visible.
    Opaque,
}

const PLAIN: Kind = Kind::Container {
    attributes: false,
    items: false,
};

/// The kinds of the classes seen so far, by address.
#[derive(Default)]
struct Kinds {
    known: IdMap<usize, Kind>,
    last: Option<(usize, Kind)>,
}

/// The objects at the same distance from the first one, and their references.
#[derive(Debug)]
struct Level<'py> {
    containers: Bound<'py, PyTuple>,
    referents: Bound<'py, PyList>,
    /// Dicts are compared with their keys, because the collector does not see keys that are strings.
    dicts: Vec<Bound<'py, PyDict>>,
    items: Vec<Bound<'py, PyAny>>,
}

/// An array with memory of its own, or in the borrowed buffer.
#[derive(Debug)]
struct Array<'py> {
    array: Bound<'py, PyAny>,
    interface: Bound<'py, PyAny>,
    /// `None` if it uses the borrowed buffer.
    content: Option<Bound<'py, PyBytes>>,
}

/// The state of an object.
#[derive(Debug)]
pub(super) struct Snapshot<'py> {
    levels: Vec<Level<'py>>,
    arrays: Vec<Array<'py>>,
    borrowed: Option<BorrowedBuffer>,
}

impl<'py> Snapshot<'py> {
    /// Takes a snapshot of an object, whose arrays can use the borrowed buffer. Returns `None` if changes of the object
    /// would not be visible.
    pub(super) fn of(
        object: &Bound<'py, PyAny>,
        borrowed: Option<BorrowedBuffer>,
    ) -> Option<Snapshot<'py>> {
        let mut snapshot = Snapshot {
            levels: Vec::new(),
            arrays: Vec::new(),
            borrowed,
        };
        let mut kinds = Kinds::default();
        let mut seen = IdSet::default();
        let mut next = Vec::new();
        let mut visit = |object: Bound<'py, PyAny>, next: &mut Vec<_>| {
            let kind = kinds.of(&object)?;
            if kind != Kind::Leaf && seen.insert(object.as_ptr() as usize) {
                next.push((object, kind));
            }
            Some(())
        };
        visit(object.clone(), &mut next)?;
        while !next.is_empty() {
            let level = snapshot.level(object.py(), &next)?;
            next.clear();
            for found in &level.referents {
                visit(found, &mut next)?;
            }
            for found in &level.items {
                visit(found.clone(), &mut next)?;
            }
            snapshot.levels.push(level);
        }
        snapshot.is_memory_untouched().then_some(snapshot)
    }

    fn level(
        &mut self,
        py: Python<'py>,
        objects: &[(Bound<'py, PyAny>, Kind)],
    ) -> Option<Level<'py>> {
        let (mut containers, mut dicts) = (Vec::new(), Vec::new());
        for (object, kind) in objects {
            match *kind {
                Kind::Leaf => {}
                Kind::Opaque => return None,
                Kind::Array => self.arrays.push(Array::of(object, self.borrowed.as_ref())?),
                Kind::Container { attributes, items } => {
                    if attributes {
                        let attributes = object.getattr(intern!(py, "__dict__")).ok()?;
                        dicts.push(attributes.cast_into().ok()?);
                    }
                    if items {
                        dicts.push(object.clone().cast_into().ok()?);
                    }
                    if !object.is_exact_instance_of::<PyDict>() {
                        containers.push(object);
                    }
                }
            }
        }
        let containers = PyTuple::new(py, containers).ok()?;
        let items = dicts
            .iter()
            .flat_map(|dict: &Bound<'_, PyDict>| dict.iter());
        Some(Level {
            referents: referents(&containers).ok()?,
            containers,
            items: items.flat_map(|(key, value)| [key, value]).collect(),
            dicts,
        })
    }

    /// Returns whether the object is unchanged.
    pub(super) fn holds(&self) -> bool {
        self.levels.iter().all(Level::holds)
            && self.arrays.iter().all(Array::holds)
            && self.is_memory_untouched()
    }

    fn is_memory_untouched(&self) -> bool {
        self.borrowed
            .as_ref()
            .is_none_or(BorrowedBuffer::is_untouched)
    }
}

impl Level<'_> {
    fn holds(&self) -> bool {
        let Ok(now) = referents(&self.containers) else {
            return false;
        };
        let mut before = self.items.iter();
        let mut is_next = |object: &Bound<'_, PyAny>| before.next().is_some_and(|it| it.is(object));
        now.len() == self.referents.len()
            && now
                .iter()
                .zip(&self.referents)
                .all(|(now, before)| now.is(&before))
            && self
                .dicts
                .iter()
                .flat_map(|dict| dict.iter())
                .all(|(key, value)| is_next(&key) && is_next(&value))
            && before.next().is_none()
    }
}

impl<'py> Array<'py> {
    fn of(array: &Bound<'py, PyAny>, borrowed: Option<&BorrowedBuffer>) -> Option<Array<'py>> {
        let py = array.py();
        let interface = interface(array)?;
        if let Ok(numpys) = interface.cast::<PyDict>() {
            let dtype = array.getattr(intern!(py, "dtype")).ok()?;
            let (address, _): (usize, bool) = numpys.get_item("data").ok()??.extract().ok()?;
            if dtype
                .getattr(intern!(py, "hasobject"))
                .ok()?
                .is_truthy()
                .ok()?
            {
                return None;
            }
            if borrowed.is_some_and(|borrowed| borrowed.contains(address)) {
                return Some(Array {
                    array: array.clone(),
                    interface,
                    content: None,
                });
            }
            let size: usize = array.getattr(intern!(py, "nbytes")).ok()?.extract().ok()?;
            if size > SMALL {
                return None;
            }
        } else if array.len().ok()? > SMALL {
            return None;
        }
        Some(Array {
            content: Some(content(array)?),
            array: array.clone(),
            interface,
        })
    }

    fn holds(&self) -> bool {
        let same =
            interface(&self.array).is_some_and(|now| now.eq(&self.interface).unwrap_or(false));
        same && self.content.as_ref().is_none_or(|before| {
            content(&self.array).is_some_and(|now| now.as_bytes() == before.as_bytes())
        })
    }
}

/// Returns the address and layout of an array.
fn interface<'py>(array: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    match array.cast::<PyByteArray>() {
        Ok(array) => Some(array.len().into_pyobject(array.py()).ok()?.into_any()),
        Err(_) => array
            .getattr(intern!(array.py(), "__array_interface__"))
            .ok(),
    }
}

fn content<'py>(array: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
    let py = array.py();
    match array.cast::<PyByteArray>() {
        Ok(array) => Some(PyBytes::new(py, &array.to_vec())),
        Err(_) => array
            .call_method0(intern!(py, "tobytes"))
            .ok()?
            .cast_into()
            .ok(),
    }
}

/// Returns the references of objects, in order.
fn referents<'py>(objects: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyList>> {
    static LOOK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let look = LOOK.import(objects.py(), "gc", "get_referents")?;
    Ok(look.call1(objects.clone())?.cast_into()?)
}

impl Kinds {
    fn of(&mut self, object: &Bound<'_, PyAny>) -> Option<Kind> {
        let address = object.get_type_ptr() as usize;
        if let Some((last, kind)) = self.last
            && last == address
        {
            return Some(kind);
        }
        let kind = match self.known.get(&address) {
            Some(kind) => *kind,
            None => {
                let kind = kind_of(&object.get_type()).ok()?;
                self.known.insert(address, kind);
                kind
            }
        };
        self.last = Some((address, kind));
        Some(kind)
    }
}

fn kind_of(class: &Bound<'_, PyType>) -> PyResult<Kind> {
    if class.is_subclass_of::<PyType>()? {
        return Ok(Kind::Leaf);
    }
    if let Some(kind) = known(class)? {
        return Ok(kind);
    }
    let mut has_items = false;
    for base in class.mro().iter() {
        let base = base.cast_into::<PyType>()?;
        if is_made_by_python(&base)? && hides_nothing(&base)? {
            continue;
        }
        match known(&base)? {
            Some(Kind::Leaf) => {}
            Some(Kind::Container { items, .. }) => has_items |= items,
            _ => return Ok(Kind::Opaque),
        }
    }
    let offset: isize = class
        .getattr(intern!(class.py(), "__dictoffset__"))?
        .extract()?;
    Ok(Kind::Container {
        attributes: offset != 0,
        items: has_items,
    })
}

/// Returns whether a class adds only declared slots to the memory of its base's objects.
fn hides_nothing(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    let size = |class: &Bound<'_, PyAny>| -> PyResult<usize> {
        class.getattr(intern!(py, "__basicsize__"))?.extract()
    };
    let base = class.getattr(intern!(py, "__base__"))?;
    let own = size(class)?.saturating_sub(size(&base)?);
    let names = class.getattr(intern!(py, "__dict__"))?;
    let mut declared = 0;
    for name in names.try_iter()? {
        let name = name?;
        let is_slot = names.get_item(&name)?.get_type().name()? == "member_descriptor";
        let name = name.extract::<String>()?;
        if is_slot || name == "__dict__" || name == "__weakref__" {
            declared += size_of::<usize>();
        }
    }
    Ok(own <= declared)
}

/// Returns the kind of a class that is known by its name.
fn known(class: &Bound<'_, PyType>) -> PyResult<Option<Kind>> {
    let (module, name) = (class.module()?, class.name()?);
    let kind = match (module.to_str()?, name.to_str()?) {
        (
            "builtins",
            "object" | "NoneType" | "bool" | "int" | "float" | "complex" | "str" | "bytes"
            | "range" | "slice" | "ellipsis" | "NotImplementedType" | "function" | "module"
            | "code" | "method_descriptor" | "wrapper_descriptor",
        )
        | ("datetime", "date" | "time" | "datetime" | "timedelta" | "timezone")
        | ("decimal", "Decimal")
        | ("re", "Pattern")
        | ("numpy", "ufunc")
        | ("logging", "Logger" | "RootLogger") => Kind::Leaf,
        (
            "builtins",
            "builtin_function_or_method"
            | "list"
            | "tuple"
            | "set"
            | "frozenset"
            | "method"
            | "cell"
            | "mappingproxy",
        )
        | ("collections", "deque")
        | ("functools", "partial")
        | ("operator", "itemgetter" | "attrgetter" | "methodcaller") => PLAIN,
        ("builtins", "dict") | ("collections", "defaultdict") => Kind::Container {
            attributes: false,
            items: true,
        },
        ("builtins", "bytearray") | ("numpy", "ndarray") => Kind::Array,
        (module, _) if module == "numpy" || module.starts_with("numpy.") => {
            return Ok(is_numpys_scalar(class)?.then_some(Kind::Leaf));
        }
        _ => return Ok(None),
    };
    Ok(Some(kind))
}

/// Returns whether the objects of a class of NumPy are scalars or dtypes.
fn is_numpys_scalar(class: &Bound<'_, PyType>) -> PyResult<bool> {
    for base in class.mro().iter() {
        let base = base.cast_into::<PyType>()?;
        let name = base.name()?;
        if base.module()? == "numpy" && (name == "generic" || name == "dtype") {
            return Ok(true);
        }
    }
    Ok(false)
}
