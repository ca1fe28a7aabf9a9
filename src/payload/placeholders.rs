//! Text templates: finds the placeholders and gives each a stretch of fixed width.

use crate::base::digits::U64_DIGITS;
use crate::base::limits::RUN_ID_BYTES_MAX;
use crate::manifest::{Fact, Slot};
use crate::payload::render::{FITS_CHECKSUM_BYTES, FITS_DATE_BYTES, Style, TIMESTAMP_BYTES, U32_DIGITS};

const FACTS: [(&str, Fact); 7] = [
    ("run_id", Fact::RunId),
    ("producer_id", Fact::ProducerId),
    ("sequence", Fact::Sequence),
    ("timestamp", Fact::Timestamp),
    ("timestamp_ns", Fact::TimestampNs),
    ("weight", Fact::Weight),
    ("crc32c", Fact::Crc32c),
];

/// A placeholder as it stands in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placeholder {
    pub start: usize,
    pub end: usize,
    pub fact: Fact,
}

/// A slot and how its value sits in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub slot: Slot,
    pub style: Style,
}

/// A template's bytes with room for its slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub bytes: Vec<u8>,
    pub slots: Vec<Placed>,
}

/// Bytes of a fact's longest value, quotes aside.
pub fn value_bytes_max(fact: Fact) -> usize {
    match fact {
        Fact::RunId => RUN_ID_BYTES_MAX,
        Fact::ProducerId | Fact::Crc32c => U32_DIGITS,
        Fact::Sequence | Fact::TimestampNs | Fact::Weight => U64_DIGITS,
        Fact::Timestamp => TIMESTAMP_BYTES,
        Fact::FitsDate => FITS_DATE_BYTES,
        Fact::FitsChecksum => FITS_CHECKSUM_BYTES,
    }
}

/// The placeholders of `bytes`, in order; none where they are no text, or a text without any.
///
/// # Errors
/// A `{{` in a text that opens no placeholder we know, or a known one among bytes that are no text.
pub fn find(bytes: &[u8]) -> Result<Vec<Placeholder>, String> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text,
        Ok(text) => return refuse_stray(bytes, text.find('\0').unwrap_or_default()),
        Err(error) => return refuse_stray(bytes, error.valid_up_to()),
    };
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = text[from..].find("{{").map(|at| from + at) {
        let (fact, end) = read_one(text, start)?;
        found.push(Placeholder { start, end, fact });
        from = end;
    }
    Ok(found)
}

fn refuse_stray(bytes: &[u8], offset: usize) -> Result<Vec<Placeholder>, String> {
    let braces = bytes.windows(2).enumerate().filter(|(_, pair)| *pair == b"{{").map(|(at, _)| at + 2);
    for at in braces {
        let inner = bytes[at..].trim_ascii_start();
        let is_closed = |rest: &[u8]| rest.trim_ascii_start().starts_with(b"}}");
        let known = |name: &str| inner.strip_prefix(name.as_bytes()).is_some_and(is_closed);
        if let Some((name, _)) = FACTS.iter().find(|(name, _)| known(name)) {
            return Err(format!(
                "has {{{{{name}}}}} but is no UTF-8 text (the byte at offset {offset}); save it as UTF-8"
            ));
        }
    }
    Ok(Vec::new())
}

fn read_one(text: &str, start: usize) -> Result<(Fact, usize), String> {
    let rest = &text[start + 2..];
    let inner = rest.find("}}").map(|end| &rest[..end]);
    let fact = inner.and_then(|inner| FACTS.iter().find(|(name, _)| *name == inner.trim()));
    if let (Some(inner), Some((_, fact))) = (inner, fact) {
        return Ok((*fact, start + 2 + inner.len() + 2));
    }
    let line = text[..start].matches('\n').count() + 1;
    let shown: String = inner.unwrap_or(rest).lines().next().unwrap_or_default().chars().take(32).collect();
    let known: Vec<&str> = FACTS.iter().map(|(name, _)| *name).collect();
    let known = known.join(", ");
    Err(format!(
        "line {line}: '{{{{{shown}' is no placeholder; known are {known} (--annotate off sends the file as it is)"
    ))
}

