//! The functions of this executable that a child can be told to run.
//!
//! The assembler and the linker make the table. Wherever [`entry_of`] is compiled for a function, it leaves the
//! address of that function's description in the section `procession_entries_...`, and the linker joins these into
//! one array. A child reaches a function by its index there, through a pointer of the right type that the linker
//! wrote. So there is neither a list to maintain by hand nor a number turned into a code address.
//!
//! Parent and child run the same file, so they see the same array; [`fingerprint`] lets the child check that before
//! it runs anything.

use std::any::{TypeId, type_name};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::marker::PhantomData;
use std::sync::OnceLock;

use crate::id_map::IdMap;
use crate::process::child::function::sealed::Callable;

/// Decodes bytes into the arguments of an `F`, calls it, and encodes its result.
pub trait EntryAdapter<F>: 'static {
    /// Runs `function` on the arguments in `input`.
    fn run(function: F, input: &[u8]) -> Vec<u8>;
}

/// A function's index in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryId(u32);

impl EntryId {
    /// The index as a number to send.
    pub fn as_u32(self) -> u32 {
        self.0
    }

    /// An index from a received number; [`entry`] checks it.
    pub fn from_u32(index: u32) -> EntryId {
        EntryId(index)
    }
}

/// The table's description of a function.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    name: &'static str,
    role: Role,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Call {
        of: TypeId,
        call: fn(&[u8]) -> Vec<u8>,
    },
    Test,
}

impl Entry {
    /// The function's path in its crate.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the function; `None` if it is not one to be called.
    pub fn call(&self, input: &[u8]) -> Option<Vec<u8>> {
        match self.role {
            Role::Call { call, .. } => Some(call(input)),
            Role::Test => None,
        }
    }
}

/// The given value is not a plain function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPlain {
    /// It is a closure.
    #[error(
        "{0} is a closure; only a plain `fn` can run in another process, pass what it captures as arguments"
    )]
    Closure(&'static str),
    /// It was compiled into a separate library, outside the table of the executable.
    #[error("{0} is not in the table of this executable; was it loaded from a shared library?")]
    Unlisted(&'static str),
}

/// Finds the index of `function`. Compiling this call puts the function into the table.
pub fn entry_of<F, Shape, G>(_function: F) -> Result<EntryId, NotPlain>
where
    F: Callable<Shape> + Copy + Send + Sync + 'static,
    Shape: 'static,
    G: EntryAdapter<F>,
{
    register::<Called<F, Shape, G>>();
    if !is_plain::<F>() {
        return Err(NotPlain::Closure(type_name::<F>()));
    }
    let found = table().ids.get(&TypeId::of::<(F, G)>());
    found.copied().ok_or(NotPlain::Unlisted(type_name::<F>()))
}

/// The function at a received index.
pub fn entry(id: EntryId) -> Option<&'static Entry> {
    table().entries.get(id.0 as usize)
}

/// A number that is equal in two processes exactly when their tables are equal.
pub fn fingerprint() -> u64 {
    table().fingerprint
}

/// Puts a `#[test]` function into the table, as the one through which children start.
pub fn announce_test<F: Copy + 'static>(_test: F) {
    register::<Tested<F>>();
}

/// The path of the `#[test]` function through which children start, in a test executable.
pub fn test_entry() -> Option<&'static str> {
    table().test
}

/// A closure may have captured zero-sized values that stand for something true in this process only, so it must not
/// be created from nothing elsewhere. Plain functions capture nothing.
fn is_plain<F>() -> bool {
    size_of::<F>() == 0 && !type_name::<F>().ends_with("{{closure}}")
}

trait Described: 'static {
    fn describe() -> Entry;
}

struct Called<F, Shape, G>(PhantomData<(F, Shape, G)>);

impl<F, Shape, G> Described for Called<F, Shape, G>
where
    F: Callable<Shape> + Copy + Send + Sync + 'static,
    Shape: 'static,
    G: EntryAdapter<F>,
{
    fn describe() -> Entry {
        Entry {
            name: type_name::<F>(),
            role: Role::Call {
                of: TypeId::of::<(F, G)>(),
                call: call::<F, Shape, G>,
            },
        }
    }
}

struct Tested<F>(PhantomData<F>);

impl<F: 'static> Described for Tested<F> {
    fn describe() -> Entry {
        Entry {
            name: type_name::<F>(),
            role: Role::Test,
        }
    }
}

