//! Maps whose keys are numbers of our own.
//!
//! Std's usual hasher draws random numbers against keys that an attacker chose, and panics where a sandbox refuses to
//! draw them with an error that it does not expect. Nobody chooses these keys.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, DefaultHasher};

/// A map from ids.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// A set of ids.
pub type IdSet<K> = HashSet<K, BuildHasherDefault<DefaultHasher>>;
