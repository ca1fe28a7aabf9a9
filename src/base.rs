//! What every room may use: units, the clock, limits, fatal errors.

pub mod clock;
pub mod fatal;
pub mod limits;
pub mod units;
