//! Credentials in files: passwords and tokens, and certificates with their keys.

use crate::base::fatal::Fatal;
use crate::base::{paths, program};
use crate::plan::{BearerPlan, Secret};
use std::io::{self, ErrorKind};
use std::path::Path;

pub fn read_secret(flag: &str, path: &Path) -> Result<Secret, Fatal> {
    let shown = path.display();
    Secret::read(path)
        .map_err(|why| Fatal::usage(format!("--{flag} '{shown}': {why}")).mend(mend_secret(flag, path, &why)))
}

/// The bearer token in a file that a run keeps an eye on. `secret` is what was read from it.
pub fn bearer(flag: &'static str, secret: &Secret, path: &Path) -> Result<BearerPlan, Fatal> {
    let token = secret.as_token().map_err(|why| {
        let what = format!("--{flag} '{}': {why}", path.display());
        Fatal::usage(what).mend(format!("wc -c {}", program::quoted_path(path)))
    })?;
    Ok(BearerPlan { flag, path: path.to_owned(), token })
}

/// Where there is no secret yet, this makes one that no history of a shell has.
fn mend_secret(flag: &str, path: &Path, why: &io::Error) -> String {
    match why.kind() {
        ErrorKind::NotFound | ErrorKind::InvalidData => {
            format!("(umask 077; cat > {}), then type it, Enter and Ctrl-D", program::quoted_path(path))
        }
        _ => paths::mend_reading(flag, path, why),
    }
}

/// `--tls-cert` and `--tls-key`: both or none.
pub fn check_pair(cert: Option<&Path>, key: Option<&Path>, errors: &mut Vec<Fatal>) {
    match (cert, key) {
        (Some(_), None) => errors.push(Fatal::usage("--tls-cert needs its key").mend("--tls-key=client.key")),
        (None, Some(_)) => errors.push(Fatal::usage("--tls-key needs its certificate").mend("--tls-cert=client.pem")),
        _ => {}
    }
}
