//! The entry point of child processes.

use procession_engine::process::child;

use crate::process::{self, Respond};

/// Runs the function of this process if it is a child. Call it first in `main`.
///
/// A process started by this crate is a fresh run of the same program. There, this call runs the function the
/// process was started for, and exits: it never returns. In any other process it returns at once. Code of
/// `main` before this call also runs in every child.
///
/// Without this call no process can be started: trying to fails with
/// [`Error::NotInitialised`](crate::Error::NotInitialised). In tests, use [`test_support!`](crate::test_support)
/// instead.
///
/// # Panics
/// Panics when this process is a child and cannot claim the process entry its parent reserved.
///
/// # Examples
/// ```
/// fn greet(name: String) -> String {
///     format!("Hello, {name}!")
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let process = procession::Process::spawn(greet, "world".to_owned())?;
///     assert_eq!(process.join()?, "Hello, world!");
///     Ok(())
/// }
/// ```
pub fn init() {
    process::init::set_initialised();
    if child::is_child() {
        process::serve(run_python_request);
    }
}

/// Lets the `#[test]` functions of this executable start processes.
///
/// Put it once into each test executable: into a file of `tests/`, or into the `tests` module of a crate. It
/// defines a test that children enter and that otherwise does nothing. Tests that only run a program which
/// calls [`init`] do not need it.
///
/// # Examples
/// ```
/// procession::test_support!();
///
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// #[test]
/// fn squares() -> procession::Result<()> {
///     let process = procession::Process::spawn(square, 4)?;
///     assert_eq!(process.join()?, 16);
///     Ok(())
/// }
/// ```
#[expect(clippy::test_attr_in_doctest, reason = "the macro is for tests")]
#[macro_export]
macro_rules! test_support {
    () => {
        /// The entry point for children of the other tests.
        #[test]
        fn procession_child_entry() {
            $crate::enter_test(procession_child_entry);
        }
    };
}

/// Implementation of [`test_support!`](crate::test_support).
#[doc(hidden)]
pub fn enter_test<F: Fn() + Copy + 'static>(test: F) {
    child::announce_test(test);
    init();
}

/// Runs a request of a Python process. Returns the exit code, or the reason why the request was not run.
#[cfg(feature = "python")]
fn run_python_request(request: &[u8], respond: Respond) -> Result<i32, String> {
    Ok(crate::python::serve(request, respond))
}

#[cfg(not(feature = "python"))]
fn run_python_request(_request: &[u8], _respond: Respond) -> Result<i32, String> {
    let reason = "a Python process started this program, which was built without the feature \"python\" of \
                  the crate procession";
    Err(reason.to_owned())
}
