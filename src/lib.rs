//! The ingest-traffic generator that tells the truth.
//!
//! Reading order and the floor rule (imports only go down): `ARCHITECTURE.md`.

pub mod base;
pub mod config;
pub mod counters;
pub mod host;
pub mod manifest;
pub mod plan;
pub mod record;
pub mod sys;
pub mod wire;
