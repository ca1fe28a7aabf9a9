//! The syntax of `java.util.Properties` (its `load`) and of JAAS entries, as Kafka's own tools read them.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// One entry; `line` is where it starts, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    pub line: usize,
    pub key: String,
    pub value: String,
}

const BLANKS: [char; 3] = [' ', '\t', '\u{c}'];

/// All entries in order; of entries with the same key the last one holds. An error is the line and what is wrong.
pub fn properties(text: &str) -> Result<Vec<Property>, (usize, String)> {
    let mut found = Vec::new();
    let mut lines = natural_lines(text).enumerate();
    while let Some((at, first)) = lines.next() {
        let first = first.trim_start_matches(BLANKS);
        // Behind a backslash alone comes a line like any first one.
        if first.is_empty() || first == "\\" || first.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = String::new();
        let mut part = first;
        // An odd number of backslashes at the end: the last one continues the line.
        while let Some(continued) = continued(part) {
            whole.push_str(continued);
            part = lines.next().map_or("", |(_, next)| next.trim_start_matches(BLANKS));
        }
        whole.push_str(part);
        let (key, value) = split(&whole);
        let (key, value) =
            (unescaped(key).map_err(|why| (at + 1, why))?, unescaped(value).map_err(|why| (at + 1, why))?);
        found.push(Property { line: at + 1, key, value });
    }
    Ok(found)
}

/// Lines end with a line feed, a carriage return, or both.
pub fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else {
            rest = None;
            return Some(text);
        };
        let after = &text[end..];
        rest = Some(after.strip_prefix("\r\n").unwrap_or(&after[1..]));
        Some(&text[..end])
    })
}

/// Whether `property` is all of a line, and none goes on behind it.
pub fn is_one_line(property: &str) -> bool {
    !property.contains(['\n', '\r']) && continued(property).is_none()
}

fn continued(line: &str) -> Option<&str> {
    let backslashes = line.len() - line.trim_end_matches('\\').len();
    (backslashes % 2 == 1).then(|| &line[..line.len() - 1])
}

/// At the first `=`, `:` or blank that no backslash protects.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (matches!(c, '=' | ':') || BLANKS.contains(&c));
        escaped = c == '\\' && !escaped;
        ends
    });
    let end = end.unwrap_or(line.len());
    let value = line[end..].trim_start_matches(BLANKS);
    let value = value.strip_prefix(['=', ':']).unwrap_or(value);
    (&line[..end], value.trim_start_matches(BLANKS))
}

fn unescaped(text: &str) -> Result<String, String> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let mut pair = [0; 2];
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next() {
                None => break,
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let plain = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                    let unit = plain.then(|| u16::from_str_radix(&digits, 16).ok()).flatten();
                    // Without the digits: the value may be a password.
                    units.push(unit.ok_or("there is a \\u without four hexadecimal digits behind it")?);
                    continue;
                }
                Some(other) => other,
            },
            plain => plain,
        };
        units.extend_from_slice(c.encode_utf16(&mut pair));
    }
    String::from_utf16(&units).map_err(|_| "it has half a surrogate pair (\\ud8xx without \\udcxx)".to_owned())
}

/// `module flag option=value …;`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jaas {
    /// Without its package.
    pub module: String,
    pub options: BTreeMap<String, String>,
}

pub fn jaas(text: &str) -> Result<Jaas, String> {
    let mut tokens = tokens(text)?.into_iter();
    let mut word = |what: &str| match tokens.next() {
        Some(Token::Word(word)) => Ok(word),
        _ => Err(format!("{what} is missing (MODULE required OPTION=\"VALUE\" …;)")),
    };
    let module = word("the login module")?;
    let module = module.rsplit('.').next().unwrap_or_default().to_owned();
    let flag = word("the control flag")?.to_ascii_lowercase();
    if !matches!(flag.as_str(), "required" | "requisite" | "sufficient" | "optional") {
        return Err(format!("'{flag}' is no control flag; required is what is meant"));
    }
    let mut options = BTreeMap::new();
    loop {
        match tokens.next() {
            Some(Token::Mark(';')) if tokens.len() == 0 => return Ok(Jaas { module, options }),
            Some(Token::Mark(';')) => return Err("more than one login module is no use here".to_owned()),
            Some(Token::Word(name)) => match (tokens.next(), tokens.next()) {
                (Some(Token::Mark('=')), Some(Token::Word(value))) => drop(options.insert(name, value)),
                _ => return Err(format!("option '{name}' has no value")),
            },
            Some(Token::Mark(_)) => return Err("there is a '=' without a name".to_owned()),
            None => return Err("it does not end with ';'".to_owned()),
        }
    }
}

enum Token {
    Word(String),
    /// `=` or `;`.
    Mark(char),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '=' | ';' => found.push(Token::Mark(c)),
            '"' | '\'' => found.push(Token::Word(quoted(&mut chars, c)?)),
            c if c.is_whitespace() => {}
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| !c.is_whitespace() && !matches!(c, '=' | ';' | '"' | '\'')) {
                    word.push(c);
                }
                found.push(Token::Word(word));
            }
        }
    }
    Ok(found)
}

