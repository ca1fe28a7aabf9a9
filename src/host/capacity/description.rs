//! A machine that somebody describes (`--host FILE`), in YAML or JSON.

use crate::base::document::{self, Entry, Node};
use crate::base::fatal::Fatal;
use crate::base::{bounded, paths};
use crate::host::capacity::costs::Vendor;
use crate::host::capacity::machine::{Drive, ETHERNET_MTU, Machine};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

const BYTES_MAX: u64 = 1 << 20;
const EXAMPLE: &str = "cores: 32, processor: amd, clock_ghz: 3.0, nic_gbits: 100, mtu: 9000, drives: [{write_gigabytes_per_second: 6.6, count: 2}]";

/// What is believed: more than any machine has, and nothing that an estimate could not calculate with.
const CORES: RangeInclusive<u32> = 1..=65_536;
const MTU: RangeInclusive<u32> = 576..=65_535;
const DRIVES: RangeInclusive<u32> = 1..=10_000;
const CLOCK_GHZ: RangeInclusive<f64> = 0.1..=20.0;
const NIC_GBITS: RangeInclusive<f64> = 0.001..=100_000.0;
const MEMORY_GIGABYTES: RangeInclusive<f64> = 0.1..=100_000.0;
const DRIVE_GIGABYTES: RangeInclusive<f64> = 0.001..=1000.0;

const KEYS: &[&str] =
    &["cores", "processor", "clock_ghz", "sockets", "nic_gbits", "mtu", "drives", "memory_gigabytes_per_second"];
const DRIVE_KEYS: &[&str] = &["write_gigabytes_per_second", "count"];

/// Reads a description from its file.
///
/// # Errors
/// Exit 2: it cannot be read, or says what no machine has.
pub fn described(path: &Path) -> Result<Machine, Fatal> {
    let shown = path.display();
    let fail = |why: String| Fatal::usage(format!("--host '{shown}': {why}"));
    let text = bounded::read_text(path, BYTES_MAX)
        .map_err(|why| fail(why.to_string()).mend(paths::mend_reading("host", path, &why)))?;
    parse(&text).map_err(|why| fail(why).mend(format!("write it like {EXAMPLE}")))
}

/// `Err` names the line, the key and its value, and what was expected there.
pub fn parse(text: &str) -> Result<Machine, String> {
    let document = document::parse(text).map_err(|(line, why)| format!("line {line}: {why}"))?;
    let fields = Fields::new(&document.0, KEYS)?;
    let cores = fields.number("cores", &CORES)?.ok_or("it does not say how many cores there are: cores: 32")?;
    Ok(Machine {
        cores,
        processor: fields.get("processor").map(vendor).transpose()?,
        clock_ghz: fields.number("clock_ghz", &CLOCK_GHZ)?,
        sockets: fields.number("sockets", &(1..=cores))?.unwrap_or(1),
        nic_gbits: fields.number("nic_gbits", &NIC_GBITS)?,
        mtu: fields.number("mtu", &MTU)?.unwrap_or(ETHERNET_MTU),
        drives: fields.get("drives").map(drives).transpose()?.unwrap_or_default(),
        memory_gigabytes_per_second: fields.number("memory_gigabytes_per_second", &MEMORY_GIGABYTES)?,
        usable: Vec::new(),
        draw: 0,
        unknown: Vec::new(),
    })
}

/// One mapping of the description: known keys, each once.
struct Fields<'a>(&'a [Entry]);

impl<'a> Fields<'a> {
    fn new(entries: &'a [Entry], keys: &[&str]) -> Result<Self, String> {
        for (at, Entry { key, line, .. }) in entries.iter().enumerate() {
            if !keys.contains(&key.as_str()) {
                return Err(format!("line {line}: unknown key '{}', it is none of {}", clipped(key), keys.join(", ")));
            }
            if entries[..at].iter().any(|other| other.key == *key) {
                return Err(format!("line {line}: {key} is given twice"));
            }
        }
        Ok(Self(entries))
    }

    /// What is given as nothing is as good as left out.
    fn get(&self, key: &str) -> Option<&'a Entry> {
        self.0.iter().find(|entry| entry.key == key && !matches!(entry.value, Node::Null))
    }

    fn number<T>(&self, key: &str, range: &RangeInclusive<T>) -> Result<Option<T>, String>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(entry) = self.get(key) else { return Ok(None) };
        let number =
            entry.value.text(false).and_then(|text| text.parse::<T>().ok()).filter(|number| range.contains(number));
        let refused = || {
            let (line, value) = (entry.line, shown(&entry.value));
            format!("line {line}: {key} {value} is no number from {} to {}", range.start(), range.end())
        };
        number.map(Some).ok_or_else(refused)
    }
}

fn vendor(entry: &Entry) -> Result<Vendor, String> {
    match entry.value.text(false).as_deref() {
        Some("amd") => Ok(Vendor::Amd),
        Some("intel") => Ok(Vendor::Intel),
        _ => Err(format!("line {}: processor {} is none of amd, intel", entry.line, shown(&entry.value))),
    }
}

