//! Methods that usually have their answer at once.
//!
//! `lock.acquire()` on a free lock takes the engine a few nanoseconds. What PyO3 does around a method (entering
//! the interpreter's state, taking the arguments apart, checking the class) takes several times as long. A [`FastMethod`]
//! method is called by the interpreter as it is, and answers from the object alone; whenever it has no answer
//! (there were other arguments, it would have to wait, something is wrong) the ordinary method it stands before is
//! called with the same arguments, and does it all properly.

use std::ffi::{CStr, CString};
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::PyClass;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

/// What a fast method returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// `None`
    Nothing,
    /// `True`
    Yes,
    /// `False`
    No,
}

/// The method that a fast one stands before.
pub type Fallback = PyOnceLock<Py<PyAny>>;

/// A method that answers without the interpreter, or not at all.
pub trait FastMethod {
    /// The class it is a method of.
    type Class: PyClass<Frozen = True> + Sync;

    /// The name of the method.
    const NAME: &'static str;
    /// Whether it answers whatever it is called with.
    const IGNORES_ARGUMENTS: bool = false;
    /// Else its first parameter, a flag that stands for true: it answers calls with no arguments, or with this alone
    /// as a `bool`. Without one it answers only calls without arguments.
    const FLAG: Option<&'static CStr> = None;

    /// The answer, if there is one at once.
    fn answer(object: &Self::Class, flag: bool) -> Option<Answer>;

    /// Where the method of the class is kept that is asked when this one has no answer.
    fn fallback() -> &'static Fallback;
}

/// Puts `P` before the method of its name.
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
    // SAFETY: the class is one, the definition lives for ever, and its flags are those of `call`'s signature.
    let method = unsafe {
        let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
        Bound::from_owned_ptr_or_err(py, method)?
    };
    class.setattr(P::NAME, method)
}

/// What the interpreter calls.
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
        // SAFETY: the thread is attached, and the caller keeps the object, which is of the class, until
        // this returns. A frozen class is shared by nature: a reference to it is all that is needed.
        let object = unsafe {
            let py = Python::assume_attached();
            Borrowed::from_ptr(py, object).cast_unchecked::<P::Class>()
        };
        // A panic goes the ordinary way, which reports it.
        catch_unwind(AssertUnwindSafe(|| P::answer(object.get(), flag))).unwrap_or(None)
    });
    // SAFETY: attached, and the two objects are always there; this function's own arguments.
    unsafe {
        match answer {
            Some(Answer::Nothing) => ffi::Py_NewRef(ffi::Py_None()),
            Some(Answer::Yes) => ffi::Py_NewRef(ffi::Py_True()),
            Some(Answer::No) => ffi::Py_NewRef(ffi::Py_False()),
            None => fallback::<P>(object, arguments, count, names),
        }
    }
}

/// What the flag is in a call that a fast method answers; `None` for other calls.
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
    // SAFETY: the caller's promise: a tuple of strings, and behind the positional arguments one for each of them.
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

/// Calls the ordinary method with the arguments.
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
    // SAFETY: the caller's promise. To attach once more would be refused while the interpreter ends.
    let py = unsafe { Python::assume_attached() };
    let call = || {
        // SAFETY: the caller's promise: objects that it keeps until this returns.
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
