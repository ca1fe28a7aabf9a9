//! The only room with unsafe code: what the kernel and the processor offer, behind safe functions.

pub mod crc;
pub mod fs;
