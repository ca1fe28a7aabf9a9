//! What records are made of, before any of them is sent.

pub mod baked;
pub mod fits;
pub mod fits_checksum;
pub mod placeholders;
pub mod random;
pub mod render;
pub mod sign;
pub mod template;
