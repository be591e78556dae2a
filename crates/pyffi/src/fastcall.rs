//! Methods that the interpreter calls directly (`METH_FASTCALL`), without PyO3's layer in between.
//!
//! `lock.acquire()` on a free lock takes the engine a few nanoseconds. PyO3's work around a method (entering its state,
//! parsing the arguments, checking the class) takes several times as long. The interpreter calls a [`FastMethod`]
//! directly, and it answers from the object alone. If it has no answer (other arguments, it would have to wait, an
//! error), the PyO3 method that it replaced is called with the same arguments: its fallback.

use std::ffi::{CStr, CString};
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::PyClass;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

/// The result of a fast method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// `None`
    Nothing,
    /// `True`
    Yes,
    /// `False`
    No,
}

/// The method that a fast method replaced.
pub type Fallback = PyOnceLock<Py<PyAny>>;

/// A method that answers without the interpreter, or has no answer.
pub trait FastMethod {
    /// The class it is a method of.
    type Class: PyClass<Frozen = True> + Sync;

    /// The name of the method.
    const NAME: &'static str;
    /// Whether it ignores its arguments.
    const IGNORES_ARGUMENTS: bool = false;
    /// The name of its first parameter, a flag whose default is true. It then answers calls without arguments, and calls
    /// with this one argument as a `bool`. If `None`, it answers only calls without arguments.
    const FLAG: Option<&'static CStr> = None;

    /// Returns the answer; `None` makes the caller use the fallback.
    fn answer(object: &Self::Class, flag: bool) -> Option<Answer>;

    /// Returns where the fallback is stored.
    fn fallback() -> &'static Fallback;
}

/// Replaces the method of the class that has the name of `P`. That method becomes the fallback.
pub fn add<P: FastMethod>(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<P::Class>();
    let fallback = class.getattr(P::NAME)?;
    let signature: Option<String> = fallback.getattr("__text_signature__")?.extract()?;
    let doc: Option<String> = fallback.getattr("__doc__")?.extract()?;
    let doc = match signature {
        Some(signature) => format!("{}{signature}\n--\n\n{}", P::NAME, doc.unwrap_or_default()),
        None => doc.unwrap_or_default(),
    };
    let _ = P::fallback().set(py, fallback.unbind());
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: CString::new(P::NAME)?.into_raw(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: call::<P>,
        },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: CString::new(doc)?.into_raw(),
    }));
    // SAFETY: `class` is a type, the definition lives for ever, and its flags match the signature of `call`.
    let method = unsafe {
        let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
        Bound::from_owned_ptr_or_err(py, method)?
    };
    class.setattr(P::NAME, method)
}

/// The function that the interpreter calls.
///
/// # Safety
/// As `METH_FASTCALL | METH_KEYWORDS`: the thread is attached, `object` is an instance of the class whose
/// method this is (method descriptors check it), `arguments` points to `count` objects and then one for each
/// of `names`, which is null or a tuple of strings.
unsafe extern "C" fn call<P: FastMethod>(
    object: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: this function's own arguments.
    let answer = unsafe { flag::<P>(arguments, count, names) }.and_then(|flag| {
        // SAFETY: the thread is attached, and the caller keeps the object, an instance of the class, until this
        // returns. The class is frozen, so a shared reference is enough.
        let object = unsafe {
            let py = Python::assume_attached();
            Borrowed::from_ptr(py, object).cast_unchecked::<P::Class>()
        };
        // After a panic the fallback runs, and reports what is wrong.
        catch_unwind(AssertUnwindSafe(|| P::answer(object.get(), flag))).unwrap_or(None)
    });
    // SAFETY: the thread is attached, the constants are immortal, and the arguments are this function's own.
    unsafe {
        match answer {
            Some(Answer::Nothing) => ffi::Py_NewRef(ffi::Py_None()),
            Some(Answer::Yes) => ffi::Py_NewRef(ffi::Py_True()),
            Some(Answer::No) => ffi::Py_NewRef(ffi::Py_False()),
            None => fallback::<P>(object, arguments, count, names),
        }
    }
}

/// Returns the flag of a call that a fast method can answer; `None` for other calls.
///
/// # Safety
/// As [`call`].
#[inline]
unsafe fn flag<P: FastMethod>(
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> Option<bool> {
    if P::IGNORES_ARGUMENTS || (count == 0 && names.is_null()) {
        return Some(true);
    }
    let name = P::FLAG?;
    // SAFETY: by the caller's contract `names` is a tuple of strings, and after the positional arguments there is one
    // argument for each of them.
    unsafe {
        let is_alone = match names.is_null() {
            true => count == 1,
            false => {
                count == 0
                    && ffi::PyTuple_Size(names) == 1
                    && ffi::PyUnicode_CompareWithASCIIString(
                        ffi::PyTuple_GetItem(names, 0),
                        name.as_ptr(),
                    ) == 0
            }
        };
        match is_alone {
            true if *arguments == ffi::Py_False() => Some(false),
            true if *arguments == ffi::Py_True() => Some(true),
            _ => None,
        }
    }
}

/// Calls the fallback with the arguments.
///
/// # Safety
/// As [`call`].
#[cold]
unsafe fn fallback<P: FastMethod>(
    object: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's contract. A second attach would be refused during finalization.
    let py = unsafe { Python::assume_attached() };
    let call = || {
        // SAFETY: by the caller's contract these objects live until this returns.
        let (object, names) = unsafe {
            let names = (!names.is_null()).then(|| Borrowed::from_ptr(py, names));
            (Borrowed::from_ptr(py, object), names)
        };
        // SAFETY: `at` stays below the number of arguments.
        let argument = |at: usize| unsafe { Borrowed::from_ptr(py, *arguments.add(at)) };
        let count = usize::try_from(count).unwrap_or(0);
        let mut positional = vec![object];
        positional.extend((0..count).map(argument));
        let keywords = PyDict::new(py);
        if let Some(names) = names {
            for (at, name) in names.cast::<PyTuple>()?.iter_borrowed().enumerate() {
                keywords.set_item(name, argument(count + at))?;
            }
        }
        let Some(method) = P::fallback().get(py) else {
            return Err(PyRuntimeError::new_err("the module is not initialised"));
        };
        method
            .bind(py)
            .call(PyTuple::new(py, positional)?, Some(&keywords))
    };
    match call() {
        Ok(result) => result.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    }
}
