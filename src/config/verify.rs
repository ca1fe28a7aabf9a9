//! The command line of `engine verify`.

use crate::base::fatal::Fatal;
use crate::base::program;
use crate::config::flags;
use crate::config::kafka_access::{self, AccessFlags};
use crate::config::kafka_properties::foreign_mechanism;
use crate::config::resolve::payload;
use crate::config::url::{Scheme, Url};
use crate::plan::{KafkaAccess, SaslMechanism, TopicSource, VerifyArgs};
use clap::{Arg, ArgAction, ArgMatches};
use std::path::PathBuf;

/// The flags of `verify`, beside its sources: name, value, help.
pub const VERIFY_FLAGS: &[(&str, &str, &str)] = &[
    ("ids", "FILE|-", "Ids exported from anywhere: run_id,producer_id,sequence[,crc32c] as CSV or JSON Lines."),
    ("expect", "REPORT", "Also proves that every record a report calls produced and retained is there. Repeatable."),
    ("json", "", "The findings as JSON on standard output."),
    (
        "threads",
        "N",
        "Threads that read and check; 0 (default): one for each processor, at most eight for a topic. A partition of a \
         topic has one thread.",
    ),
    ("sign-key", "FILE", "Checks signatures with the key that run was given. Ids have none."),
    ("run-id", "ID", "Records of other runs are findings."),
    ("kafka-config", "FILE", "For kafka:// sources: a client.properties, as Kafka's own tools read it."),
    ("kafka-property", "K=V", "A line of it, as a flag. Repeatable."),
    ("tls-ca", "FILE", "Talks TLS to the brokers, and trusts these authorities (PEM)."),
    ("tls-cert", "FILE", "Certificate chain of this client (PEM)."),
    ("tls-key", "FILE", "Its key (PEM)."),
    ("sasl-mechanism", "NAME", "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER."),
    ("sasl-user", "NAME", "User name of PLAIN and SCRAM."),
    ("sasl-password-file", "FILE", "Password, or the token of OAUTHBEARER."),
];