/// With the escapes of `java.io.StreamTokenizer`, which Kafka reads these texts with.
fn quoted(chars: &mut Peekable<Chars<'_>>, quote: char) -> Result<String, String> {
    let mut word = String::new();
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Ok(word),
            '\\' => word.push(match chars.next() {
                Some('a') => '\u{7}',
                Some('b') => '\u{8}',
                Some('t') => '\t',
                Some('n') => '\n',
                Some('v') => '\u{b}',
                Some('f') => '\u{c}',
                Some('r') => '\r',
                Some(first @ '0'..='7') => octal(first, chars),
                Some(other) => other,
                None => break,
            }),
            c => word.push(c),
        }
    }
    Err(format!("a text has no closing {quote}"))
}

/// Up to three digits, the largest of which make 377.
fn octal(first: char, chars: &mut Peekable<Chars<'_>>) -> char {
    let digit = |c: char| c as u8 - b'0';
    let mut code = digit(first);
    for _ in 0..if first <= '3' { 2 } else { 1 } {
        let Some(next) = chars.next_if(|c| matches!(c, '0'..='7')) else { break };
        code = code << 3 | digit(next);
    }
    char::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        properties(text).unwrap().into_iter().map(|one| (one.line, one.key, one.value)).collect()
    }

    #[test]
    fn keys_and_values_as_java_reads_them() {
        let text = "# comment\n  ! another \\\na=1\n b : 2\r\nc 3\rd\n\n\\e\\=\\ f = g\\:h \nlong = one, \\\n    two\\\\\nu=\\u00e4\\t\\ud83d\\ude00\nlast=x\\";
        let expected: Vec<_> = [
            (3, "a", "1"),
            (4, "b", "2"),
            (5, "c", "3"),
            (6, "d", ""),
            (8, "e= f", "g:h "),
            (9, "long", "one, two\\"),
            (11, "u", "ä\t😀"),
            (12, "last", "x"),
        ]
        .map(|(line, key, value)| (line, key.to_owned(), value.to_owned()))
        .into();
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn a_lone_backslash_begins_nothing() {
        assert_eq!(pairs("\\\n\na=1"), [(3, "a".to_owned(), "1".to_owned())]);
        assert_eq!(pairs("\\\n# comment\na=1"), [(3, "a".to_owned(), "1".to_owned())]);
        assert_eq!(pairs("\\\n# comment \\\na=1"), [(3, "a".to_owned(), "1".to_owned())]);
        assert_eq!(pairs("a=\\\n# value"), [(1, "a".to_owned(), "# value".to_owned())]);
    }

    #[test]
    fn one_line_is_what_nothing_goes_on_behind() {
        for (property, one) in
            [("a=b", true), ("a=b\\\\", true), ("", true), ("a=b\\", false), ("a=b\\\\\\", false), ("a=1\nb=2", false)]
        {
            assert_eq!(is_one_line(property), one, "{property:?}");
        }
    }

    #[test]
    fn bad_escapes_are_named_with_their_line() {
        assert_eq!(properties("a=1\nb=\\u12g4").unwrap_err().0, 2);
        assert!(properties("b=\\ud800x").unwrap_err().1.contains("surrogate"));
        assert!(properties("b=\\u00").is_err());
    }

    #[test]
    fn jaas_entries() {
        let parsed = jaas("org.x.PlainLoginModule required\n username=\"a b\" password='c\\'\"d' x=y;").unwrap();
        assert_eq!(parsed.module, "PlainLoginModule");
        let options: Vec<_> = parsed.options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(options, [("password", "c'\"d"), ("username", "a b"), ("x", "y")]);
        for (text, part) in [
            ("", "module"),
            ("M", "flag"),
            ("M perhaps;", "perhaps"),
            ("M required a=\"b\"", "';'"),
            ("M required a=;", "'a'"),
            ("M required =b;", "name"),
            ("M required a=\"b;", "closing"),
            ("M required; N required;", "more than one"),
        ] {
            let why = jaas(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn escapes_of_jaas_as_java_reads_them() {
        for (text, value) in [
            (r"a\101\b", "aA\u{8}"),
            (r"caf\351", "café"),
            (r"\a\t\n\v\f\r", "\u{7}\t\n\u{b}\u{c}\r"),
            (r"\0\47\477\3778\18", "\0''7ÿ8\u{1}8"),
            (r"\\1\'\q", r"\1'q"),
        ] {
            for quote in ['"', '\''] {
                let parsed = jaas(&format!("M required p={quote}{text}{quote};")).unwrap();
                assert_eq!(parsed.options["p"], value, "{text}");
            }
        }
        assert!(jaas(r#"M required p="\1"#).unwrap_err().contains("closing"));
    }
}
