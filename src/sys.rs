//! The only room with unsafe code: what the kernel and the processor offer, behind safe functions.

pub mod aio;
pub mod allocation;
pub mod clock;
pub mod crc;
pub mod ethtool;
pub mod file;
pub mod fs;
pub mod lend;
pub mod netlink;
pub mod pipe;
pub mod prefetch;
pub mod process;
pub mod receive;
pub mod region;
pub mod ring;
pub mod socket;
pub mod streams;
pub mod syscalls;
pub mod threads;
pub mod timer;
pub mod uring;
