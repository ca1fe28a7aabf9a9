//! Who is told of records: the address, the contract and the token.

use crate::base::fatal::Fatal;
use crate::base::{bounded, limits, paths};
use crate::config::credentials;
use crate::config::url::shown_address;
use crate::config::values::Wanted;
use crate::plan::{BearerPlan, GovernancePlan, SpecFile};
use std::path::Path;

pub fn resolve(wanted: &Wanted, errors: &mut Vec<Fatal>) -> Option<GovernancePlan> {
    let url = wanted.governance_url.as_deref()?;
    let before = errors.len();
    let mut keep = |fatal| errors.push(fatal);
    let base = base(url).map_err(&mut keep).unwrap_or_default();
    let spec = wanted.governance_spec.as_deref().and_then(|path| spec(path).map_err(&mut keep).ok());
    let bearer = wanted.governance_token_file.as_deref().and_then(|path| bearer(path).map_err(&mut keep).ok());
    (errors.len() == before).then_some(GovernancePlan { url: base, every: wanted.governance_every, spec, bearer })
}

fn spec(path: &Path) -> Result<SpecFile, Fatal> {
    let name = path.display().to_string();
    match bounded::read_text(path, limits::GOVERNANCE_SPEC_BYTES_MAX) {
        Ok(text) => Ok(SpecFile { name, text: text.into() }),
        Err(why) => {
            let mend = paths::mend_reading("governance-spec", path, &why);
            Err(Fatal::usage(format!("--governance-spec '{name}': {why}")).mend(mend))
        }
    }
}

fn bearer(path: &Path) -> Result<BearerPlan, Fatal> {
    const FLAG: &str = "governance-token-file";
    credentials::bearer(FLAG, &credentials::read_secret(FLAG, path)?, path)
}

/// Where the contract's paths begin.
fn base(url: &str) -> Result<String, Fatal> {
    const MEND: &str = "--governance-url=http://HOST:PORT or https://HOST/PREFIX";
    let fail = |why: &str| {
        let shown = shown_address(url);
        Err(Fatal::usage(format!("--governance-url '{shown}': {why}")).mend(MEND))
    };
    let Some(("http" | "https", rest)) = url.split_once("://") else {
        return fail("it is neither http:// nor https://");
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    if host.contains('@') {
        return fail("user and password go into no URL; a token goes into --governance-token-file");
    }
    if rest.contains(['?', '#']) {
        return fail("a query or fragment has no place before the contract's paths");
    }
    match url.parse::<ureq::http::Uri>() {
        Ok(uri) if uri.host().is_some_and(|host| !host.is_empty()) && port_is_right(host) => {
            Ok(url.trim_end_matches('/').to_owned())
        }
        Ok(_) => fail("it names no host, or a port that is none"),
        Err(why) => fail(&why.to_string()),
    }
}

fn port_is_right(authority: &str) -> bool {
    let behind = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    behind.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::Settings;
    use crate::config::values;

    #[test]
    fn addresses_are_plain() {
        for (url, wanted) in [
            ("http://localhost:8081", "http://localhost:8081"),
            ("https://governance.example/api/", "https://governance.example/api"),
            ("http://[::1]:80/", "http://[::1]:80"),
            ("http://[::1]", "http://[::1]"),
        ] {
            assert_eq!(base(url).unwrap(), wanted);
        }
        for url in [
            "localhost:8081",
            "ftp://x/",
            "http://",
            "http:///x",
            "http://h:0",
            "http://h:99999",
            "http://h:",
            "http://a b/",
            "http://h/#x",
        ] {
            let fatal = base(url).unwrap_err();
            assert!(fatal.what.contains(url) && fatal.mend.is_some(), "{url}: {fatal}");
        }
        let fatal = base("http://me:secret@host/x").unwrap_err();
        assert!(!fatal.what.contains("secret") && fatal.what.contains("--governance-token-file"), "{fatal}");
        for url in ["https://g/api?token=secret", "me:secret@g/api", "g/api?token=secret", "http://me:x/secret@g/api"] {
            let fatal = base(url).unwrap_err();
            assert!(!fatal.to_string().contains("secret") && fatal.what.contains("g/api'"), "{url}: {fatal}");
        }
    }

    #[test]
    fn files_are_read_and_tokens_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut wanted = values::read(&Settings::default(), &mut Vec::new());
        let mut errors = Vec::new();
        assert!(resolve(&wanted, &mut errors).is_none() && errors.is_empty(), "off is off");
        wanted.governance_url = Some("http://localhost:1".into());
        std::fs::write(path("token"), "abc.def\n").unwrap();
        std::fs::write(path("spec"), "openapi: 3.0.3\n").unwrap();
        wanted.governance_token_file = Some(path("token"));
        wanted.governance_spec = Some(path("spec"));
        let plan = resolve(&wanted, &mut errors).unwrap();
        assert_eq!((plan.every, plan.bearer.as_ref().map(|bearer| bearer.token.expose())), (1000, Some("abc.def")));
        assert_eq!(&*plan.spec.as_ref().unwrap().text, "openapi: 3.0.3\n");
        assert!(!format!("{plan:?}").contains("abc.def"), "a token is never shown");
        std::fs::write(path("token"), "two words").unwrap();
        wanted.governance_spec = Some(path("none"));
        assert!(resolve(&wanted, &mut errors).is_none());
        assert_eq!(errors.len(), 2, "{errors:?}");
        wanted.governance_token_file = Some("/dev/zero".into());
        assert!(resolve(&wanted, &mut errors).is_none());
        assert!(errors.last().unwrap().what.contains("more than 65536 bytes"), "{errors:?}");
    }
}
