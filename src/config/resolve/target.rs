//! `--target` URLs: which kind of sink, and for files what each of them is.

use crate::base::fatal::Fatal;
use crate::base::paths::Landing;
use crate::base::program;
use crate::config::parse::behind_home;
use crate::config::url::{Scheme, Url, for_errors, with_both_slashes, without_secrets};
use crate::host::Sysfs;
use crate::host::block;
use crate::plan::SinkKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where the baseline writes.
pub const BASELINE_FOLDER: &str = "./engine-data/";
const BUILT: &str = "null, stdout, file:PATH, tcp://, http://, https:// and kafka:// are targets";

#[derive(Clone, Debug)]
pub struct Targets {
    pub kind: SinkKind,
    /// As given, without user info or query, for labels.
    pub urls: Vec<String>,
    /// One for each URL of a file target.
    pub places: Vec<Place>,
    /// One for each URL of a network target.
    pub remotes: Vec<Url>,
    /// No target was named.
    pub baseline: bool,
}

impl Targets {
    /// How many places or peers producers are dealt to.
    pub fn count(&self) -> usize {
        self.places.len().max(self.remotes.len()).max(1)
    }
}

/// What a file URL leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `payloads.<producer>.bin` in here.
    Folder(PathBuf),
    File(PathBuf),
    /// `device` is its `major:minor`.
    Block {
        path: PathBuf,
        device: String,
        capacity_bytes: u64,
    },
    /// `/dev/null` and its like.
    Special(PathBuf),
}

impl Place {
    pub fn path(&self) -> &Path {
        match self {
            Place::Folder(path) | Place::File(path) | Place::Special(path) | Place::Block { path, .. } => path,
        }
    }

    /// Written from its start to its end, and round again, by one producer; it has no files.
    pub fn is_device(&self) -> bool {
        matches!(self, Place::Block { .. } | Place::Special(_))
    }

    /// Whether one producer is all it takes by default.
    pub fn is_single(&self) -> bool {
        !matches!(self, Place::Folder(_))
    }
}

pub fn resolve(urls: &[String], sysfs: &Sysfs, errors: &mut Vec<Fatal>) -> Targets {
    if urls.is_empty() {
        let places = vec![Place::Folder(PathBuf::from(BASELINE_FOLDER))];
        let urls = vec![format!("file:{BASELINE_FOLDER}")];
        return Targets { kind: SinkKind::File, urls, places, remotes: Vec::new(), baseline: true };
    }
    let before = errors.len();
    let kinds: Vec<_> = urls.iter().filter_map(|url| scheme(url).map_err(|fatal| errors.push(fatal)).ok()).collect();
    let kind = kinds.first().copied().unwrap_or(SinkKind::Null);
    if kinds.iter().any(|other| *other != kind) {
        let shown: Vec<_> = urls.iter().map(|url| for_errors(url)).collect();
        errors
            .push(Fatal::usage(format!("--target mixes schemes: {}", shown.join(", "))).mend("targets of one scheme"));
    } else if matches!(kind, SinkKind::Null | SinkKind::Stdout) && urls.len() > 1 {
        errors.push(Fatal::usage(format!("--target {} is given {} times", urls[0], urls.len())).mend("name it once"));
    }
    let mut places = Vec::new();
    if kind == SinkKind::File && errors.len() == before {
        for url in urls {
            match place(url, sysfs) {
                Ok(place) => places.push(place),
                Err(fatal) => errors.push(fatal),
            }
        }
    }
    let mut remotes: Vec<Url> = Vec::new();
    let of_network = kind.is_network() && errors.len() == before;
    for url in urls.iter().filter(|_| of_network) {
        match Url::parse(url) {
            Ok(url) if remotes.contains(&url) => {
                errors.push(Fatal::usage(format!("--target '{}' is given twice", url.label())).mend("name it once"));
            }
            Ok(url) => remotes.push(url),
            Err(fatal) => errors.push(fatal),
        }
    }
    let urls = if kind.is_network() { remotes.iter().map(Url::label).collect() } else { urls.to_vec() };
    Targets { kind, urls, places, remotes, baseline: false }
}

fn scheme(url: &str) -> Result<SinkKind, Fatal> {
    match url {
        "null" => Ok(SinkKind::Null),
        "stdout" => Ok(SinkKind::Stdout),
        _ if url.starts_with("file:") => Ok(SinkKind::File),
        _ => Scheme::of(url).map(Scheme::kind).ok_or_else(|| {
            let meant = with_both_slashes(url);
            let shown = match url.split_once(':') {
                Some((scheme, rest)) if meant.is_some() => format!("{scheme}:{}", without_secrets(rest)),
                _ => for_errors(url),
            };
            let mend = meant.unwrap_or_else(|| format!("file:{shown}, say; {BUILT}"));
            Fatal::usage(format!("--target '{shown}' is no target")).mend(mend)
        }),
    }
}

