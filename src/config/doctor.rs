//! The command line of `engine doctor`.

use crate::base::fatal::Fatal;
use crate::config::load::Settings;
use crate::config::resolve::{cores, target};
use crate::config::{flags, values};
use crate::host::doctor::{self, DoctorArgs, Scope};
use crate::host::{Sysfs, cpu};
use crate::plan::SinkKind;
use clap::ArgMatches;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;

/// Name, value, help.
pub const DOCTOR_FLAGS: &[(&str, &str, &str)] = &[
    ("for", "KIND", "Only what matters to this kind of load: kafka, http or file. Default: drives and network."),
    (
        "target",
        "URL",
        "As for run: the drive below file:PATH is judged, or the card that leads to the host of a network URL. \
         Repeatable. Default: the current folder's drive, and the fastest cards that are up.",
    ),
    ("cores", "LIST", "The processors that the load is to have. Default: what run would take."),
    ("nic", "NAME", "The network card of the load. Repeatable."),
    ("json", "", "The findings as JSON: item, verdict, subject, value, why, worth, source, fix."),
    (
        "root",
        "FOLDER",
        "Judges a recorded host instead of this one: its /proc and /sys lie below this folder, and in ethtool/NIC what \
         the driver of a card says, as lines like 'ring.tx: 1024' or 'qdisc: mq fq'. What was not recorded is unknown.",
    ),
];

pub fn parse(args: &[String]) -> Result<DoctorArgs, Vec<Fatal>> {
    let mut errors = Vec::new();
    let read = flags::own_flags(flags::bare("engine doctor"), DOCTOR_FLAGS, &["target", "nic"], args, &mut errors);
    let Some(matches) = read else { return Err(errors) };
    let args = resolve(&matches, &mut errors);
    if errors.is_empty() { Ok(args) } else { Err(errors) }
}

fn resolve(matches: &ArgMatches, errors: &mut Vec<Fatal>) -> DoctorArgs {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let all = |name: &str| matches.get_many::<String>(name).into_iter().flatten().cloned().collect::<Vec<_>>();
    let sysfs = root(text("root"), errors);
    let wanted_cores = text("cores").and_then(|list| match cpu::parse_list(list) {
        Ok(cores) => Some(cores),
        Err(why) => {
            errors.push(Fatal::usage(format!("--cores: {why}")).mend("--cores=0"));
            None
        }
    });
    // Cores that this process may not use are a finding, not a refusal.
    let cores = wanted_cores.unwrap_or_else(|| {
        let wanted = values::read(&Settings::default(), &mut Vec::new());
        cores::choose(&wanted, &sysfs, &mut Vec::new()).cpus
    });
    let urls = all("target");
    let targets = (!urls.is_empty()).then(|| target::resolve(&urls, &sysfs, errors));
    let (drives, network) = kinds(text("for"), targets.as_ref().map(|targets| targets.kind), errors);
    let mut scope = Scope { cores, network, nics: all("nic"), ..Scope::default() };
    if let Some(targets) = &targets {
        scope.paths = targets.places.iter().map(|place| place.path().to_owned()).collect();
        for (host, port) in targets.remotes.iter().flat_map(|url| &url.hosts) {
            let found = peers(host, *port, &sysfs);
            // Names of a recorded host are not looked up.
            if found.is_empty() && sysfs.is_live() {
                scope.unresolved.push(host.clone());
            }
            scope.peers.extend(found);
        }
    } else if drives {
        scope.paths = vec![if sysfs.is_live() { PathBuf::from(".") } else { PathBuf::from("/") }];
    }
    if !scope.nics.is_empty() && !network {
        let what = "--nic means nothing without a network target";
        errors.push(Fatal::usage(what).mend("leave it out, or --for=kafka"));
    }
    DoctorArgs { sysfs, scope, json: matches.get_flag("json") }
}

fn root(folder: Option<&str>, errors: &mut Vec<Fatal>) -> Sysfs {
    let Some(folder) = folder else { return Sysfs::default() };
    let root = PathBuf::from(folder);
    if !root.join("proc").is_dir() {
        let what = format!("--root '{folder}' has no folder proc");
        errors.push(Fatal::usage(what).mend("a folder with the proc and sys of a host"));
    }
    Sysfs { root }
}

/// (drives, network) that are in the scope.
fn kinds(wanted: Option<&str>, target: Option<SinkKind>, errors: &mut Vec<Fatal>) -> (bool, bool) {
    let of_target = |kind: SinkKind| (kind == SinkKind::File, kind.is_network());
    let asked = match wanted {
        None => return target.map_or((true, true), of_target),
        Some("kafka") => SinkKind::Kafka,
        Some("http") => SinkKind::Http,
        Some("file") => SinkKind::File,
        Some(other) => {
            errors.push(Fatal::usage(format!("--for '{other}' is none of kafka, http, file")).mend("--for=kafka"));
            return (true, true);
        }
    };
    if target.is_some_and(|target| target != asked) {
        let what = format!("--for {} and --target are of different kinds", wanted.unwrap_or_default());
        errors.push(Fatal::usage(what).mend("leave out --for"));
    }
    of_target(asked)
}

/// A name is looked up where the host is this one.
pub fn peers(host: &str, port: u16, sysfs: &Sysfs) -> Vec<IpAddr> {
    let known = doctor::addresses(&[host.to_owned()]);
    if !known.is_empty() || !sysfs.is_live() {
        return known;
    }
    (host, port).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fatal::Exit;

    fn read(words: &str) -> Result<DoctorArgs, Vec<Fatal>> {
        parse(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_target_decides_what_is_looked_at() {
        let scope = read("--target kafka://192.0.2.7:9092/t --cores 0").unwrap().scope;
        assert_eq!((scope.network, scope.paths.len()), (true, 0));
        assert_eq!(scope.peers, [IpAddr::from([192, 0, 2, 7])]);
        assert!(scope.unresolved.is_empty());
        let scope = read("--target kafka://nohost.invalid,192.0.2.7/t").unwrap().scope;
        assert_eq!((scope.unresolved, scope.peers.len()), (vec!["nohost.invalid".to_owned()], 1));
        let scope = read("--target file:/tmp/").unwrap().scope;
        assert_eq!((scope.network, scope.paths), (false, vec![PathBuf::from("/tmp/")]));
        let scope = read("--for http --nic eth9 --nic eth8").unwrap().scope;
        assert_eq!((scope.nics.len(), scope.network, scope.paths.len()), (2, true, 0));
        let args = read("--json").unwrap();
        assert!(args.json && args.scope.network && !args.scope.paths.is_empty() && !args.scope.cores.is_empty());
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let errors = read("--for x --cores y --root /no/such --target odd --loud").unwrap_err();
        for word in ["--for", "--cores", "--root", "odd", "--loud"] {
            assert!(errors.iter().any(|e| e.exit == Exit::Usage && e.what.contains(word)), "{word}: {errors:?}");
        }
        assert!(read("--for file --nic eth0").is_err() && read("--for file --target null").is_err());
        // A target that fits is no contradiction.
        assert!(
            read("--for kafka --target kafka://:1/t").is_err() && read("--for kafka --target kafka://h:1/t").is_ok()
        );
    }
}
