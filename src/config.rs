//! From flags, environment and file to a `RunPlan`: one table of keys, one list of values, one check of it all.
//!
//! `keys` → `load` (with `file`) → `values` (with `parse`) → `resolve`; `flags` reads command lines, `cli` is on top.
//! `docs` and `schema` are made from `keys` too.

pub mod capacity;
pub mod cli;
pub mod credentials;
pub mod docs;
pub mod doctor;
pub mod file;
pub mod flags;
pub mod kafka_access;
pub mod kafka_properties;
pub mod keys;
pub mod load;
pub mod masked;
pub mod merge;
pub mod nearest;
pub mod parse;
pub mod plan_json;
pub mod receive;
pub mod reports;
pub mod resolve;
pub mod saturate;
pub mod schema;
pub mod slo;
pub mod url;
pub mod values;
pub mod verify;

pub use cli::parse;
pub use plan_json::plan_to_json;

use crate::host::Sysfs;
use crate::host::doctor::DoctorArgs;
use crate::host::fs::{self, Direct};
use crate::plan::receive::ReceivePlan;
use crate::plan::saturate::SaturatePlan;
use crate::plan::{CompareArgs, MergeArgs, ReportArgs, RunPlan, VerifyArgs};
use std::path::Path;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Command {
    Run(Box<RunPlan>),
    DryRun(Box<RunPlan>),
    Verify(Box<VerifyArgs>),
    Receive(Box<ReceivePlan>),
    Saturate(Box<SaturatePlan>),
    Doctor(Box<DoctorArgs>),
    Plan(Box<capacity::CapacityArgs>),
    Merge(MergeArgs),
    Report(ReportArgs),
    Compare(CompareArgs),
    Schema(SchemaKind),
    /// The text to print.
    Help(String),
    Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaKind {
    Config,
    Report,
}

/// What the plan asks of the host; tests answer in its place.
#[derive(Clone, Debug)]
pub struct Deps {
    /// `Err` says why io_uring cannot be used here.
    pub uring_probe: fn() -> Result<(), String>,
    /// What O_DIRECT says where a path lies.
    pub direct_probe: fn(&Sysfs, &Path) -> Result<Direct, String>,
    pub sysfs: Sysfs,
    /// Logs go to a terminal.
    pub terminal: bool,
}

impl Deps {
    /// For this host and this process's standard error.
    pub fn new(uring_probe: fn() -> Result<(), String>) -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        Self { uring_probe, direct_probe: fs::try_direct, sysfs: Sysfs::default(), terminal }
    }
}
