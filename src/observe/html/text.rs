//! Words and numbers as the page shows them.

use crate::base::units::{format_amount, format_count, format_duration, format_rate_short, format_size};
use crate::observe::report::Distribution;
use serde_json::Value;
use std::fmt::{Display, Formatter, Result, Write};

/// Stands for what the report does not know.
pub const NOTHING: &str = "–";

/// Text from anywhere, shown as it is: nothing in it is markup.
pub struct Text<'a>(pub &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(c)?,
                c if c.is_control() => f.write_char(char::REPLACEMENT_CHARACTER)?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// `250 µs`.
pub fn duration(seconds: f64) -> String {
    format_duration((seconds * 1e9).round() as u64).replace(" us", " µs")
}

pub fn known_duration(seconds: Option<f64>) -> String {
    seconds.map_or(NOTHING.to_owned(), duration)
}

/// A percentile; `never` where it falls among records without confirmation.
pub fn percentile(seconds: Option<f64>, records_offered: u64) -> String {
    match seconds {
        Some(seconds) => duration(seconds),
        None if records_offered > 0 => "never".to_owned(),
        None => NOTHING.to_owned(),
    }
}

pub fn rate(bytes_per_second: Option<f64>) -> String {
    bytes_per_second.map_or(NOTHING.to_owned(), format_rate_short)
}

pub fn count(count: u64) -> String {
    format_count(count)
}

/// What was measured.
pub fn amount(bytes: u64) -> String {
    format_amount(bytes)
}

/// What is set, or a fact of the host.
pub fn size(bytes: u64) -> String {
    format_size(bytes)
}

/// Never rounded up to 100 %.
pub fn percent(ratio: Option<f64>) -> String {
    ratio.map_or(NOTHING.to_owned(), crate::observe::verdict::percent)
}

/// A setting or fact, escaped: plain where it is plain, JSON where it has parts.
pub fn json(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) => Text(text).to_string(),
        Value::Array(all) if all.iter().all(Value::is_string) => {
            let all: Vec<_> = all.iter().filter_map(Value::as_str).collect();
            if all.is_empty() { NOTHING.to_owned() } else { Text(&all.join(", ")).to_string() }
        }
        Value::Array(all) if all.is_empty() => NOTHING.to_owned(),
        other => Text(&other.to_string()).to_string(),
    }
}

/// The columns of a latency table.
pub fn distribution(of: &Distribution) -> [(&'static str, Option<f64>); 7] {
    [
        ("p50", of.p50),
        ("p90", of.p90),
        ("p99", of.p99),
        ("p99.9", of.p999),
        ("p99.99", of.p9999),
        ("max", of.max),
        ("mean", of.mean),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn markup_from_elsewhere_is_text() {
        let shown = Text("<script>alert(\"1\" & '2')</script>\u{1b}[0m").to_string();
        assert_eq!(shown, "&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;\u{fffd}[0m");
    }

    #[test]
    fn values_read_well() {
        assert_eq!((duration(0.000_250_1).as_str(), duration(1.5).as_str()), ("250.1 µs", "1.5 s"));
        assert_eq!(percent(Some(0.999_999)), "99.99 %");
        for (value, shown) in [
            (json!(null), "–"),
            (json!([]), "–"),
            (json!("<b>"), "&lt;b&gt;"),
            (json!(["a", "b"]), "a, b"),
            (json!({"a": 1}), "{&quot;a&quot;:1}"),
            (json!(7), "7"),
        ] {
            assert_eq!(super::json(&value), shown);
        }
    }

    proptest! {
        #[test]
        fn no_text_ends_an_element_or_an_attribute(text in ".{0,40}") {
            let shown = Text(&text).to_string();
            prop_assert!(!shown.contains(['<', '>', '"', '\'']), "{shown}");
        }
    }
}