pub fn parse(args: &[String]) -> Result<VerifyArgs, Vec<Fatal>> {
    let command = flags::bare("engine verify").arg(Arg::new("sources").num_args(0..).action(ArgAction::Append));
    let mut errors = Vec::new();
    let read = flags::own_flags(command, VERIFY_FLAGS, &["expect", "kafka-property"], args, &mut errors);
    let Some(matches) = read else { return Err(errors) };
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let all = |name: &str| matches.get_many::<String>(name).into_iter().flatten().cloned().collect::<Vec<_>>();
    let threads = text("threads").map_or(Ok(0), |text| text.parse().map_err(|_| text));
    let threads = threads.unwrap_or_else(|text| {
        errors.push(Fatal::usage(format!("--threads '{text}' is no whole number")).mend("--threads=4"));
        0
    });
    let (topics, sources): (Vec<_>, Vec<_>) =
        all("sources").into_iter().partition(|source| Scheme::of(source) == Some(Scheme::Kafka));
    let urls = topic_urls(&topics, &mut errors);
    let mut kafka = kafka_access(&matches, topics.is_empty(), &mut errors);
    let open_logins: Vec<_> = urls.iter().filter_map(|url| kafka_access::note_of_open_login(&kafka, url)).collect();
    kafka.notes.extend(open_logins);
    let found = VerifyArgs {
        sources,
        ids: text("ids"),
        expect: all("expect").into_iter().map(PathBuf::from).collect(),
        json: matches.get_flag("json"),
        threads,
        sign_key: text("sign-key").and_then(|path| payload::sign_key(path.as_ref(), &mut errors)),
        run_id: text("run-id"),
        topics: urls.into_iter().map(topic_source).collect(),
        kafka,
    };
    if found.sources.is_empty() && topics.is_empty() {
        if found.ids.is_none() {
            errors.push(Fatal::usage("verify has nothing to read").mend(program::command("verify engine-data/")));
        } else if matches.contains_id("sign-key") {
            errors.push(Fatal::usage("--sign-key has no effect on a list of ids").mend("leave out --sign-key"));
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

fn topic_urls(texts: &[String], errors: &mut Vec<Fatal>) -> Vec<Url> {
    let mut found: Vec<Url> = Vec::new();
    for text in texts {
        match Url::parse(text) {
            Ok(url) if found.iter().any(|other| other.label() == url.label()) => {
                errors.push(Fatal::usage(format!("'{}' is named twice", url.label())).mend("name it once"));
            }
            Ok(url) => found.push(url),
            Err(fatal) => errors.push(fatal),
        }
    }
    found
}

fn topic_source(url: Url) -> TopicSource {
    TopicSource { label: url.label(), topic: url.topic().to_owned(), bootstrap: url.hosts }
}

fn kafka_access(matches: &ArgMatches, useless: bool, errors: &mut Vec<Fatal>) -> KafkaAccess {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let path = |name: &str| text(name).map(PathBuf::from);
    let properties: Vec<String> = matches.get_many("kafka-property").into_iter().flatten().cloned().collect();
    if useless {
        let names = VERIFY_FLAGS.iter().map(|(name, ..)| *name);
        let of_kafka = |name: &&str| ["kafka-", "tls-", "sasl-"].iter().any(|start| name.starts_with(start));
        for name in names.filter(of_kafka).filter(|name| matches.contains_id(name)) {
            let what = format!("--{name} has no effect without a kafka:// source");
            errors.push(Fatal::usage(what).mend(format!("leave out --{name}")));
        }
        return KafkaAccess::default();
    }
    let sasl_mechanism = text("sasl-mechanism").and_then(|name| sasl_mechanism(&name, errors));
    let flags = AccessFlags {
        config: path("kafka-config"),
        properties,
        tls_ca: path("tls-ca"),
        tls_cert: path("tls-cert"),
        tls_key: path("tls-key"),
        sasl_mechanism,
        sasl_mechanism_refused: sasl_mechanism.is_none() && matches.contains_id("sasl-mechanism"),
        sasl_user: text("sasl-user"),
        sasl_password: path("sasl-password-file"),
    };
    kafka_access::access(&flags, errors)
}

fn sasl_mechanism(name: &str, errors: &mut Vec<Fatal>) -> Option<SaslMechanism> {
    let known = SaslMechanism::named(&name.to_ascii_uppercase());
    if known.is_none() {
        let (what, mend) = foreign_mechanism(name, "--sasl-mechanism=").unwrap_or_else(|| {
            let all = "--sasl-mechanism=PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER";
            ("the engine has none of that name".to_owned(), all.to_owned())
        });
        errors.push(Fatal::usage(format!("--sasl-mechanism '{name}': {what}")).mend(mend));
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_without_tls_is_told_but_on_this_host() {
        let password = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(password.path(), "geheim").unwrap();
        let password = format!("--sasl-password-file={}", password.path().display());
        let notes = |more: &[&str]| {
            let given = ["--sasl-mechanism=PLAIN", "--sasl-user=me", password.as_str()];
            let args: Vec<String> = given.iter().chain(more).map(|arg| (*arg).to_owned()).collect();
            parse(&args).unwrap().kafka.notes
        };
        let told = notes(&["kafka://remote/a", "kafka://localhost/b"]);
        let open = "kafka://remote:9092/a: the credentials travel without TLS";
        assert!(told.len() == 1 && told[0].starts_with(open), "{told:?}");
        assert!(notes(&["kafka://remote/a", "--kafka-property=security.protocol=SASL_SSL"]).is_empty());
    }

    #[test]
    fn mechanisms_are_known_in_any_case() {
        let refused = |name: &str| {
            let args = ["kafka://localhost/t", &format!("--sasl-mechanism={name}")].map(str::to_owned);
            parse(&args).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        for (name, says) in [
            ("DIGEST-MD5", "the engine has none of that name\n  mend: --sasl-mechanism=PLAIN, SCRAM-SHA-256"),
            (
                "GSSAPI",
                "the engine does not speak Kerberos\n  mend: --sasl-mechanism=SCRAM-SHA-512, say, at a listener",
            ),
            (
                "aws_msk_iam",
                "the engine does not sign requests for AWS\n  mend: --sasl-mechanism=OAUTHBEARER, and --sasl",
            ),
        ] {
            let told = refused(name);
            assert!(told.starts_with(&format!("--sasl-mechanism '{name}': {says}")), "{told}");
            assert!(!told.contains("needs a mechanism"), "{told}");
        }
        assert!(refused("plain").starts_with("PLAIN needs a user"), "{}", refused("plain"));
    }
}
