//! Why a run could not start or had to end, and the command that mends it.

use std::fmt;

/// Exit codes of the process; the table is in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Host = 3,
    SloMissed = 4,
    Unreachable = 5,
}

impl Exit {
    /// Of several processes the worst goes first: one that never started, then lost records, then a missed SLO.
    pub fn severity(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::SloMissed => 1,
            Exit::Failed => 2,
            Exit::Unreachable => 3,
            Exit::Host => 4,
            Exit::Usage => 5,
        }
    }

    /// The variant of a code that one of them gave.
    pub fn from_code(code: u8) -> Self {
        use Exit::{Done, Failed, Host, SloMissed, Unreachable, Usage};
        let all = [Done, Failed, Usage, Host, SloMissed, Unreachable];
        all.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Failed)
    }
}

/// A reason (its exit code), what happened with the value at fault, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    pub exit: Exit,
    pub what: String,
    pub mend: Option<String>,
}

/// Adds what is not among `errors` yet: several places may meet one fault.
pub fn add_once(errors: &mut Vec<Fatal>, fatal: Fatal) {
    if !errors.contains(&fatal) {
        errors.push(fatal);
    }
}

impl Fatal {
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), mend: None }
    }

    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    pub fn host(what: impl Into<String>) -> Self {
        Self::new(Exit::Host, what)
    }

    /// The command, flag or edit that mends it.
    pub fn mend(mut self, how: impl Into<String>) -> Self {
        self.mend = Some(how.into());
        self
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        match &self.mend {
            Some(how) => write!(f, "\n  mend: {how}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fatal {}
