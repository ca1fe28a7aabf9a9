//! The ingest-traffic generator that tells the truth.
//!
//! Reading order and the floor rule (imports only go down): `ARCHITECTURE.md`.

pub mod base;
pub mod compare;
pub mod config;
pub mod connect;
pub mod core_loop;
pub mod counters;
pub mod governance;
pub mod host;
pub mod manifest;
pub mod merge;
pub mod observe;
pub mod pace;
pub mod payload;
pub mod plan;
pub mod receive;
pub mod record;
pub mod run;
pub mod saturate;
pub mod sink;
pub mod sys;
pub mod tap;
pub mod verify;
pub mod wire;
