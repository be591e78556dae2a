//! Starting interpreters that hash strings as this one does.
//!
//! An interpreter draws its hash secret with `getrandom` before it runs any code, and the secret cannot be changed later.
//! So a new interpreter preloads this module (`LD_PRELOAD`), which defines `getrandom` and returns the secret of the
//! parent, found in the environment. Both variables are restored before the program can see its environment.

use std::ffi::{CStr, OsStr, OsString, c_uint, c_void};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The size of `_Py_HashSecret`, which an interpreter draws, in bytes.
const SECRET: usize = 24;
const VARIABLE: &str = "PROCESSION_HASH_SECRET";
const PRELOADED: &str = "LD_PRELOAD";

/// A complete environment, as names and values.
pub type Environment = Vec<(OsString, OsString)>;

/// Returns the environment in which `executable` hashes strings as this interpreter does.
///
/// Returns `None` if it does so anyway (`PYTHONHASHSEED` is set), or if `executable` is not the program that runs here: a
/// wrapper, for example, cannot load a module of the interpreter.
#[must_use]
pub fn environment_of_same_hashes(executable: &Path) -> Option<Environment> {
    let mut environment: Environment = std::env::vars_os().collect();
    let seeded = environment
        .iter()
        .any(|(name, value)| name == "PYTHONHASHSEED" && !value.is_empty() && value != "random");
    if seeded || !runs_here(executable) {
        return None;
    }
    let library = own_file().filter(|path| can_be_preloaded(path))?;
    let secret = own_secret()?;
    let before = std::env::var_os(PRELOADED);
    environment.retain(|(name, _)| name != PRELOADED && name != VARIABLE);
    environment.push((PRELOADED.into(), joined(before, &library)));
    environment.push((VARIABLE.into(), hex(&secret).into()));
    Some(environment)
}

fn runs_here(executable: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let here = identity(Path::new("/proc/self/exe"));
    here.is_some() && here == identity(executable)
}

/// Colons and blanks separate the names in `LD_PRELOAD`, which has no way to escape them.
fn can_be_preloaded(path: &OsStr) -> bool {
    let bytes = path.as_bytes();
    bytes.starts_with(b"/")
        && !bytes
            .iter()
            .any(|byte| *byte == b':' || byte.is_ascii_whitespace())
}

fn joined(before: Option<OsString>, library: &OsStr) -> OsString {
    let mut all = before.unwrap_or_default();
    if !all.is_empty() {
        all.push(":");
    }
    all.push(library);
    all
}

/// Undoes `joined`: returns the names before ours, if there were any.
fn without_own(all: &OsStr) -> Option<OsString> {
    let bytes = all.as_bytes();
    let end = bytes.iter().rposition(|byte| *byte == b':')?;
    Some(OsString::from_vec(bytes[..end].to_vec()))
}

/// Returns the file from which this code was loaded.
fn own_file() -> Option<OsString> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    let here = own_file as fn() -> Option<OsString> as *const c_void;
    // SAFETY: any address is valid here, and `info` is writable.
    if unsafe { libc::dladdr(here, info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: all zeroes are a valid value, and `dladdr` filled it.
    let name = unsafe { info.assume_init() }.dli_fname;
    if name.is_null() {
        return None;
    }
    // SAFETY: the string ends with a zero and lives as long as the module, which is never unloaded.
    let name = unsafe { CStr::from_ptr(name) };
    Some(OsStr::from_bytes(name.to_bytes()).to_owned())
}

/// Returns the hash secret of this interpreter.
fn own_secret() -> Option<[u8; SECRET]> {
    // SAFETY: the name ends with a zero.
    let secret = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_Py_HashSecret".as_ptr()) };
    if secret.is_null() {
        return None;
    }
    // SAFETY: the variable of CPython has this size. It was written once, before any code ran. The read needs no
    // alignment.
    Some(unsafe { secret.cast::<[u8; SECRET]>().read_unaligned() })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of_hex(text: &str) -> Option<[u8; SECRET]> {
    let mut secret = [0; SECRET];
    if text.len() != 2 * SECRET || !text.is_ascii() {
        return None;
    }
    for (index, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(secret)
}

/// The secret that the parent passed to this process.
static GIVEN: OnceLock<[u8; SECRET]> = OnceLock::new();

/// Runs when this module is loaded: takes the secret and restores the environment.
extern "C" fn take_secret() {
    let Some(secret) = std::env::var(VARIABLE).ok() else {
        return;
    };
    let before = std::env::var_os(PRELOADED).and_then(|all| without_own(&all));
    // SAFETY: the variable is set only while the program loads its libraries, and then it has one thread.
    unsafe {
        std::env::remove_var(VARIABLE);
        match before {
            Some(before) => std::env::set_var(PRELOADED, before),
            None => std::env::remove_var(PRELOADED),
        }
    }
    if let Some(secret) = of_hex(&secret) {
        let _ = GIVEN.set(secret);
    }
}

// SAFETY: the loader calls the functions in this section after it loaded all libraries that they need.
#[used]
#[unsafe(link_section = ".init_array")]
static WHEN_LOADED: extern "C" fn() = take_secret;

/// Returns the passed secret, at the first call only.
fn drawn_secret() -> Option<[u8; SECRET]> {
    static DRAWN: AtomicBool = AtomicBool::new(false);
    let secret = GIVEN.get()?;
    (!DRAWN.swap(true, Ordering::Relaxed)).then_some(*secret)
}

/// The C library's `getrandom`, for an interpreter that has this module preloaded.
///
/// # Safety
///
/// As for the C library's function: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    if length == SECRET
        && let Some(secret) = drawn_secret()
    {
        // SAFETY: the buffer of the caller has room for `length` bytes.
        unsafe { buffer.cast::<[u8; SECRET]>().write_unaligned(secret) };
        return SECRET.cast_signed();
    }
    // SAFETY: the caller guarantees that the arguments are valid.
    let drawn = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
    isize::try_from(drawn).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_preloaded_before_is_so_again() {
        for before in ["", "/lib/a.so", "/lib/a.so:/lib/b.so"] {
            let all = joined(Some(before.into()), OsStr::new("/here/own.so"));
            assert_eq!(without_own(&all).unwrap_or_default(), before);
        }
    }

    #[test]
    fn a_secret_arrives_as_it_was() {
        let secret: [u8; SECRET] = std::array::from_fn(|index| (index * 11) as u8);
        assert_eq!(of_hex(&hex(&secret)), Some(secret));
        assert_eq!(of_hex("00"), None);
    }

    #[test]
    fn a_name_that_cannot_be_listed_is_not_preloaded() {
        assert!(can_be_preloaded(OsStr::new("/here/own.so")));
        for name in ["own.so", "/my files/own.so", "/a:b/own.so"] {
            assert!(!can_be_preloaded(OsStr::new(name)));
        }
    }
}
