//! Every setting of `run`, once. Flags, `ENGINE_` variables, configuration keys, plain defaults, `--help`, the JSON
//! Schema and the README's table are made from [`KEYS`].

mod table;

/// What a value is, and so how it is read, shown and described in the schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Bytes a second.
    Rate,
    /// Bytes a second, or `unlimited`.
    RateOrUnlimited,
    /// Bytes.
    Size,
    /// Bytes, or `inf`.
    SizeOrInf,
    /// Bytes, or two sizes with a `-` between them.
    SizeRange,
    /// Bytes, or a share such as `10%`.
    SizeOrPercent,
    Duration,
    /// A duration, or `inf`.
    DurationOrInf,
    /// A point in time.
    Timestamp,
    Count {
        min: u64,
        max: u64,
    },
    /// A count, or this word for no limit.
    CountOr {
        word: &'static str,
        min: u64,
        max: u64,
    },
    /// A number from 0 to the maximum.
    Fraction {
        max: f64,
    },
    Choice(&'static [&'static str]),
    Switch,
    Url,
    Path,
    CpuList,
    Address,
    Shard,
    Slo,
    /// `off`, a number of further attempts, or one with a range of pauses.
    Retry,
    /// `NAME:VALUE`.
    Header,
    /// `NAME=VALUE`.
    Property,
    /// `none`, `producer` or `cycle:N`.
    RecordKey,
    Text,
}

impl Kind {
    /// Its value is a text, even one that looks like a number.
    pub fn is_text(self) -> bool {
        matches!(self, Kind::Url | Kind::Path | Kind::Address | Kind::Header | Kind::Property | Kind::Text)
    }
}

/// The headings of `--help`, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Target,
    Load,
    Payload,
    Files,
    Network,
    Http,
    Kafka,
    Io,
    Fleet,
    Observe,
    Run,
}

impl Group {
    pub const ALL: &[Group] = &[
        Group::Target,
        Group::Load,
        Group::Payload,
        Group::Files,
        Group::Network,
        Group::Http,
        Group::Kafka,
        Group::Io,
        Group::Fleet,
        Group::Observe,
        Group::Run,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Group::Target => "Target",
            Group::Load => "Load",
            Group::Payload => "Payload",
            Group::Files => "Files",
            Group::Network => "Connections",
            Group::Http => "HTTP",
            Group::Kafka => "Kafka",
            Group::Io => "Cores and I/O",
            Group::Fleet => "Fleet",
            Group::Observe => "Seeing it",
            Group::Run => "Configuration and safety",
        }
    }
}

/// What a setting has no effect without. `config/resolve/useless.rs` says it, and how it is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    FileTarget,
    /// A file target that is no device.
    Files,
    NetworkTarget,
    Tcp,
    Http,
    Kafka,
    /// A target that says what it took: HTTP or Kafka.
    Answers,
    /// `https`, or Kafka, which may have TLS.
    Tls,
    /// A target whose requests or batches do not say how large a block is.
    Blocks,
    /// A target that io_uring can serve.
    Ring,
    Stage(StageNeeds),
    Template,
    MetricsAddr,
    GovernanceUrl,
}

/// The same, where each stage has it or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageNeeds {
    /// This mode.
    Sampled,
    Burst,
    /// A ramp.
    Ramp,
}

impl StageNeeds {
    /// What is said of it where it is missing, and how it is had.
    pub fn as_flag(self) -> (&'static str, &'static str) {
        match self {
            StageNeeds::Sampled => ("--mode sampled", "--mode=sampled"),
            StageNeeds::Burst => ("--mode burst", "--mode=burst"),
            StageNeeds::Ramp => ("--ramp-to", "--ramp-to=1GB/s"),
        }
    }

