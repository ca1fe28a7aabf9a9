//! What every room may use: units, digits, the clock, time in which somebody looked, limits, files within a limit, YAML and
//! JSON with line numbers, paths to files, signals, fatal errors, how the program was called, how far a reading is,
//! words of others.

pub mod align;
pub mod attention;
pub mod bounded;
pub mod clock;
pub mod digits;
pub mod document;
pub mod fatal;
pub mod limits;
pub mod paths;
pub mod program;
pub mod progress;
pub mod random;
pub mod signals;
pub mod units;
pub mod within_host;
pub mod words;
