//! How brokers are reached beside the hot path: TLS and SASL from flags and from `client.properties`, flags first.

use crate::base::fatal::Fatal;
use crate::base::{bounded, limits, paths};
use crate::config::credentials::{check_pair, read_secret};
use crate::config::kafka_properties::{self, KafkaProperties, Login, Protocol};
use crate::config::url::Url;
use crate::plan::{KafkaAccess, SaslMechanism, SaslPlan, Secret, TlsPlan};
use std::path::{Path, PathBuf};

/// As the flags have it.
#[derive(Clone, Debug, Default)]
pub struct AccessFlags {
    pub config: Option<PathBuf>,
    /// `KEY=VALUE`, each after the file.
    pub properties: Vec<String>,
    pub tls_ca: Option<PathBuf>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub sasl_mechanism: Option<SaslMechanism>,
    /// One was given that is none, and that is told already.
    pub sasl_mechanism_refused: bool,
    pub sasl_user: Option<String>,
    pub sasl_password: Option<PathBuf>,
}

impl AccessFlags {
    fn first_of_sasl(&self) -> Option<&'static str> {
        let given = [
            ("--sasl-mechanism", self.sasl_mechanism.is_some()),
            ("--sasl-user", self.sasl_user.is_some()),
            ("--sasl-password-file", self.sasl_password.is_some()),
        ];
        given.into_iter().find_map(|(name, is_given)| is_given.then_some(name))
    }
}

const NOT_UTF8: &str = "it looks like UTF-8, but is read as ISO-8859-1, as in Java, where others are \\uXXXX";

/// Reads `--kafka-config` and `--kafka-property`; the latter win.
pub fn properties(config: Option<&Path>, more: &[String], errors: &mut Vec<Fatal>) -> Option<KafkaProperties> {
    let before = errors.len();
    let (mut text, mut name) = (String::new(), String::new());
    let mut is_utf8 = false;
    if let Some(path) = config {
        name = path.display().to_string();
        match bounded::read(path, limits::KAFKA_PROPERTIES_BYTES_MAX) {
            // A last line that is to go on does so into nothing, not into a property.
            Ok(content) => {
                is_utf8 = !content.is_ascii() && std::str::from_utf8(&content).is_ok();
                text = kafka_properties::decode(&content) + "\n";
            }
            Err(why) => {
                let mend = paths::mend_reading("kafka-config", path, &why);
                errors.push(Fatal::usage(format!("--kafka-config '{name}': {why}")).mend(mend));
            }
        }
    }
    let file_lines = kafka_properties::natural_lines(&text).count();
    for property in more {
        let shown = kafka_properties::name(property);
        if !kafka_properties::is_one_line(property) {
            let what =
                format!("--kafka-property '{shown}' is to go on in another line: it is one property, on one line");
            let mend = "all of it on one line, without a backslash at its end, or in --kafka-config=FILE";
            errors.push(Fatal::usage(what).mend(mend));
        } else if !property.contains('=') {
            let what = format!("--kafka-property '{shown}' is not KEY=VALUE");
            errors.push(Fatal::usage(what).mend("--kafka-property=security.protocol=SSL"));
        }
        text.push('\n');
        text.push_str(property);
    }
    if errors.len() > before {
        return None;
    }
    let origin = |line: usize| match line > file_lines || config.is_none() {
        true => "--kafka-property".to_owned(),
        false => format!("{name}:{line}"),
    };
    let mut said = kafka_properties::parse_lines(&text, origin).map_err(|found| errors.extend(found)).ok()?;
    if is_utf8 {
        said.notes.push(format!("{name}: {NOT_UTF8}"));
    }
    Some(said)
}

/// The process list shows flags to others. `properties` are those of flags alone: a variable or a file may have them.
pub fn reject_credentials<'a>(properties: impl IntoIterator<Item = &'a str>, errors: &mut Vec<Fatal>) {
    for property in properties.into_iter().filter(|property| kafka_properties::has_credential(property)) {
        let name = kafka_properties::name(property);
        let what = format!("--kafka-property {name}: a password in a flag is seen by everyone on this host");
        let mend = "--kafka-config=FILE, --sasl-password-file=FILE, or for a run ENGINE_KAFKA_PROPERTY";
        errors.push(Fatal::usage(what).mend(mend));
    }
}

/// All of it from flags. Everything that is wrong goes to `errors`; then the result is of no use.
pub fn access(flags: &AccessFlags, errors: &mut Vec<Fatal>) -> KafkaAccess {
    reject_credentials(flags.properties.iter().map(String::as_str), errors);
    let said = properties(flags.config.as_deref(), &flags.properties, errors).unwrap_or_default();
    access_with(flags, &said, errors)
}

/// The same with properties that were read already.
pub fn access_with(flags: &AccessFlags, said: &KafkaProperties, errors: &mut Vec<Fatal>) -> KafkaAccess {
    let default = KafkaAccess::default();
    let mut notes = said.notes.clone();
    if said.bootstrap.is_some() {
        notes.push("bootstrap.servers is not used: the URL names the brokers".to_owned());
    }
    let (tls, sasl) = (tls(flags, said, errors), sasl(flags, said, errors));
    if said.protocol.is_none() {
        let has_sasl = said.sasl_mechanism.is_some() || said.login.is_some() || said.token_file.is_some();
        let has_ssl = said.truststore.is_some() || said.keystore.is_some() || said.verify_host.is_some();
        if has_sasl && sasl.is_none() {
            notes.push("sasl.* is not used: without security.protocol there is no login".to_owned());
        }
        if has_ssl && tls.is_none() {
            notes.push("ssl.* is not used: without security.protocol there is no TLS".to_owned());
        }
    }
    KafkaAccess {
        tls,
        sasl,
        client_id: said.client_id.clone().unwrap_or(default.client_id),
        timeout_ns: said.request_timeout_ns.unwrap_or(default.timeout_ns),
        notes,
    }
}

