//! The targets of `tests/fuzz/targets.rs` for libFuzzer; `scripts/fuzz.sh` runs them.

#[path = "../../tests/fuzz/targets.rs"]
mod targets;

pub use targets::run;
