//! What every room may use: units, the clock, limits, files within a limit, places of files, signals, fatal errors.

pub mod bounded;
pub mod clock;
pub mod fatal;
pub mod limits;
pub mod page;
pub mod place;
pub mod random;
pub mod signals;
pub mod units;
