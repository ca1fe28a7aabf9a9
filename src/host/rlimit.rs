//! The ways to raise a limit that is in the way.

use crate::sys::process::is_root;
use std::io;

/// What raises a limit: for a shell, for a service of systemd, for a container.
#[derive(Clone, Copy)]
pub struct Limit {
    shell: &'static str,
    unit: &'static str,
    container: &'static str,
    /// It holds root only where a unit or a container took root's capabilities, and then no shell has them either.
    spares_root: bool,
}

/// As much as `tuning/` gives to a login.
pub const MEMLOCK: Limit =
    Limit { shell: "memlock=unlimited", unit: "LimitMEMLOCK=infinity", container: "memlock=-1", spares_root: true };
pub const NOFILE: Limit =
    Limit { shell: "nofile=1048576", unit: "LimitNOFILE=1048576", container: "nofile=1048576", spares_root: false };

/// EMFILE and ENFILE have no kind of their own.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// All ways in one line.
pub fn raise(limit: Limit) -> String {
    ways(limit).join(", or ")
}

/// Those of whoever runs this, the likeliest first.
pub fn ways(limit: Limit) -> Vec<String> {
    ways_as(is_root(), limit)
}

fn ways_as(root: bool, limit: Limit) -> Vec<String> {
    // In the shell that starts the engine, which has raised its soft limits to the hard ones: beyond these `ulimit`
    // leads root only.
    let here = format!("prlimit --pid $$ --{}", limit.shell);
    let service = format!("{} in a systemd unit, or docker run --ulimit {}", limit.unit, limit.container);
    match (root, limit.spares_root) {
        (true, true) => vec![service],
        // Where root is at home there may be no sudo.
        (true, false) => vec![service, here],
        (false, _) => vec![format!("sudo {here}"), service],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_told_what_they_can_type() {
        let memlock = "LimitMEMLOCK=infinity in a systemd unit, or docker run --ulimit memlock=-1";
        let nofile = "LimitNOFILE=1048576 in a systemd unit, or docker run --ulimit nofile=1048576";
        assert_eq!(ways_as(true, MEMLOCK), [memlock]);
        assert_eq!(ways_as(true, NOFILE), [nofile, "prlimit --pid $$ --nofile=1048576"]);
        assert_eq!(ways_as(false, MEMLOCK), ["sudo prlimit --pid $$ --memlock=unlimited", memlock]);
        assert_eq!(ways_as(false, NOFILE), ["sudo prlimit --pid $$ --nofile=1048576", nofile]);
        let full = |number| is_out_of_descriptors(&io::Error::from_raw_os_error(number));
        assert_eq!([23, 24, 12].map(full), [true, true, false]);
        assert!(raise(MEMLOCK).ends_with(memlock) && raise(NOFILE).contains(nofile));
    }
}