fn place(url: &str, sysfs: &Sysfs) -> Result<Place, Fatal> {
    let body = url.strip_prefix("file:").unwrap_or(url);
    refuse_home(url, body.strip_prefix("//").unwrap_or(body))?;
    let path = match body.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => rest,
        Some(rest) => {
            let what = format!("--target '{url}': a file URL has no host");
            return Err(Fatal::usage(what).mend(format!("file:///{rest} or file:{rest}")));
        }
        None => body,
    };
    if path.is_empty() {
        return Err(Fatal::usage(format!("--target '{url}' names no path")).mend("file:PATH or file:///PATH"));
    }
    let here = PathBuf::from(path);
    // Without its last slash a file is seen as the file it is.
    let bare = Path::new(path).components().as_path();
    // Writing goes through a link; replacing the link itself would put the data elsewhere.
    let end = if bare.is_symlink() { end_of_links(url, bare)? } else { here.clone() };
    let Ok(facts) = std::fs::metadata(bare) else {
        return Ok(if path.ends_with('/') { Place::Folder(end) } else { Place::File(end) });
    };
    let kind = facts.file_type();
    if kind.is_dir() {
        return Ok(Place::Folder(here));
    }
    if path.ends_with('/') {
        return Err(Fatal::usage(format!("--target '{url}': {path} is no folder")).mend("leave out the last /"));
    }
    if kind.is_block_device() {
        let (major, minor) = block::split_device(facts.rdev());
        let device = format!("{major}:{minor}");
        let capacity_bytes = block::capacity_bytes(sysfs, &device).unwrap_or(0);
        return Ok(Place::Block { path: here, device, capacity_bytes });
    }
    if kind.is_char_device() {
        let (major, minor) = block::split_device(facts.rdev());
        if takes_anything(major, minor) {
            return Ok(Place::Special(here));
        }
        let what = format!("--target '{url}': {path} is the character device {major}:{minor}; records may harm it");
        return Err(Fatal::usage(what).mend("/dev/null, /dev/zero, /dev/full and terminals can be written to"));
    }
    if !kind.is_file() {
        let what = format!("--target '{url}': {path} is a pipe or socket");
        return Err(Fatal::usage(what).mend(program::command(&format!("--target stdout > {}", program::quoted(path)))));
    }
    Ok(Place::File(end))
}

/// null, zero, full and terminals; what is written to a tape, a flash chip or a watchdog does something there.
fn takes_anything(major: u64, minor: u64) -> bool {
    matches!((major, minor), (1, 3 | 5 | 7) | (4 | 5 | 136..=143, _))
}

fn refuse_home(url: &str, path: &str) -> Result<(), Fatal> {
    let Some(rest) = behind_home(path) else { return Ok(()) };
    let what = format!("--target '{url}': no shell expands ~ behind file:, and the engine does not either");
    Err(Fatal::usage(what).mend(format!("file:$HOME{rest}, or file:./~{rest} for a folder of that name")))
}

