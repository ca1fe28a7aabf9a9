//! What the engine does not take of a `client.properties`, and what mends that.

use crate::base::program;

/// What is wrong with a value, and what mends it.
pub type Wrong = (String, String);

/// Amazon's own mechanism, wherever a file names it.
pub const IAM: (&str, &str) = (
    "the engine does not sign requests for AWS",
    "sasl.mechanism=OAUTHBEARER without IAM's module and handler, and --sasl-password-file=FILE with a token of \
     aws-msk-iam-sasl-signer, renewed in place",
);
const TOKEN_OF_IAM: &str = "--sasl-password-file=FILE with a token of aws-msk-iam-sasl-signer, renewed in place";

/// Of a mechanism that the engine does not have, and that `setting` (`--sasl-mechanism=`, say) was to be; `None`: nobody
/// else has it either.
pub fn foreign_mechanism(name: &str, setting: &str) -> Option<Wrong> {
    match name.to_ascii_uppercase().as_str() {
        "AWS_MSK_IAM" => Some((IAM.0.to_owned(), format!("{setting}OAUTHBEARER, and {TOKEN_OF_IAM}"))),
        "GSSAPI" => {
            let mend = format!(
                "{setting}SCRAM-SHA-512, say, at a listener of the brokers that takes it (their \
                 sasl.enabled.mechanisms), or one that takes client certificates: --tls-cert and --tls-key"
            );
            Some(("the engine does not speak Kerberos".to_owned(), mend))
        }
        _ => None,
    }
}

/// Of a key that has no meaning here.
pub fn unsupported(key: &str, value: &str) -> Wrong {
    let what = format!("the engine does not know the property '{key}'");
    let mend = match key {
        "ssl.truststore.certificates" => "put the certificates into a file: ssl.truststore.location=FILE",
        "ssl.keystore.certificate.chain" | "ssl.keystore.key" => {
            "put key and certificates into one file: ssl.keystore.location=FILE"
        }
        "ssl.truststore.password" => "leave it out; a PEM file has no password",
        "ssl.keystore.password" | "ssl.key.password" => {
            "take the password off: openssl pkcs8 -in client.key -out plain.key"
        }
        "transactional.id" => "leave it out; the engine is idempotent without transactions",
        "partitioner.class" => "leave it out; producers own their partitions (--partitions, --key)",
        "buffer.memory" => "leave it out; the memory of each producer is --ring-size",
        "retry.backoff.ms" | "retry.backoff.max.ms" => "leave it out; --retry N,MIN-MAX has the pauses",
        "connections.max.idle.ms" => "leave it out; a run keeps its connections",
        "metadata.max.age.ms" => "leave it out; leaders are looked up when one moves",
        "sasl.client.callback.handler.class" | "sasl.login.callback.handler.class" if value.contains("IAM") => IAM.1,
        // The names of librdkafka and kcat.
        "sasl.mechanisms" => "in Java's names sasl.mechanism=…, or --sasl-mechanism",
        "sasl.username" | "sasl.password" => {
            "in Java's names sasl.jaas.config=…LoginModule required username=\"…\" password=\"…\";, or --sasl-user and \
             --sasl-password-file"
        }
        "ssl.ca.location" => "in Java's names ssl.truststore.type=PEM and ssl.truststore.location=FILE, or --tls-ca",
        "ssl.certificate.location" | "ssl.key.location" => {
            "--tls-cert and --tls-key, or in Java's names ssl.keystore.type=PEM and both in ssl.keystore.location=FILE"
        }
        "metadata.broker.list" => "leave it out; the URL names the brokers",
        _ => "leave it out of the file that the engine reads",
    };
    (what, mend.to_owned())
}

/// Of a store in a format of Java's.
pub fn no_pem(store: &str, path: &str, kind: &str) -> Wrong {
    let what = format!("{store} '{path}' is {}; the engine reads PEM", kind.to_uppercase());
    let quoted = |end: &str| program::quoted(&format!("{path}{end}"));
    let keystore = if kind.eq_ignore_ascii_case("PKCS12") {
        (quoted(""), String::new())
    } else {
        let (from, made) = (quoted(""), quoted(".p12"));
        let make =
            format!("keytool -importkeystore -srckeystore {from} -destkeystore {made} -deststoretype PKCS12 && ");
        (made, make)
    };
    let which = if store == "ssl.truststore" { "-nokeys" } else { "-nodes" };
    let (from, make) = keystore;
    let to = quoted(".pem");
    (what, format!("{make}openssl pkcs12 -in {from} {which} -out {to}; then {store}.type=PEM and its location"))
}
