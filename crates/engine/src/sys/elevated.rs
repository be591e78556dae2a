//! Programs with rights that their starter may lack.
//!
//! A setuid or setgid program, or one whose file has capabilities, is started by anybody, with an environment and
//! descriptors of that one's choice. So it believes neither: the kernel says which programs these are.

/// Whether this process has rights that whoever started it may lack, as the kernel saw it (`AT_SECURE`).
pub fn is_elevated() -> bool {
    // SAFETY: a call without preconditions, which reads what the kernel left for the program.
    !cfg!(miri) && unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// A variable of the environment that says something to the engine; none does to an elevated program.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|_| !is_elevated())
}