/// Where a link leads, also one at whose end nothing lies yet: to a drive of its own perhaps.
fn end_of_links(url: &str, link: &Path) -> Result<PathBuf, Fatal> {
    Landing::of(link).map(Landing::into_path).map_err(|why| {
        let shown = link.display();
        Fatal::usage(format!("--target '{url}': {shown} leads nowhere: {why}"))
            .mend(format!("rm {}, if that link is yours, or another PATH", program::quoted_path(link)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_all(urls: &[&str]) -> (Targets, Vec<Fatal>) {
        let mut errors = Vec::new();
        let urls: Vec<_> = urls.iter().map(|url| url.to_string()).collect();
        (resolve(&urls, &Sysfs::default(), &mut errors), errors)
    }

    #[test]
    fn both_spellings_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        for url in [format!("file:{path}"), format!("file://{path}"), format!("file:{path}/new/")] {
            let (targets, errors) = try_all(&[&url]);
            assert!(errors.is_empty() && matches!(targets.places[0], Place::Folder(_)), "{url}: {errors:?}");
        }
        let (targets, _) = try_all(&["file:logs/payloads.3.bin"]);
        assert_eq!(targets.places, [Place::File("logs/payloads.3.bin".into())]);
        let (targets, _) = try_all(&["file:/dev/null"]);
        assert_eq!(targets.places, [Place::Special("/dev/null".into())]);
    }

    #[test]
    fn what_is_no_target_says_what_is() {
        for urls in [
            &["kafka://localhost:9092"][..],
            &["tcp://x"],
            &["udp://x:1"],
            &["tcp:x"],
            &["tcp://x:1", "tcp://x:1"],
            &["tcp://x:1", "http://x:1"],
            &["/tmp/x"],
            &["file:"],
            &["file://host/x"],
            &["file:~/data/"],
            &["file:~"],
            &["file://~/x"],
            &["file:/dev/null/"],
            &["file:/dev/urandom"],
            &["null", "stdout"],
            &["null", "null"],
            &["nul"],
        ] {
            let (_, errors) = try_all(urls);
            assert_eq!(errors.len(), 1, "{urls:?}");
            assert!(errors[0].what.contains(urls[0]) && errors[0].mend.is_some(), "{urls:?}: {}", errors[0]);
        }
    }

    #[test]
    fn a_scheme_with_a_slash_too_few_is_a_slip() {
        for (slip, meant) in [
            ("kafka:/localhost", "kafka://localhost:9092/TOPIC"),
            ("kafka:localhost:9093/t", "kafka://localhost:9093/t"),
            ("http:/me:secret@x:8080/in", "http://x:8080/in"),
            ("tcp:x", "tcp://10.0.0.5:9000"),
            ("data/x", "file:data/x, say; "),
        ] {
            let (_, errors) = try_all(&[slip]);
            assert!(errors[0].mend.as_ref().unwrap().starts_with(meant), "{slip}: {}", errors[0]);
            assert!(!errors[0].to_string().contains("secret"), "{}", errors[0]);
        }
    }

    #[test]
    fn no_error_shows_a_secret() {
        for urls in [
            &["http://me:s3cret@x/in", "tcp://x:1"][..],
            &["http://x/in?token=s3cret", "tcp://x:1"],
            &["htp://me:s3cret@x/in"],
            &["htp://x/in?token=s3cret"],
            &["http:/x/in?token=s3cret"],
            &["http:/me:s3cret@x/in?token=s3cret"],
        ] {
            let (_, errors) = try_all(urls);
            assert!(errors.len() == 1 && errors[0].what.contains("x/in"), "{urls:?}: {errors:?}");
            assert!(!errors[0].to_string().contains("s3cret"), "{urls:?}: {}", errors[0]);
        }
    }

    #[test]
    fn a_link_to_nothing_yet_is_the_place_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("drive")).unwrap();
        std::os::unix::fs::symlink("drive/second", path("first")).unwrap();
        std::os::unix::fs::symlink(path("drive/data.bin"), path("drive/second")).unwrap();
        std::os::unix::fs::symlink("circle", path("circle")).unwrap();
        let end = folder.path().canonicalize().unwrap().join("drive/data.bin");
        let (targets, errors) = try_all(&[&format!("file:{}", path("first").display())]);
        assert_eq!((targets.places, errors), (vec![Place::File(end.clone())], Vec::new()));
        let (targets, _) = try_all(&[&format!("file:{}/", path("first").display())]);
        assert_eq!(targets.places, [Place::Folder(end.clone())]);
        std::fs::write(&end, "").unwrap();
        let (targets, _) = try_all(&[&format!("file:{}", path("first").display())]);
        assert_eq!(targets.places, [Place::File(end)], "it is there now");
        let (_, errors) = try_all(&[&format!("file:{}", path("circle").display())]);
        assert!(errors[0].what.contains("leads nowhere: its links have no end"), "{errors:?}");
    }

    #[test]
    fn a_home_is_named_by_its_variable() {
        let (_, errors) = try_all(&["file:~/data/"]);
        assert!(errors[0].mend.as_ref().unwrap().starts_with("file:$HOME/data/"), "{errors:?}");
        let (targets, errors) = try_all(&["file:./~/data/", "file:~x"]);
        assert_eq!(targets.places, [Place::Folder("./~/data/".into()), Place::File("~x".into())]);
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn of_character_devices_only_those_that_take_anything_are_written_to() {
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (4, 64), (5, 0), (136, 0), (143, 255)] {
            assert!(takes_anything(major, minor), "{major}:{minor}");
        }
        // Memory, ports, random numbers, tapes, watchdogs, flash chips, and what has no fixed number.
        for (major, minor) in [(1, 1), (1, 4), (1, 8), (1, 9), (9, 0), (10, 130), (90, 0), (135, 3), (144, 3)] {
            assert!(!takes_anything(major, minor), "{major}:{minor}");
        }
        let (_, errors) = try_all(&["file:/dev/urandom"]);
        assert!(errors[0].what.contains("1:9") && errors[0].mend.as_ref().unwrap().contains("/dev/null"), "{errors:?}");
    }

    #[test]
    fn nothing_named_is_the_baseline() {
        let (targets, errors) = try_all(&[]);
        assert!(targets.baseline && errors.is_empty() && targets.kind == SinkKind::File);
    }
}
