//! How a core waits, and how it reaches the kernel.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    Busy,
    Adaptive,
}

/// The back end in force, resolved by trying it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    Uring,
    Syscall,
}

/// What follows where the kernel does not register the rings' memory. Whether it does shows only when it is asked: what
/// other processes of this user have locked counts as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unregistered {
    /// The run does not start: `--io uring` was asked for.
    Refused,
    /// A line says so.
    Told,
    /// The plan's notes have said so.
    Known,
}
