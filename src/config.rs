//! From flags, environment and file to a `RunPlan`: one table of keys, one list of values, one check of it all.
//!
//! `keys` → `cli`, `load`, `file` → `values` (with `parse`) → `resolve`; `docs` and `schema` are made from `keys` too.

pub mod cli;
pub mod docs;
pub mod doctor;
pub mod file;
pub mod kafka_access;
pub mod kafka_properties;
pub mod keys;
pub mod load;
pub mod masked;
pub mod merge;
pub mod nearest;
pub mod parse;
pub mod plan;
pub mod plan_json;
pub mod receive;
pub mod reports;
pub mod resolve;
pub mod saturate;
pub mod schema;
pub mod slo;
pub mod values;

pub use cli::parse;
pub use plan_json::plan_to_json;

use crate::host::Sysfs;
use crate::host::doctor::DoctorArgs;
use crate::plan::receive::ReceivePlan;
use crate::plan::saturate::SaturatePlan;
use crate::plan::{Annotate, RunPlan, TemplateFile};
pub use crate::plan::{CompareArgs, MergeArgs, ReportArgs, VerifyArgs};

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Command {
    Run(Box<RunPlan>),
    DryRun(Box<RunPlan>),
    Verify(Box<VerifyArgs>),
    Receive(Box<ReceivePlan>),
    Saturate(Box<SaturatePlan>),
    Doctor(Box<DoctorArgs>),
    Plan(Box<plan::PlanArgs>),
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

/// The length of the records that a template makes, and whether they carry the record header; or what is wrong with it.
pub type TemplateCheck = fn(&TemplateFile, Annotate) -> Result<(u64, bool), String>;

/// What the plan needs to know from rooms that `config` does not know, and from the host.
#[derive(Clone, Debug)]
pub struct Deps {
    /// `Err` says why io_uring cannot be used here.
    pub uring_probe: fn() -> Result<(), String>,
    /// See `payload::template::check`.
    pub template_check: TemplateCheck,
    pub sysfs: Sysfs,
    /// Logs go to a terminal.
    pub terminal: bool,
}

impl Deps {
    /// For this host and this process's standard error.
    pub fn new(uring_probe: fn() -> Result<(), String>, template_check: TemplateCheck) -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        Self { uring_probe, template_check, sysfs: Sysfs::default(), terminal }
    }
}