fn drives(entry: &Entry) -> Result<Vec<Drive>, String> {
    let wrong = |line: u64, value: &Node| {
        let one = "{write_gigabytes_per_second: 6.6, count: 2}";
        format!("line {line}: drives {} is no list of mappings such as [{one}]", shown(value))
    };
    let Node::List(items) = &entry.value else { return Err(wrong(entry.line, &entry.value)) };
    let drive = |(line, item): &(u64, Node)| {
        let Node::Map(entries) = item else { return Err(wrong(*line, item)) };
        let fields = Fields::new(entries, DRIVE_KEYS)?;
        let speed = fields.number("write_gigabytes_per_second", &DRIVE_GIGABYTES)?;
        let missing = || format!("line {line}: the drive does not say how fast it is: write_gigabytes_per_second: 6.6");
        Ok(Drive {
            write_gigabytes_per_second: speed.ok_or_else(missing)?,
            count: fields.number("count", &DRIVES)?.unwrap_or(1),
        })
    };
    items.iter().map(drive).collect()
}

/// A value as it was written, for an error.
fn shown(value: &Node) -> String {
    match value {
        Node::Null => "(nothing)".to_owned(),
        Node::List(_) => "[…]".to_owned(),
        Node::Map(_) => "{…}".to_owned(),
        Node::Text(_) | Node::Typed { .. } => clipped(&value.text(true).unwrap_or_default()),
    }
}

/// On one line, whatever it was.
fn clipped(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_yaml_or_json() {
        let yaml = parse(
            "cores: 32\nclock_ghz: 3.0\nnic_gbits: 100\nmtu: ~\ndrives:\n- write_gigabytes_per_second: 6.6\n  count: 2\n",
        );
        let json = parse(
            r#"{"cores": 32, "clock_ghz": 3.0, "nic_gbits": 100,
                "drives": [{"write_gigabytes_per_second": 6.6, "count": 2}]}"#,
        );
        assert_eq!(yaml, json);
        let machine = yaml.unwrap();
        assert_eq!((machine.cores, machine.sockets, machine.mtu, machine.drives[0].count), (32, 1, 1500, 2));
        let amd = parse("processor: amd\ncores: &a 2\nsockets: *a\nclock_ghz: 20\nnic_gbits: 0.001\n").unwrap();
        assert_eq!((amd.processor, amd.sockets, amd.nic_gbits), (Some(Vendor::Amd), 2, Some(0.001)));
    }

    #[test]
    fn a_wrong_description_names_the_line_the_value_and_what_was_expected() {
        for (text, said) in [
            ("cores: 0", "line 1: cores 0 is no number from 1 to 65536"),
            ("cores: many", "line 1: cores many is no number from 1 to 65536"),
            ("cores: 2.5", "line 1: cores 2.5 is no number"),
            ("cores: [2]", "line 1: cores […] is no number"),
            ("cores: ~", "does not say how many cores"),
            ("clock_ghz: 3", "does not say how many cores"),
            ("", "does not say how many cores"),
            ("cores: 2\nsockets: 3", "line 2: sockets 3 is no number from 1 to 2"),
            ("cores: 2\nclock: 3", "line 2: unknown key 'clock', it is none of cores, processor, clock_ghz, sockets"),
            ("cores: 2\ncores: 3", "line 2: cores is given twice"),
            ("cores: 2\nprocessor: arm", "line 2: processor arm is none of amd, intel"),
            ("cores: 2\nmtu: 100", "line 2: mtu 100 is no number from 576 to 65535"),
            ("cores: 2\ndrives: 3", "line 2: drives 3 is no list of mappings"),
            ("cores: 2\ndrives:\n- 3", "line 3: drives 3 is no list of mappings"),
            ("cores: 2\ndrives:\n- count: 2", "line 3: the drive does not say how fast it is"),
            ("cores: 2\ndrives: [{write_gigabytes_per_second: 1, count: 0}]", "line 2: count 0 is no number from 1"),
            ("- 1", "this is no mapping"),
            ("cores: [1", "line 1: this cannot be read as YAML or JSON"),
            ("cores: 2\n---\ncores: 3", "line 3: this cannot be read as YAML or JSON"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(said) && !why.contains('\n'), "{text}: {why}");
        }
        assert!(parse(&format!("cores: {}", "9".repeat(5000))).unwrap_err().len() < 300);
        assert!(described(Path::new("/no/such/host.yaml")).unwrap_err().what.contains("/no/such/host.yaml"));
        let endless = described(Path::new("/dev/zero")).unwrap_err();
        assert!(endless.what.contains("more than 1048576 bytes"), "{endless}");
    }

    #[test]
    fn every_number_has_bounds() {
        for (key, range) in [
            ("clock_ghz", "from 0.1 to 20"),
            ("nic_gbits", "from 0.001 to 100000"),
            ("memory_gigabytes_per_second", "from 0.1 to 100000"),
            ("write_gigabytes_per_second", "from 0.001 to 1000"),
        ] {
            let finite = ["0", "-1", "-0.0", "1e308", "1e-308", "\"inf\"", "infinity"];
            // Those the reader refuses.
            let others = [".nan", ".inf", "-.inf", "1e999"];
            for value in finite.into_iter().chain(others) {
                let text = format!("{key}: {value}");
                let text = if key.starts_with("write") { format!("drives: [{{{text}}}]") } else { text };
                let why = parse(&format!("cores: 2\n{text}")).unwrap_err();
                let said = format!("line 2: {key} {} is no number {range}", value.trim_matches('"'));
                let refused = others.contains(&value) && why.contains("line 2: this cannot be read as YAML or JSON");
                assert!(refused || why.contains(&said), "{why}");
            }
        }
    }
}
