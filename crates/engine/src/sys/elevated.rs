//! Programs with rights that the process that started them may lack.
//!
//! Anybody can start a setuid or setgid program, or one whose file has capabilities, with an environment and
//! descriptors of their choice. So such a program trusts neither. The kernel says which programs these are.

/// Whether this process has rights that the process that started it may lack, according to the kernel (`AT_SECURE`).
pub fn is_elevated() -> bool {
    // SAFETY: a call without preconditions, which reads what the kernel left for the program.
    !cfg!(miri) && unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// An environment variable that configures the engine. An elevated program ignores all of them.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|_| !is_elevated())
}
