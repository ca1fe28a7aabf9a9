//! What reports, pages and dry runs may show of settings: neither the value of a header, nor a URL's user info or query,
//! nor a property that may have a password.

use crate::config::kafka_properties;
use crate::config::keys::{self, Key, Kind};
use crate::config::url;

/// A command line as it was typed, but for what may be a credential.
pub fn command(words: &[String]) -> Vec<String> {
    let mut flag_before: Option<&Key> = None;
    let show = |word: &String| {
        if let Some(key) = flag_before.take() {
            return value(key, word);
        }
        let Some(flag) = word.strip_prefix("--") else { return word.clone() };
        let Some((name, text)) = flag.split_once('=') else {
            flag_before = keys::find(flag).filter(|key| key.kind != Kind::Switch);
            return word.clone();
        };
        keys::find(name).map_or_else(|| word.clone(), |key| format!("--{name}={}", value(key, text)))
    };
    words.iter().map(show).collect()
}

/// One value of `key`.
pub fn value(key: &Key, text: &str) -> String {
    match key.kind {
        Kind::Header => format!("{}:***", text.split(':').next().unwrap_or_default()),
        Kind::Property => kafka_properties::shown(text),
        Kind::Url => url::shown(text),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(all: &[&str]) -> Vec<String> {
        all.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn both_forms_of_a_flag_keep_their_credentials() {
        for (typed, shown) in [
            (&["--http-header=X-A: s3cret"][..], &["--http-header=X-A:***"][..]),
            (&["--http-header", "X-A:s3cret"], &["--http-header", "X-A:***"]),
            (&["--target", "http://me:s3cret@h:1/a?k=s3cret"], &["--target", "http://h:1/a"]),
            (&["--sink=HTTPS://h?s3cret"], &["--sink=HTTPS://h"]),
            (&["--governance-url", "http://h/?s3cret"], &["--governance-url", "http://h/"]),
            (&["--kafka-property=sasl.jaas.config=s3cret"], &["--kafka-property=sasl.jaas.config=***"]),
            (&["--kafka-property", "sasl\\.jaas.config s3cret"], &["--kafka-property", "sasl\\.jaas.config=***"]),
            (&["--kafka-property=username=me password=s3cret"], &["--kafka-property=username=***"]),
        ] {
            assert_eq!(command(&words(typed)), words(shown));
        }
    }

    #[test]
    fn what_is_no_credential_stays() {
        let typed = words(&[
            "engine",
            "run",
            "--dry-run",
            "--target=file:/a?b@c/",
            "--target",
            "tcp://h:1",
            "--kafka-property=acks=all",
            "--seed",
            "7",
            "--unknown=http://h/?a",
            "stray",
        ]);
        assert_eq!(command(&typed), typed);
    }
}
