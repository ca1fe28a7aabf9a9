//! HTTP as far as the metrics endpoint needs it: a request's head in, a page or a status out. No I/O.

use crate::wire::http::status::reason;

/// What may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    Metrics { open_metrics: bool },
    Health,
    Ready,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
    /// The numbers in it are final.
    pub last: bool,
}

pub const TEXT: &str = "text/plain; charset=utf-8";
pub const TEXT_0_0_4: &str = "text/plain; version=0.0.4; charset=utf-8";
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub const JSON: &str = "application/json";

/// The page asked for, or the status that refuses it; and whether the answer has a body (HEAD has none).
pub type Asked = (Result<Page, u16>, bool);

/// `None`: the head goes on.
pub fn parse(bytes: &[u8]) -> Option<Asked> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Some((Err(431), true)),
        Err(_) => return Some((Err(400), true)),
    }
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let page = match path {
        "/metrics" => {
            let accept = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("accept"));
            let accept: Vec<_> = accept.map(|header| String::from_utf8_lossy(header.value)).collect();
            Page::Metrics { open_metrics: wants_open_metrics(&accept.join(",")) }
        }
        "/health" => Page::Health,
        "/ready" => Page::Ready,
        _ => return Some((Err(404), method != "HEAD")),
    };
    match method {
        "GET" => Some((Ok(page), true)),
        "HEAD" => Some((Ok(page), false)),
        _ => Some((Err(405), true)),
    }
}

/// Whether `Accept` names OpenMetrics, and rates it no lower than plain text.
fn wants_open_metrics(accept: &str) -> bool {
    let weight_of = |wanted: &str| {
        let mut best: f64 = 0.0;
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            if parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(wanted)) {
                let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
                best = best.max(weight.unwrap_or(1.0));
            }
        }
        best
    };
    let open_metrics = weight_of("application/openmetrics-text");
    open_metrics > 0.0 && open_metrics >= weight_of("text/plain")
}

/// Status line and headers, the empty line included.
pub fn head(answer: &Answer) -> String {
    let allow = if answer.status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
        answer.status,
        reason(answer.status),
        answer.content_type,
        answer.body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn open_metrics_only_for_those_who_prefer_it() {
        for (accept, wanted) in [
            ("", false),
            ("*/*", false),
            ("text/plain;version=0.0.4", false),
            ("application/openmetrics-text", true),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", true),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.9", false),
            ("application/openmetrics-text;q=0", false),
        ] {
            assert_eq!(wants_open_metrics(accept), wanted, "{accept}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
