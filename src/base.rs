//! What every room may use: units, the clock, limits, signals, fatal errors.

pub mod clock;
pub mod fatal;
pub mod limits;
pub mod signals;
pub mod units;
