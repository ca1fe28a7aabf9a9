//! What records are made of, before any of them is sent.

pub mod random;
pub mod sign;
