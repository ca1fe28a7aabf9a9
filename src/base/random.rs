//! Names that nobody else has.

use std::hash::{BuildHasher, Hasher, RandomState};

/// The standard library seeds each of its hashers' keys from the system's randomness.
pub fn bits() -> u64 {
    RandomState::new().build_hasher().finish()
}