/// What to say where others on the way can read the login.
pub fn note_of_open_login(access: &KafkaAccess, url: &Url) -> Option<String> {
    let is_open = access.sasl.is_some() && access.tls.is_none() && !url.is_local();
    let mend = "--kafka-property security.protocol=SASL_SSL turns TLS on";
    is_open.then(|| format!("{}: the credentials travel without TLS; {mend}", url.label()))
}

fn tls(flags: &AccessFlags, said: &KafkaProperties, errors: &mut Vec<Fatal>) -> Option<TlsPlan> {
    let asked = flags.tls_ca.is_some() || flags.tls_cert.is_some() || flags.tls_key.is_some();
    check_pair(flags.tls_cert.as_deref(), flags.tls_key.as_deref(), errors);
    match said.protocol {
        Some(protocol) if !protocol.has_tls() && asked => {
            let what = "--tls-ca, --tls-cert and --tls-key have no effect with this security.protocol";
            errors.push(Fatal::usage(what).mend("security.protocol=SSL or SASL_SSL"));
            return None;
        }
        Some(protocol) if !protocol.has_tls() => return None,
        // As in Kafka, the default is no TLS, whatever the stores say.
        None if !asked => return None,
        _ => {}
    }
    // A PEM keystore has the key and the certificates in one file.
    let (cert, key) = match &flags.tls_cert {
        Some(cert) => (Some(cert.clone()), flags.tls_key.clone()),
        None => (said.keystore.clone(), said.keystore.clone()),
    };
    let ca = flags.tls_ca.clone().or_else(|| said.truststore.clone());
    let verify_host = said.verify_host.unwrap_or(true);
    Some(TlsPlan { server_name: String::new(), ca, cert, key, alpn_http: false, verify_host })
}

fn sasl(flags: &AccessFlags, said: &KafkaProperties, errors: &mut Vec<Fatal>) -> Option<SaslPlan> {
    let protocol = said.protocol;
    if protocol.is_some_and(|protocol| !protocol.has_sasl()) {
        if let Some(name) = flags.first_of_sasl() {
            let what = format!("{name} has no effect with this security.protocol");
            errors.push(Fatal::usage(what).mend("security.protocol=SASL_SSL"));
        }
        return None;
    }
    if flags.sasl_mechanism_refused {
        return None;
    }
    let Some(mechanism) = flags.sasl_mechanism.or(said.sasl_mechanism) else {
        if protocol.is_some_and(Protocol::has_sasl) || flags.sasl_user.is_some() || flags.sasl_password.is_some() {
            let what = "SASL needs a mechanism";
            errors.push(Fatal::usage(what).mend("--sasl-mechanism=SCRAM-SHA-512, or sasl.mechanism"));
        }
        return None;
    };
    // In Kafka, a mechanism alone does not turn SASL on; the flag does.
    if protocol.is_none() && flags.sasl_mechanism.is_none() {
        if let Some(name) = flags.first_of_sasl() {
            let what = format!("{name} has no effect: sasl.mechanism alone does not turn SASL on");
            let mend = format!("--sasl-mechanism={}, or security.protocol=SASL_SSL", mechanism.name());
            errors.push(Fatal::usage(what).mend(mend));
        }
        return None;
    }
    let (user, secret, secret_file) = credentials(flags, said, mechanism, errors)?;
    let extensions = match &said.login {
        Some(Login::OauthBearer { extensions }) if mechanism == SaslMechanism::OauthBearer => extensions.clone(),
        _ => Vec::new(),
    };
    Some(SaslPlan { mechanism, user, secret, secret_file, extensions })
}

fn credentials(
    flags: &AccessFlags,
    said: &KafkaProperties,
    mechanism: SaslMechanism,
    errors: &mut Vec<Fatal>,
) -> Option<(String, Secret, Option<PathBuf>)> {
    let from_file = |flag: &str, path: &Path, errors: &mut Vec<Fatal>| {
        read_secret(flag, path).map_err(|fatal| errors.push(fatal)).ok()
    };
    let name = mechanism.name();
    let (user, password) = match &said.login {
        Some(Login::Plain { user, password } | Login::Scram { user, password }) => (Some(user), Some(password)),
        Some(Login::OauthBearer { .. }) | None => (None, None),
    };
    let with_user = mechanism != SaslMechanism::OauthBearer;
    if let Some(user) = flags.sasl_user.as_ref().filter(|_| !with_user) {
        let what = format!("--sasl-user '{user}' has no effect: the token of {name} says who this is");
        errors.push(Fatal::usage(what).mend("leave out --sasl-user"));
        return None;
    }
    let user = match (with_user, flags.sasl_user.as_ref().or(user)) {
        (false, _) => String::new(),
        (true, Some(user)) => user.clone(),
        (true, None) => {
            errors.push(Fatal::usage(format!("{name} needs a user")).mend("--sasl-user=NAME, or sasl.jaas.config"));
            return None;
        }
    };
    let (secret, file) = match (&flags.sasl_password, password, &said.token_file) {
        (Some(path), ..) => (from_file("sasl-password-file", path, errors)?, Some(path.clone())),
        (None, Some(password), _) if with_user => (password.clone(), None),
        (None, _, Some(path)) if !with_user => (from_file("kafka-config", path, errors)?, Some(path.clone())),
        _ => {
            let what = format!("{name} needs a password or token");
            errors.push(Fatal::usage(what).mend("--sasl-password-file=FILE"));
            return None;
        }
    };
    Some((user, secret, file))
}

#[cfg(test)]
mod tests;
