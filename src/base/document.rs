//! Text in YAML or JSON that somebody wrote, as keys and values with the lines they stand on.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, MessageFormatter, Spanned, UserMessageFormatter};
use std::fmt;
use std::ops::Range;

/// The top of a text: a mapping.
#[derive(Debug)]
pub struct Document(pub Vec<Entry>);

#[derive(Debug)]
pub struct Entry {
    pub key: String,
    pub line: u64,
    pub value: Node,
}

#[derive(Debug)]
pub enum Node {
    Text(String),
    /// What YAML takes for a number or a truth value, and so may rewrite: `0x10` is 16 and `1.10` is 1.1.
    Typed {
        value: String,
        /// As it stands in the file.
        written: String,
        /// The bytes of the file that it stands in.
        at: Range<usize>,
    },
    Null,
    List(Vec<(u64, Node)>),
    Map(Vec<Entry>),
}

impl Node {
    /// The text of a scalar; `as_written` whatever YAML takes it for.
    pub fn text(&self, as_written: bool) -> Option<String> {
        match self {
            Node::Text(text) => Some(text.clone()),
            Node::Typed { written, .. } if as_written => Some(written.clone()),
            Node::Typed { value, .. } => Some(value.clone()),
            Node::Null | Node::List(_) | Node::Map(_) => None,
        }
    }

    fn typed(value: String) -> Self {
        Node::Typed { written: value.clone(), value, at: 0..0 }
    }

    /// With the place where its text is defined, which for an alias is elsewhere.
    fn placed(spanned: Spanned<Node>) -> Self {
        let (mut node, span) = (spanned.value, spanned.defined.span());
        if let (Node::Typed { at, .. }, Some(from), Some(length)) = (&mut node, span.byte_offset(), span.byte_len()) {
            *at = from as usize..(from + length) as usize;
        }
        node
    }

    /// Takes from the file how its scalars are written.
    fn quote(&mut self, file: &str) {
        match self {
            Node::Typed { written, at, .. } => {
                if let Some(text) = file.get(at.clone()).map(str::trim).filter(|text| !text.is_empty()) {
                    text.clone_into(written);
                }
            }
            Node::List(items) => items.iter_mut().for_each(|(_, item)| item.quote(file)),
            Node::Map(entries) => entries.iter_mut().for_each(|entry| entry.value.quote(file)),
            Node::Text(_) | Node::Null => {}
        }
    }
}

/// Doubled keys are kept, for the caller to name. `Err` is the line and what is wrong there.
pub fn parse(text: &str) -> Result<Document, (u64, String)> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Document(Vec::new()));
    }
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
        strict_booleans: true,
    };
    let read: Result<Spanned<Node>, _> = serde_saphyr::from_str_with_options(text, options);
    match read {
        Ok(Spanned { value: Node::Map(mut entries), .. }) => {
            entries.iter_mut().for_each(|entry| entry.value.quote(text));
            Ok(Document(entries))
        }
        Ok(_) => Err((1, "this is no mapping of names to values".to_owned())),
        Err(error) => {
            let line = error.location().map_or(1, |at| at.line());
            // It may quote what it met there, which may be long.
            let said: String = UserMessageFormatter.format_message(error.without_snippet()).chars().take(200).collect();
            Err((line, format!("this cannot be read as YAML or JSON: {}", said.replace(char::is_control, " "))))
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a mapping")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::typed(value.to_string()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::typed(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::typed(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::typed(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Node>>()? {
            list.push((item.referenced.line(), Node::placed(item)));
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let value = Node::placed(entries.next_value()?);
            map.push(Entry { key: key.value, line: key.referenced.line(), value });
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(String, u64, Option<String>)> {
        parse(text).unwrap().0.into_iter().map(|e| (e.key, e.line, e.value.text(false))).collect()
    }

    #[test]
    fn yaml_and_json_keep_their_words_and_lines() {
        let yaml = "# a comment\nrate: 7.5GB/s\nseed: 42\n\ndirect: on\ncompressibility: 0.3\n";
        let wanted = [("rate", 2, "7.5GB/s"), ("seed", 3, "42"), ("direct", 5, "on"), ("compressibility", 6, "0.3")];
        let wanted: Vec<_> = wanted.iter().map(|(k, line, v)| (k.to_string(), *line, Some(v.to_string()))).collect();
        assert_eq!(texts(yaml), wanted);
        let json = "{\n\t\"rate\": \"7.5GB/s\",\n\t\"seed\": 18446744073709551615,\n\t\"overwrite\": true\n}\n";
        let read = texts(json);
        assert_eq!(read[1], ("seed".into(), 3, Some("18446744073709551615".into())));
        assert_eq!(read[2].2.as_deref(), Some("true"));
    }

    #[test]
    fn what_looks_like_a_number_keeps_its_spelling() {
        for (scalar, value) in [
            ("1.10", "1.1"),
            ("0x10", "16"),
            ("0o17", "15"),
            ("1e3", "1000"),
            ("012", "12"),
            ("-0", "0"),
            ("True", "true"),
            ("yes", "yes"),
            ("no", "no"),
            ("\"1.10\"", "1.10"),
        ] {
            let written = scalar.trim_matches('"');
            for (text, place) in [
                (format!("# \u{e9}\na: {scalar}  # b\n"), 0),
                (format!("{{\"b\": [], \"a\" : {scalar} }}"), 1),
                (format!("b: &b {scalar}\na: *b\n"), 1),
                (format!("b: \u{e9}\r\na:\r\n  {scalar}\r\n"), 1),
            ] {
                let document = parse(&text).unwrap();
                let node = &document.0[place].value;
                let found = (node.text(false), node.text(true));
                assert_eq!(found, (Some(value.to_owned()), Some(written.to_owned())), "{text}");
            }
            let list = parse(&format!("a:\n- x\n- {scalar}\nb: [{{c: {scalar}}}]\n")).unwrap();
            let Node::List(items) = &list.0[0].value else { panic!("{list:?}") };
            assert_eq!(items[1].1.text(true).as_deref(), Some(written));
            let Node::List(maps) = &list.0[1].value else { panic!("{list:?}") };
            let Node::Map(entries) = &maps[0].1 else { panic!("{list:?}") };
            assert_eq!(entries[0].value.text(true).as_deref(), Some(written));
        }
        assert_eq!(parse("a: ~\n").unwrap().0[0].value.text(true), None);
    }

    #[test]
    fn damage_names_its_line() {
        let (line, why) = parse("rate: 1\nphases: [1, 2\n").unwrap_err();
        assert!(line >= 2, "{line} {why}");
        for (text, line) in [("rate: *b\n", 1), ("a: 1\n---\nb: 1\n", 3), ("a: 1\n[b]: 2\n", 2), ("a: 'x\n", 1)] {
            let (at, why) = parse(text).unwrap_err();
            assert!(at >= line && !why.contains(" at line ") && !why.contains("from_str"), "{at} {why}");
        }
        assert!(parse("- a\n- b\n").is_err() && parse("just words").is_err());
        assert!(parse("").unwrap().0.is_empty() && parse("# only a remark\n").unwrap().0.is_empty());
    }
}
