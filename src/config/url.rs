//! URLs of network targets: `tcp://host:port`, `http(s)://host[:port]/path`, `kafka://host[:port],…/topic`.

use crate::base::fatal::Fatal;
use crate::base::limits;
use crate::plan::SinkKind;
use std::net::{IpAddr, Ipv6Addr};

const KAFKA_PORT: u16 = 9092;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Tcp,
    Http,
    Https,
    Kafka,
}

impl Scheme {
    pub fn of(url: &str) -> Option<Self> {
        Self::named(url.split_once("://")?.0)
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "tcp" => Scheme::Tcp,
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "kafka" => Scheme::Kafka,
            _ => return None,
        })
    }

    pub fn kind(self) -> SinkKind {
        match self {
            Scheme::Tcp => SinkKind::Tcp,
            Scheme::Http | Scheme::Https => SinkKind::Http,
            Scheme::Kafka => SinkKind::Kafka,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Scheme::Tcp => "tcp",
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Kafka => "kafka",
        }
    }

    fn default_port(self) -> Option<u16> {
        match self {
            Scheme::Tcp => None,
            Scheme::Http => Some(80),
            Scheme::Https => Some(443),
            Scheme::Kafka => Some(KAFKA_PORT),
        }
    }

    fn example(self) -> &'static str {
        match self {
            Scheme::Tcp => "tcp://10.0.0.5:9000",
            Scheme::Http => "http://ingest.example:8080/events",
            Scheme::Https => "https://ingest.example/events",
            Scheme::Kafka => "kafka://broker-1:9092,broker-2:9092/topic",
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    pub scheme: Scheme,
    /// At least one; more for Kafka only. IPv6 without brackets, its zone behind a bare `%`.
    pub hosts: Vec<(String, u16)>,
    /// `user:password`, percent-decoded; HTTP only.
    pub user_info: Option<String>,
    /// From its `/`; empty on TCP.
    pub path: String,
    /// Without its `?`; HTTP only.
    pub query: Option<String>,
}

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.label())
    }
}

impl Url {
    /// # Errors
    /// Names the URL without its credentials.
    pub fn parse(text: &str) -> Result<Self, Fatal> {
        let scheme = Scheme::of(text).ok_or_else(|| Fatal::usage("the URL has no known scheme"))?;
        Self::take_apart(scheme, text).map_err(|why| {
            let fatal =
                |why: &str, mend: &str| Fatal::usage(format!("--target '{}': {why}", for_errors(text))).mend(mend);
            match authority_before_at(text) {
                None => fatal(&why, scheme.example()),
                Some(authority) if !has_only_ports(authority) => {
                    fatal("a / ? or # before its last @ ends the user info", "%2F, %3F or %23 in its place")
                }
                // A password of digits looks like a port, and the reason may quote it.
                Some(_) => fatal(&without_quote(&why), scheme.example()),
            }
        })
    }

    fn take_apart(scheme: Scheme, text: &str) -> Result<Self, String> {
        if text.len() > limits::URL_BYTES_MAX {
            return Err(format!("{} bytes are more than the {} of a URL", text.len(), limits::URL_BYTES_MAX));
        }
        if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic()) {
            let odd = odd.escape_debug();
            return Err(match scheme {
                // Nothing of these is decoded.
                Scheme::Kafka => format!("'{odd}' is in no host and no topic name: letters, digits, . _ and -"),
                Scheme::Tcp => format!("'{odd}' is in no host: letters, digits, . _ and -"),
                Scheme::Http | Scheme::Https => format!("'{odd}' must be percent-encoded"),
            });
        }
        let (_, rest) = text.split_once("://").ok_or("no ://")?;
        if rest.contains('#') {
            return Err("a fragment (#) never reaches a server".to_owned());
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let (path, query) = tail.split_once('?').map_or((tail, None), |(path, query)| (path, Some(query)));
        let (user_info, hosts) = authority.rsplit_once('@').map_or((None, authority), |(info, all)| (Some(info), all));
        let url = Self {
            scheme,
            hosts: hosts.split(',').map(|host| host_port(host, scheme)).collect::<Result<_, _>>()?,
            user_info: user_info.filter(|info| !info.is_empty()).map(user_and_password).transpose()?,
            path: path.to_owned(),
            query: query.map(str::to_owned),
        };
        url.check()?;
        Ok(url)
    }

