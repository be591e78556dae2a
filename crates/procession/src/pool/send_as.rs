//! What a caller may pass for the arguments of a function without giving it away.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// Values that can be sent where a function takes `Args`, because both look the same to serde.
///
/// A call takes its arguments out of the caller's memory when it is submitted. So they may be borrowed:
/// a `&T` for a `T`, a `&str` for a `String`, a `&[T]` for a `Vec<T>`, a `&Path` for a `PathBuf`, each
/// also in an `Option` or in the tuple that stands for several arguments. Numbers, `bool`, `char` and
/// `String` are passed as they are.
///
/// It may be implemented for types that borrow, beside those that own. What does not serialise alike is
/// found out by the worker that reads it, and is the task's error.
///
/// # Examples
/// ```
/// use procession::{Pool, SendAs};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize)]
/// struct Search {
///     text: String,
///     word: String,
/// }
///
/// #[derive(Serialize)]
/// struct SearchIn<'a> {
///     text: &'a str,
///     word: &'a str,
/// }
///
/// impl SendAs<Search> for SearchIn<'_> {}
///
/// fn find(search: Search) -> Option<usize> {
///     search.text.find(&search.word)
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let pool = Pool::new(2)?;
///     let text = "processes that walk in procession".to_owned();
///     let (walk, run) = pool.scope(|scope| -> procession::Result<_> {
///         let walk = scope.submit(find, SearchIn { text: &text, word: "walk" })?;
///         let run = scope.submit(find, SearchIn { text: &text, word: "run" })?;
///         Ok((walk.join()?, run.join()?))
///     })?;
///     assert_eq!((walk, run), (Some(15), None));
///     Ok(())
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent as `{Args}`",
    note = "pass a reference to it, or a tuple of references for several arguments"
)]
pub trait SendAs<Args>: Serialize {}

impl<T: Serialize> SendAs<T> for &T {}

impl SendAs<String> for &str {}

impl<T: Serialize> SendAs<Vec<T>> for &[T] {}

impl SendAs<PathBuf> for &Path {}

impl<Sent: SendAs<Args>, Args> SendAs<Option<Args>> for Option<Sent> {}

macro_rules! as_they_are {
    ($($type:ty)+) => {$(
        impl SendAs<$type> for $type {}
    )+};
}

as_they_are!(() bool char String f32 f64);
as_they_are!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

macro_rules! in_a_tuple {
    ($($sent:ident $args:ident)+) => {
        impl<$($sent: SendAs<$args>, $args),+> SendAs<($($args,)+)> for ($($sent,)+) {}
    };
}

in_a_tuple!(A Aa B Bb);
in_a_tuple!(A Aa B Bb C Cc);
in_a_tuple!(A Aa B Bb C Cc D Dd);
in_a_tuple!(A Aa B Bb C Cc D Dd E Ee);
in_a_tuple!(A Aa B Bb C Cc D Dd E Ee G Gg);
in_a_tuple!(A Aa B Bb C Cc D Dd E Ee G Gg H Hh);
in_a_tuple!(A Aa B Bb C Cc D Dd E Ee G Gg H Hh I Ii);
