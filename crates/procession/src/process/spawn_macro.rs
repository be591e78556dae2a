//! The macro that starts a process with a closure.

/// Starts a process that runs a block with its captured values.
///
/// `spawn!(|name: Type, ...| -> Type { ... })` captures the variables of these names. `spawn!([name: Type =
/// value, ...] || -> Type { ... })` captures values. [`closure!`](crate::closure) explains what may be
/// captured. The macro returns what [`Process::spawn`](crate::Process::spawn) returns.
///
/// # Examples
/// ```
/// use procession::{Queue, spawn};
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let offset = 2;
///     let names = vec!["Ada".to_owned(), "Grace".to_owned()];
///     let process = spawn!(|offset: usize, names: Vec<String>| -> usize { names.len() + offset })?;
///     assert_eq!(process.join()?, 4);
///
///     let queue = Queue::new()?;
///     let process = spawn!([queue: Queue<u32> = queue.clone()] || { queue.put(5).unwrap(); })?;
///     process.join()?;
///     assert_eq!(queue.get()?, 5);
///     Ok(())
/// }
/// ```
///
/// A value that serde cannot carry does not compile:
///
/// ```compile_fail,E0277
/// let file = std::fs::File::open("/dev/null").unwrap();
/// procession::spawn!(|file: std::fs::File| { drop(file); });
/// ```
#[macro_export]
macro_rules! spawn {
    ([$($capture:tt)*] $($rest:tt)+) => {
        $crate::Process::spawn($crate::closure!([$($capture)*] $($rest)+), ())
    };
    (|| $($rest:tt)+) => {
        $crate::spawn!([] || $($rest)+)
    };
    (|$($($name:ident)+ : $type:ty),* $(,)?| $($rest:tt)+) => {
        $crate::spawn!([$($($name)+ : $type),*] || $($rest)+)
    };
    ($($other:tt)*) => {
        ::core::compile_error!(
            "write spawn!(|captured: Type| -> Type { ... }) or spawn!([captured: Type = value] || -> Type { ... }), with every type"
        )
    };
}