    /// The same in a stage of `phases:`.
    pub fn in_phases(self) -> (&'static str, &'static str) {
        match self {
            StageNeeds::Sampled => ("mode: sampled", "mode: sampled"),
            StageNeeds::Burst => ("mode: burst", "mode: burst"),
            StageNeeds::Ramp => ("ramp_to", "ramp_to: 1GB/s"),
        }
    }
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Of the flag, without its dashes.
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub kind: Kind,
    /// Stands for the value in `--help`; empty for choices, which stand there themselves.
    pub value: &'static str,
    /// As `--help` shows it: a value, or, for what is resolved later, words. See [`Key::default_text`].
    pub default: &'static str,
    pub example: &'static str,
    pub help: &'static str,
    pub group: Group,
    pub repeatable: bool,
    /// A stage of `phases:` may set it too.
    pub phase: bool,
    /// Given without it, it is refused.
    pub needs: Option<Needs>,
}

impl Key {
    /// As configuration files and the report write it.
    pub fn config_key(&self) -> String {
        self.name.replace('-', "_")
    }

    /// As the environment writes it.
    pub fn variable(&self) -> String {
        format!("{ENV_PREFIX}{}", self.name.replace('-', "_").to_uppercase())
    }

    /// The default as somebody would say it, where it is a value.
    pub fn default_text(&self) -> &'static str {
        self.default.strip_suffix(" (off)").unwrap_or(self.default)
    }

    /// What stands for the value in `--help`. Empty: a switch, which needs none.
    pub fn placeholder(&self) -> String {
        match self.kind {
            Kind::Choice(values) => values.join("|"),
            _ => self.value.to_owned(),
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

pub const ENV_PREFIX: &str = "ENGINE_";
/// What Kubernetes injects for a service called `engine`, and what `scripts/tune-host.sh` reads.
pub const ENV_IGNORED: &[&str] = &["ENGINE_PORT", "ENGINE_SERVICE_", "ENGINE_TUNING_STATE"];

/// The key of a flag name, variable tail or configuration key, aliases included.
pub fn find(name: &str) -> Option<&'static Key> {
    let name = name.replace('_', "-");
    KEYS.iter().find(|key| key.names().any(|known| known == name))
}

const fn key(group: Group, name: &'static str, kind: Kind, value: &'static str) -> Key {
    let needs = match group {
        Group::Network => Some(Needs::NetworkTarget),
        Group::Http => Some(Needs::Http),
        Group::Kafka => Some(Needs::Kafka),
        _ => None,
    };
    let (default, example, help) = ("", "", "");
    Key { name, aliases: &[], kind, value, default, example, help, group, repeatable: false, phase: false, needs }
}

impl Key {
    const fn says(mut self, default: &'static str, example: &'static str, help: &'static str) -> Self {
        (self.default, self.example, self.help) = (default, example, help);
        self
    }

    const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn repeated(mut self) -> Self {
        self.repeatable = true;
        self
    }

    const fn in_phases(mut self) -> Self {
        self.phase = true;
        self
    }

    /// In place of what its group needs.
    const fn needs(mut self, needs: Needs) -> Self {
        self.needs = Some(needs);
        self
    }

    const fn needs_stage(self, needs: StageNeeds) -> Self {
        self.needs(Needs::Stage(needs))
    }
}

pub use table::{KEYS, SASL_MECHANISMS};

/// `phases:` is no flag: a list of stages, each with the keys marked `phase`.
pub const PHASES_KEY: &str = "phases";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_key_is_described() {
        let mut names: Vec<_> = KEYS.iter().flat_map(Key::names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for key in KEYS {
            assert!(!key.help.is_empty() && !key.default.is_empty() && !key.example.is_empty(), "{}", key.name);
            assert_eq!(key.placeholder().is_empty(), key.kind == Kind::Switch, "{}", key.name);
        }
    }

    #[test]
    fn all_spellings_find_the_key() {
        for name in ["block-size", "block_size", "bs"] {
            assert_eq!(find(name).unwrap().name, "block-size");
        }
        assert_eq!(find("sink").unwrap().variable(), "ENGINE_TARGET");
        assert!(find("phases").is_none() && find("").is_none());
    }
}
