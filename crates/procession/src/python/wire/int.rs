//! Ints of any size that Rust has.

use procession_wire::{tag, varint};
use serde::de::Visitor;

use super::WireError;

/// Appends an int in the shortest form.
pub(super) fn write(out: &mut Vec<u8>, n: i128) {
    match n {
        0..=127 => out.push(tag::SMALL_INT | n as u8),
        -0x80..=0x7f => sized(out, tag::INT_8, (n as i8).to_le_bytes()),
        -0x8000..=0x7fff => sized(out, tag::INT_16, (n as i16).to_le_bytes()),
        -0x8000_0000..=0x7fff_ffff => sized(out, tag::INT_32, (n as i32).to_le_bytes()),
        _ => match i64::try_from(n) {
            Ok(n) => sized(out, tag::INT_64, n.to_le_bytes()),
            Err(_) => {
                let bits = 128 - n.unsigned_abs().leading_zeros();
                big(out, &n.to_le_bytes()[..16.min(bits as usize / 8 + 1)]);
            }
        },
    }
}

/// Like [`write()`], for numbers that may exceed an `i128`.
pub(super) fn write_unsigned(out: &mut Vec<u8>, n: u128) {
    match i128::try_from(n) {
        Ok(n) => write(out, n),
        Err(_) => {
            let mut digits = [0; 17];
            digits[..16].copy_from_slice(&n.to_le_bytes());
            big(out, &digits);
        }
    }
}

fn sized<const N: usize>(out: &mut Vec<u8>, tag: u8, bytes: [u8; N]) {
    out.push(tag);
    out.extend_from_slice(&bytes);
}

fn big(out: &mut Vec<u8>, digits: &[u8]) {
    out.push(tag::BIG_INT);
    varint::write(out, digits.len());
    out.extend_from_slice(digits);
}

/// A decoded int.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Int {
    Signed(i128),
    /// Larger than any `i128`.
    Unsigned(u128),
}

impl Int {
    /// Returns the nearest float.
    pub(super) fn to_f64(self) -> f64 {
        match self {
            Int::Signed(n) => n as f64,
            Int::Unsigned(n) => n as f64,
        }
    }

    /// Decodes two's complement digits.
    pub(super) fn of(digits: &[u8]) -> Result<Int, WireError> {
        let sign = match digits.last() {
            Some(0x80..) => 0xff,
            _ => 0,
        };
        let used = digits
            .iter()
            .rposition(|&digit| digit != sign)
            .map_or(0, |last| last + 1);
        if used > 16 {
            return Err(too_large(digits.len()));
        }
        let mut all = [sign; 16];
        all[..used].copy_from_slice(&digits[..used]);
        let n = i128::from_le_bytes(all);
        match (sign == 0, n < 0) {
            (true, true) => Ok(Int::Unsigned(u128::from_le_bytes(all))),
            (false, false) => Err(too_large(digits.len())),
            _ => Ok(Int::Signed(n)),
        }
    }

    /// Passes it to a visitor as the smallest type that can hold it.
    pub(super) fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        let n = match self {
            Int::Signed(n) => n,
            Int::Unsigned(n) => return visitor.visit_u128(n),
        };
        if let Ok(n) = i64::try_from(n) {
            visitor.visit_i64(n)
        } else if let Ok(n) = u64::try_from(n) {
            visitor.visit_u64(n)
        } else {
            visitor.visit_i128(n)
        }
    }
}

fn too_large(bytes: usize) -> WireError {
    WireError::new(format_args!(
        "an int of {bytes} bytes, too large for any of Rust's integers"
    ))
}

#[cfg(test)]
mod tests {
    use super::{Int, write, write_unsigned};
    use procession_wire::{Reader, tag};

    fn digits(message: &[u8]) -> Vec<u8> {
        let mut reader = Reader::new(message);
        assert_eq!(reader.byte().unwrap(), tag::BIG_INT);
        reader.blob().unwrap().to_vec()
    }

    #[test]
    fn every_power_of_two_and_its_neighbours_come_back() {
        for bits in 64..127 {
            for n in [1i128 << bits, -1 << bits]
                .map(|n| [n - 1, n, n + 1])
                .concat()
            {
                let mut message = Vec::new();
                write(&mut message, n);
                if message[0] == tag::BIG_INT {
                    assert_eq!(Int::of(&digits(&message)).unwrap(), Int::Signed(n), "{n}");
                }
            }
        }
        for n in [i128::MIN, i128::MAX] {
            let mut message = Vec::new();
            write(&mut message, n);
            assert_eq!(Int::of(&digits(&message)).unwrap(), Int::Signed(n), "{n}");
        }
        let mut message = Vec::new();
        write_unsigned(&mut message, u128::MAX);
        assert_eq!(
            Int::of(&digits(&message)).unwrap(),
            Int::Unsigned(u128::MAX)
        );
    }

    #[test]
    fn digits_too_many_are_read_if_they_say_nothing_and_refused_otherwise() {
        assert_eq!(Int::of(&[]).unwrap(), Int::Signed(0));
        assert_eq!(Int::of(&[0xff; 40]).unwrap(), Int::Signed(-1));
        let mut five = [0; 40];
        five[0] = 5;
        assert_eq!(Int::of(&five).unwrap(), Int::Signed(5));
        five[16] = 1;
        assert!(Int::of(&five).is_err());
        // One less than the smallest i128.
        let mut below = [0xff; 17];
        below[15] = 0x7f;
        assert!(Int::of(&below).is_err());
    }
}
