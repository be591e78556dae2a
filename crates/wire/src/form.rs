//! Tells how a message is encoded, from its first bytes.

use crate::tag;

/// How the value of a message is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form<'a> {
    /// As a plain value.
    Plain,
    /// As a pickle.
    Pickle(&'a [u8]),
    /// As a pickle followed by its large buffers (pickle 5's out-of-band data).
    OutOfBand,
}

impl<'a> Form<'a> {
    /// Returns the form of a message.
    #[inline]
    pub fn of(message: &'a [u8]) -> Form<'a> {
        match message {
            [tag::PICKLE, pickle @ ..] => Form::Pickle(pickle),
            [tag::PROTO, 2..=5, _, ..] => Form::Pickle(message),
            [tag::OUT_OF_BAND, ..] => Form::OutOfBand,
            _ => Form::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Form;

    #[test]
    fn a_lone_zero_is_no_pickle() {
        assert_eq!(Form::of(&[0x80]), Form::Plain);
        assert_eq!(
            Form::of(&[0x80, 4, b'N', b'.']),
            Form::Pickle(&[0x80, 4, b'N', b'.'])
        );
        assert_eq!(Form::of(b"P\x80"), Form::Pickle(b"\x80"));
        assert_eq!(Form::of(b"O"), Form::OutOfBand);
        assert_eq!(Form::of(b""), Form::Plain);
    }
}