fn call<F, Shape, G>(input: &[u8]) -> Vec<u8>
where
    F: Callable<Shape> + Copy + Send + Sync + 'static,
    G: EntryAdapter<F>,
{
    const {
        assert!(
            size_of::<F>() == 0,
            "only a plain function can run in another process: \
             closures that capture and function pointers cannot"
        );
    }
    assert!(is_plain::<F>(), "{} is a closure", type_name::<F>());
    // SAFETY: F has size zero, so reading it touches no memory, and it is Copy, so one more of it does no harm. It is
    // a value that safe code could have made here: a plain `fn` item, which is valid everywhere in a program and
    // carries nothing. A zero-sized type that is `Callable` (a sealed trait) is either that or a closure, and
    // closures were rejected above.
    let function = unsafe { std::ptr::NonNull::<F>::dangling().read() };
    G::run(function, input)
}

/// An element of the linker's array. Only this module's assembly writes it, so every element is either null or a
/// function of this type.
type Describe = fn() -> Entry;

/// The section's name. It contains the version, since a program may contain two versions of this crate whose entries
/// differ.
macro_rules! section {
    () => {
        concat!(
            "procession_entries_",
            env!("CARGO_PKG_VERSION_MAJOR"),
            "_",
            env!("CARGO_PKG_VERSION_MINOR"),
            "_",
            env!("CARGO_PKG_VERSION_PATCH")
        )
    };
}

/// Appends one pointer to the section. "R" keeps the linker from collecting it as garbage.
macro_rules! append {
    ($pointer:literal $(, $name:ident = sym $function:path)?) => {
        std::arch::asm!(
            concat!(".pushsection ", section!(), ", \"awR\", %progbits"),
            ".balign 8",
            concat!(".8byte ", $pointer),
            ".popsection",
            $($name = sym $function,)?
            options(nomem, nostack, preserves_flags),
        )
    };
}

fn register<D: Described>() {
    // SAFETY: no instruction is emitted in the control flow; the directives append one aligned, relocated pointer to
    // a section of our own and return to the section they came from.
    unsafe { append!("{describe}", describe = sym D::describe) }
}

struct Table {
    entries: Vec<Entry>,
    ids: IdMap<TypeId, EntryId>,
    test: Option<&'static str>,
    fingerprint: u64,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let entries = read_section();
        let mut ids = IdMap::default();
        let mut test = None;
        let mut hasher = DefaultHasher::new();
        for (index, entry) in entries.iter().enumerate() {
            entry.name.hash(&mut hasher);
            match entry.role {
                // A function compiled into several units appears several times, always with the same description.
                Role::Call { of, .. } => {
                    of.hash(&mut hasher);
                    ids.entry(of).or_insert(EntryId(index as u32));
                }
                Role::Test => test = Some(entry.name),
            }
        }
        Table {
            entries,
            ids,
            test,
            fingerprint: hasher.finish(),
        }
    })
}

fn read_section() -> Vec<Entry> {
    // The linker defines symbols for the two ends of a section whose name is an identifier.
    unsafe extern "C" {
        #[link_name = concat!("__start_", section!())]
        static START: [usize; 0];
        #[link_name = concat!("__stop_", section!())]
        static STOP: [usize; 0];
    }
    // SAFETY: as in `register`. The null keeps the section, and so its two ends, in programs that start no child.
    unsafe { append!("0") }
    let (start, stop) = (&raw const START, &raw const STOP);
    let count = (stop.addr() - start.addr()) / size_of::<Option<Describe>>();
    // SAFETY: this module's assembly wrote everything between the two ends: aligned pointers, each null or the
    // address of a `Describe`, never written after relocation.
    let pointers = unsafe { std::slice::from_raw_parts(start.cast::<Option<Describe>>(), count) };
    pointers
        .iter()
        .flatten()
        .map(|describe| describe())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Doubled;

    impl<F: Fn(u8) -> u8> EntryAdapter<F> for Doubled {
        fn run(function: F, input: &[u8]) -> Vec<u8> {
            input.iter().map(|&n| function(n)).collect()
        }
    }

    fn double(n: u8) -> u8 {
        2 * n
    }

    fn triple(n: u8) -> u8 {
        3 * n
    }

    #[test]
    fn a_function_is_found_by_its_type_and_called_by_its_place() {
        let two = entry_of::<_, _, Doubled>(double).unwrap();
        let three = entry_of::<_, _, Doubled>(triple).unwrap();
        assert_ne!(two, three);
        let two = entry(EntryId::from_u32(two.as_u32())).unwrap();
        assert!(two.name().ends_with("tests::double"));
        assert_eq!(two.call(&[1, 2]), Some(vec![2, 4]));
        assert_eq!(entry(three).unwrap().call(&[1, 2]), Some(vec![3, 6]));
    }

    #[test]
    fn a_closure_is_refused() {
        let refused = entry_of::<_, _, Doubled>(|n: u8| n);
        assert!(matches!(refused, Err(NotPlain::Closure(_))));
    }

    #[test]
    fn a_place_outside_the_table_is_nothing() {
        assert!(entry(EntryId::from_u32(u32::MAX)).is_none());
    }
}
