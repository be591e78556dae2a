//! Maps whose keys are numbers that this program chose.
//!
//! The default hasher of std draws random numbers to resist keys that an attacker chose, and panics where a sandbox
//! refuses to draw them with an error that it does not expect. Nobody else chooses these keys, so one multiplication is
//! enough to hash them.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// Hashes numbers: the previous hash, combined with the next number, times a large odd number, folded.
#[derive(Debug, Default, Clone, Copy)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        // 2^64 over the golden ratio. Every bit of the number reaches both halves of the product.
        let key = u128::from(self.0.rotate_left(5) ^ number);
        let product = key * 0x9E37_79B9_7F4A_7C15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// A map from ids.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// A set of ids.
pub type IdSet<K> = HashSet<K, BuildHasherDefault<IdHasher>>;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::hash::Hash;

    fn hash_of(key: impl Hash) -> u64 {
        let mut hasher = IdHasher::default();
        key.hash(&mut hasher);
        hasher.finish()
    }

    /// How many of 1024 buckets 1024 such keys fill.
    fn places<K: Hash>(keys: impl Iterator<Item = K>) -> usize {
        let places: IdSet<u64> = keys.take(1024).map(|key| hash_of(key) % 1024).collect();
        places.len()
    }

    #[test]
    fn keys_of_every_pattern_are_spread() {
        assert!(places(0_u64..) > 600);
        assert!(places((0_u64..).map(|n| n << 12)) > 400);
        assert!(places((0_u64..).map(|n| n << 40)) > 400);
        assert!(places((0_usize..).map(|n| 0x7f00_0000_0000 + n * 64)) > 400);
        assert!(places((0_u32..).map(|n| (7_u32, n))) > 400);
        assert!(places((0_u8..=255).flat_map(|n| (0_u8..4).map(move |m| [n, m]))) > 300);
    }
}