    fn check(&self) -> Result<(), String> {
        let name = self.scheme.name();
        let http = self.scheme.kind() == SinkKind::Http;
        if self.hosts.len() > 1 && self.scheme != Scheme::Kafka {
            return Err(format!("{name} takes one host; --target can be repeated"));
        }
        if self.user_info.is_some() && !http {
            return Err(format!("{name} has no user info in its URL"));
        }
        if self.query.is_some() && !http {
            return Err(format!("{name} has no query"));
        }
        if self.scheme == Scheme::Tcp && !matches!(self.path.as_str(), "" | "/") {
            return Err("tcp has no path".to_owned());
        }
        let topic = self.path.trim_start_matches('/');
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        match self.scheme {
            Scheme::Kafka if topic.is_empty() => Err("no topic is named".to_owned()),
            Scheme::Kafka if matches!(topic, "." | "..") || !topic.bytes().all(plain) => {
                Err(format!("'{topic}' is no topic name: letters, digits, . _ and -"))
            }
            Scheme::Kafka if topic.len() > limits::KAFKA_TOPIC_BYTES_MAX => {
                let most = limits::KAFKA_TOPIC_BYTES_MAX;
                Err(format!("a topic name has at most {most} characters, not {}", topic.len()))
            }
            _ => Ok(()),
        }
    }

    /// For labels, logs and the report: without user info or query.
    pub fn label(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(|(host, port)| format!("{}:{port}", bracketed(host))).collect();
        let path = if self.scheme == Scheme::Tcp { "" } else { self.path.as_str() };
        format!("{}://{}{path}", self.scheme.name(), hosts.join(","))
    }

    pub fn topic(&self) -> &str {
        self.path.trim_start_matches('/')
    }

    /// What the request line asks for.
    pub fn request_target(&self) -> String {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        self.query.as_ref().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
    }

    /// As the `Host` header names it: a zone means nothing to another host (RFC 6874, section 4).
    pub fn host_header(&self) -> String {
        let (host, port) = &self.hosts[0];
        let host = bracketed(without_zone(host));
        let usual = self.scheme.default_port() == Some(*port);
        if usual { host } else { format!("{host}:{port}") }
    }

    /// Every host is this one.
    pub fn is_local(&self) -> bool {
        self.hosts.iter().all(|(host, _)| match without_zone(host).parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost"),
        })
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{}]", host.replace('%', "%25")) } else { host.to_owned() }
}

fn without_zone(host: &str) -> &str {
    host.split_once('%').map_or(host, |(address, _)| address)
}

/// An IPv6 address as it stands in brackets. Behind a `%`, in a URL `%25` (RFC 6874), comes the zone: the link that
/// leads to a link-local address.
pub fn ipv6(text: &str) -> Result<String, String> {
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    if address.parse::<Ipv6Addr>().is_err() {
        return Err(format!("'{text}' is no IPv6 address"));
    }
    let Some(zone) = zone else { return Ok(address.to_owned()) };
    let zone = zone.strip_prefix("25").filter(|rest| !rest.is_empty()).unwrap_or(zone);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'~');
    if zone.is_empty() || !zone.bytes().all(plain) {
        return Err(format!("'{text}' names no link behind its %, as fe80::1%25eth0 does"));
    }
    Ok(format!("{address}%{zone}"))
}

/// The path in the URL of a file, which may be spelled with two slashes before it.
pub fn path_of_file(url: &str) -> Option<&str> {
    let body = url.strip_prefix("file:")?;
    Some(body.strip_prefix("//").unwrap_or(body))
}

/// What was meant by a scheme with a slash too few.
pub fn with_both_slashes(text: &str) -> Option<String> {
    let (name, rest) = text.split_once(':').filter(|(_, rest)| !rest.starts_with("//"))?;
    let scheme = Scheme::named(name)?;
    let url = format!("{name}://{}", rest.trim_start_matches('/'));
    let with_topic = format!("{}/TOPIC", url.trim_end_matches('/'));
    let meant = Url::parse(&url).or_else(|_| Url::parse(&with_topic));
    Some(meant.map_or_else(|_| scheme.example().to_owned(), |url| url.label()))
}