/// Lays the text out as JSON: a placeholder outside of strings, or alone between quotes, becomes a whole JSON
/// value. Whether the result is valid JSON is for the caller to see.
pub fn lay_out_json(source: &[u8], placeholders: &[Placeholder]) -> Layout {
    let mut layout = Layout { bytes: Vec::with_capacity(source.len() * 2), slots: Vec::new() };
    let mut in_string = false;
    let mut from = 0;
    for placeholder in placeholders {
        let literal = &source[from..placeholder.start];
        let opened_here = literal.last() == Some(&b'"') && !ends_in_string(&literal[..literal.len() - 1], in_string);
        in_string = ends_in_string(literal, in_string);
        layout.bytes.extend_from_slice(literal);
        from = placeholder.end;
        let alone = in_string && opened_here && source.get(placeholder.end) == Some(&b'"');
        if alone {
            layout.bytes.pop();
            from += 1;
            in_string = false;
        }
        let bare_number = matches!(placeholder.fact, Fact::ProducerId | Fact::Crc32c) && !alone;
        let style = match (in_string, bare_number) {
            (true, _) => Style::Left,
            (false, true) => Style::Right,
            (false, false) => Style::Quoted,
        };
        layout.push(placeholder.fact, style);
    }
    layout.bytes.extend_from_slice(&source[from..]);
    layout
}

/// Lays out any other text: values at the start of their slots.
pub fn lay_out_text(source: &[u8], placeholders: &[Placeholder]) -> Layout {
    let mut layout = Layout { bytes: Vec::with_capacity(source.len() * 2), slots: Vec::new() };
    let mut from = 0;
    for placeholder in placeholders {
        layout.bytes.extend_from_slice(&source[from..placeholder.start]);
        layout.push(placeholder.fact, Style::Left);
        from = placeholder.end;
    }
    layout.bytes.extend_from_slice(&source[from..]);
    layout
}

impl Layout {
    fn push(&mut self, fact: Fact, style: Style) {
        let quoted = style == Style::Quoted;
        let width = value_bytes_max(fact) + if quoted { 2 } else { 0 };
        let offset = self.bytes.len();
        self.slots.push(Placed { slot: Slot { fact, offset: offset as u64, width: width as u32, quoted }, style });
        self.bytes.resize(offset + width, b' ');
    }
}

/// Whether a JSON string is open after `literal`.
fn ends_in_string(literal: &[u8], mut in_string: bool) -> bool {
    let mut escaped = false;
    for byte in literal {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    in_string
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_by_name() {
        let source = b"{{sequence}},{{ run_id }}\n{{timestamp_ns}}";
        let facts: Vec<Fact> = find(source).unwrap().iter().map(|found| found.fact).collect();
        assert_eq!(facts, [Fact::Sequence, Fact::RunId, Fact::TimestampNs]);
        assert_eq!(find(b"{ } plain { text }").unwrap(), []);
        assert_eq!(find(b"\xff\xfe binary {{ stays as it is").unwrap(), []);
    }

    #[test]
    fn an_unknown_name_is_named_with_its_line() {
        let why = find(b"{\n \"a\": {{sequnce}}}").unwrap_err();
        assert!(why.contains("line 2") && why.contains("sequnce") && why.contains("timestamp_ns"), "{why}");
        assert!(find(b"{{sequence").unwrap_err().contains("{{sequence"));
        assert!(find(b"{{a\nb}}").unwrap_err().contains("'{{a'"));
    }

    #[test]
    fn a_placeholder_in_another_encoding_is_refused() {
        let why = find(b"caf\xe9 {{sequence}}").unwrap_err();
        assert!(why.contains("offset 3") && why.contains("{{sequence}}"), "{why}");
        assert!(find(b"a\0b {{weight}}").unwrap_err().contains("offset 1"));
        assert!(find(b"caf\xe9 {{ sequence }}").unwrap_err().contains("{{sequence}}"));
    }

    #[test]
    fn json_context_decides_the_style() {
        let source =
            br#"{"a":{{sequence}},"b":"{{sequence}}","c":"n \"{{sequence}}","d\"":{{crc32c}},"e":"{{crc32c}}"}"#;
        let layout = lay_out_json(source, &find(source).unwrap());
        let styles: Vec<(Style, u32)> = layout.slots.iter().map(|placed| (placed.style, placed.slot.width)).collect();
        use Style::{Left, Quoted, Right};
        assert_eq!(styles, [(Quoted, 22), (Quoted, 22), (Left, 20), (Right, 10), (Quoted, 12)]);
        for placed in &layout.slots {
            let slot = &layout.bytes[placed.slot.offset as usize..][..placed.slot.width as usize];
            assert!(slot.iter().all(|byte| *byte == b' '));
            assert_eq!(placed.slot.quoted, placed.style == Quoted);
        }
    }
}
