//! Plain old data: what may lie in memory that other processes write.

/// A type of fixed size without pointers or padding, read from any bytes: numbers, `bool` and
/// arrays of them.
///
/// The trait is sealed.
pub trait Plain: Copy + sealed::Plain + 'static {}

pub(crate) mod sealed {
    pub trait Plain: Sized {
        const SIZE: usize;
        /// Writes the value into exactly [`Plain::SIZE`] bytes.
        fn write(&self, bytes: &mut [u8]);
        /// Reads a value from exactly [`Plain::SIZE`] bytes; any bytes are one.
        fn read(bytes: &[u8]) -> Self;
    }
}

macro_rules! numbers {
    ($($number:ty)+) => {$(
        impl Plain for $number {}

        impl sealed::Plain for $number {
            const SIZE: usize = size_of::<$number>();

            fn write(&self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_ne_bytes());
            }

            fn read(bytes: &[u8]) -> $number {
                <$number>::from_ne_bytes(bytes.try_into().expect("as many bytes as the number has"))
            }
        }
    )+};
}

numbers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);

impl Plain for bool {}

impl sealed::Plain for bool {
    const SIZE: usize = 1;

    fn write(&self, bytes: &mut [u8]) {
        bytes[0] = u8::from(*self);
    }

    fn read(bytes: &[u8]) -> bool {
        bytes[0] != 0
    }
}

impl<T: Plain, const N: usize> Plain for [T; N] {}

impl<T: sealed::Plain, const N: usize> sealed::Plain for [T; N] {
    const SIZE: usize = T::SIZE * N;

    fn write(&self, bytes: &mut [u8]) {
        for (index, item) in self.iter().enumerate() {
            item.write(&mut bytes[index * T::SIZE..][..T::SIZE]);
        }
    }

    fn read(bytes: &[u8]) -> [T; N] {
        std::array::from_fn(|index| T::read(&bytes[index * T::SIZE..][..T::SIZE]))
    }
}

/// The bytes of several values, one after the other.
pub(crate) fn to_bytes<T: Plain>(values: &[T]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * T::SIZE];
    for (index, value) in values.iter().enumerate() {
        value.write(&mut bytes[index * T::SIZE..][..T::SIZE]);
    }
    bytes
}

/// The values whose bytes lie one after the other.
pub(crate) fn from_bytes<T: Plain>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(T::SIZE.max(1)).map(T::read).collect()
}

/// Lends a buffer for one value, from the stack where it fits.
pub(crate) fn with_buffer<T: Plain, R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut small = [0; 64];
    match small.get_mut(..T::SIZE) {
        Some(buffer) => work(buffer),
        None => work(&mut vec![0; T::SIZE]),
    }
}