/// The authority of a URL that has an `@` behind it: it may be the beginning of a user info.
fn authority_before_at(text: &str) -> Option<&str> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#'])?);
    tail.contains('@').then_some(authority)
}

/// Whether behind every `:` of its hosts stands a number, of whatever size.
fn has_only_ports(authority: &str) -> bool {
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let is_number = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let mut ports = hosts.split(',').filter(|host| !host.starts_with('[')).filter_map(|host| host.split_once(':'));
    ports.all(|(_, port)| is_number(port))
}

/// A reason without what it quotes.
fn without_quote(why: &str) -> String {
    match (why.find('\''), why.rfind('\'')) {
        (Some(from), Some(to)) if from < to => format!("{}'…'{}", &why[..from], &why[to + 1..]),
        _ => why.to_owned(),
    }
}

/// What an error may show of a target that may be no URL at all. A path is shown whole.
pub fn for_errors(text: &str) -> String {
    match text.split_once("://").filter(|(scheme, _)| *scheme != "file") {
        Some((scheme, rest)) => format!("{scheme}://{}", without_secrets(rest)),
        None => text.to_owned(),
    }
}

/// What an error may show of an address that is no path.
pub fn shown_address(text: &str) -> String {
    if text.contains("://") { for_errors(text) } else { without_secrets(text).to_owned() }
}

/// What stands behind a scheme, but nothing before the last `@` and nothing from the first `?` on: where a URL could
/// not be read, either may have a credential.
pub fn without_secrets(rest: &str) -> &str {
    let host_on = match rest.rsplit_once('@') {
        // Either may be the one that counts.
        Some((before, _)) if before.contains('?') => "…",
        Some((_, host_on)) => host_on,
        None => rest,
    };
    host_on.split('?').next().unwrap_or(host_on)
}

/// A URL that can be read, without its user info.
pub fn without_user_info(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => text.to_owned(),
    }
}

/// A URL as reports may show it: without user info or query, like `Url::label`. Any other text is left as it is.
pub fn shown(text: &str) -> String {
    if Scheme::of(text).is_none() {
        return text.to_owned();
    }
    let bare = without_user_info(text);
    bare.split_once('?').map_or(bare.as_str(), |(before, _)| before).to_owned()
}

/// `host[:port][,…]` of Kafka brokers.
pub fn hosts(text: &str) -> Result<Vec<(String, u16)>, String> {
    text.split(',').map(|host| host_port(host.trim(), Scheme::Kafka)).collect()
}

fn host_port(text: &str, scheme: Scheme) -> Result<(String, u16), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let name = |host: &str| {
        let valid = !host.is_empty() && host.bytes().all(plain);
        valid.then(|| host.to_owned()).ok_or_else(|| format!("'{text}' names no host"))
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(|| format!("'{text}' has no ]"))?;
            let host = ipv6(host)?;
            match after {
                "" => (host, None),
                _ => (host, Some(after.strip_prefix(':').ok_or_else(|| format!("'{after}' is no port"))?)),
            }
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(format!("an IPv6 address stands in brackets: [{text}]"));
            }
            Some((host, port)) => (name(host)?, Some(port)),
            None => (name(text)?, None),
        },
    };
    let port = match port {
        Some(digits) => {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let port = digits.parse::<u16>().ok().filter(|port| plain && *port > 0);
            port.ok_or_else(|| format!("'{digits}' is no port from 1 to 65535"))?
        }
        None => scheme.default_port().ok_or_else(|| format!("'{text}' names no port"))?,
    };
    Ok((host, port))
}

/// Both behind one another, as the Basic scheme wants them: `user:` where there is no password.
fn user_and_password(text: &str) -> Result<String, String> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let (user, password) = (percent_decoded(user)?, percent_decoded(password)?);
    if user.contains(':') {
        return Err("the user's name has a colon (%3A), which the Basic scheme cannot carry".to_owned());
    }
    Ok(format!("{user}:{password}"))
}

fn percent_decoded(text: &str) -> Result<String, String> {
    let mut out = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err("the user info has a % without two hexadecimal digits".to_owned());
        };
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).map_err(|_| "the user info is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests;
