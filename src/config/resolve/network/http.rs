//! What `http://` and `https://` targets come to.

use super::shared::{Shared, link, retries, tls};
use crate::base::fatal::Fatal;
use crate::base::{limits, units};
use crate::config::credentials;
use crate::config::url::{Scheme, Url};
use crate::config::values::Wanted;
use crate::plan::{BearerPlan, HttpPlan, PayloadPlan, PayloadSource};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const ATTEMPTS_DEFAULT: u32 = 3;
/// What would change how a request is framed, or how long its connection lasts.
const FRAMING: [&str; 5] = ["transfer-encoding", "connection", "expect", "te", "upgrade"];
const WRITTEN: [&str; 2] = ["content-length", "host"];
/// Facts of records, which the engine states.
const STATED: [&str; 7] =
    ["x-producer-id", "x-sequence", "x-timestamp", "x-weight", "x-record-count", "x-run-id", "x-crc32c"];
const TOKEN_FLAG: &str = "bearer-token-file";
/// What a bearer token has before it.
const BEARER: &str = "Authorization: Bearer ";
const CREDENTIALS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];
/// As in `X-Api-Key` and `X-Auth-Token`.
const CREDENTIAL_ENDINGS: [&str; 7] =
    ["-token", "-secret", "api-key", "apikey", "auth-key", "access-key", "subscription-key"];

pub fn plan(
    wanted: &Wanted,
    url: &Url,
    payload: &PayloadPlan,
    shared: &mut Shared,
    (notes, errors): (&mut Vec<String>, &mut Vec<Fatal>),
) -> HttpPlan {
    let network = &wanted.network;
    let body = network.records_per_request.saturating_mul(payload.record_bytes_max);
    if body > limits::BLOCK_BYTES_MAX {
        let (body, most) = (units::format_size(body), units::format_size(limits::BLOCK_BYTES_MAX));
        let what =
            format!("--http-records-per-request {}: {body} in one body; {most} fit", network.records_per_request);
        errors.push(Fatal::usage(what).mend("--http-records-per-request=1"));
    }
    let depth = network.connections.unwrap_or(1) * network.pipeline;
    if depth > limits::QUEUE_DEPTH_MAX {
        let most = limits::QUEUE_DEPTH_MAX;
        let what = format!("--connections times --http-pipeline is {depth} requests for each producer; {most} fit");
        errors.push(Fatal::usage(what).mend("--http-pipeline=1"));
    }
    let refused_by = network.refused_by.clone();
    let text_bytes = refused_by.as_ref().map_or(0, String::len);
    if text_bytes > limits::HTTP_REFUSED_BY_BYTES_MAX {
        let most = limits::HTTP_REFUSED_BY_BYTES_MAX;
        let what = format!("--http-refused-by: the text is {text_bytes} bytes; {most} are looked for at most");
        errors.push(Fatal::usage(what).mend("a part of it that no answer has where all is well"));
    }
    let encrypted = url.scheme == Scheme::Https;
    let (headers, bearer) = headers(wanted, url, payload, shared, (notes, errors));
    HttpPlan {
        link: link(wanted, url, encrypted.then(|| tls(wanted, url)), retries(ATTEMPTS_DEFAULT)),
        method: network.method,
        path: url.request_target(),
        host_header: url.host_header(),
        headers,
        bearer,
        records_per_request: network.records_per_request,
        pipeline: network.pipeline,
        refused_by,
    }
}

fn headers(
    wanted: &Wanted,
    url: &Url,
    payload: &PayloadPlan,
    shared: &mut Shared,
    (notes, errors): (&mut Vec<String>, &mut Vec<Fatal>),
) -> (Vec<(String, String)>, Option<BearerPlan>) {
    let mut headers = wanted.network.headers.clone();
    for (at, (name, _)) in headers.iter().enumerate() {
        let lower = name.to_ascii_lowercase();
        let is_framing = FRAMING.contains(&lower.as_str());
        if is_framing || WRITTEN.contains(&lower.as_str()) || STATED.contains(&lower.as_str()) {
            let why = match is_framing {
                true => "how requests are framed and connections kept is the engine's to say",
                false => "the engine writes that header itself",
            };
            let what = format!("--http-header {name}: {why}");
            errors.push(Fatal::usage(what).mend(format!("leave out --http-header {name}")));
        } else if headers[..at].iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            errors.push(Fatal::usage(format!("--http-header {name} is given twice")).mend("name it once"));
        }
    }
    let has = |headers: &[(String, String)], name| headers.iter().any(|(one, _)| one.eq_ignore_ascii_case(name));
    if !has(&headers, "Content-Type") {
        headers.push(("Content-Type".to_owned(), content_type(wanted, payload).to_owned()));
    }
    if !has(&headers, "User-Agent") {
        headers.push(("User-Agent".to_owned(), concat!("engine/", env!("CARGO_PKG_VERSION")).to_owned()));
    }
    let given = headers.iter().any(|(name, _)| is_credential(name));
    let bearer = bearer(wanted, url, shared, errors);
    let basic = url.user_info.as_ref().map(|info| format!("Basic {}", STANDARD.encode(info)));
    let is_made = bearer.is_some() || basic.is_some();
    if is_made && has(&headers, "Authorization") {
        let what = format!("the header Authorization and the bearer token or user info of '{}' are two", url.label());
        errors.push(Fatal::usage(what).mend("leave out one of them"));
    }
    if (given || is_made) && url.scheme == Scheme::Http && !url.is_local() {
        notes.push(format!("{}: the credentials travel in the clear; https would encrypt them", url.label()));
    }
    headers.extend(basic.map(|value| ("Authorization".to_owned(), value)));
    let token_bytes = bearer.as_ref().map_or(0, |bearer| BEARER.len() + bearer.token.expose().len() + 4);
    let bytes = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>() + token_bytes;
    if bytes > limits::HTTP_HEADER_BYTES_MAX {
        let what = format!("the headers of a request are {bytes} bytes; {} fit", limits::HTTP_HEADER_BYTES_MAX);
        let mend = match token_bytes > bytes / 2 {
            true => format!("a shorter token in --{TOKEN_FLAG}"),
            false => "fewer or shorter --http-header".to_owned(),
        };
        errors.push(Fatal::usage(what).mend(mend));
    }
    (headers, bearer)
}

/// Whether a header of this name says who asks, as far as names tell.
pub fn is_credential(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    CREDENTIAL_ENDINGS.iter().any(|ending| lower.ends_with(ending)) || CREDENTIALS.contains(&lower.as_str())
}

fn bearer(wanted: &Wanted, url: &Url, shared: &mut Shared, errors: &mut Vec<Fatal>) -> Option<BearerPlan> {
    let path = wanted.network.bearer_token.as_deref()?;
    if url.user_info.is_some() {
        let what = format!("--{TOKEN_FLAG} and the user info of '{}' are two credentials", url.label());
        errors.push(Fatal::usage(what).mend("leave out one of them"));
    }
    let secret = shared.secret(TOKEN_FLAG, path, errors)?;
    credentials::bearer(TOKEN_FLAG, &secret, path).map_err(|fatal| errors.push(fatal)).ok()
}

fn content_type(wanted: &Wanted, payload: &PayloadPlan) -> &'static str {
    // A record header is no part of any text.
    let files = match &payload.source {
        PayloadSource::Templates(files) if !payload.headed => files,
        _ => return "application/octet-stream",
    };
    let all = |ending: &str| !files.is_empty() && files.iter().all(|file| file.name.to_lowercase().ends_with(ending));
    match wanted.network.records_per_request {
        1 if all(".json") => "application/json",
        1 if all(".fits") => "application/fits",
        1 if all(".xml") => "application/xml",
        _ if all(".txt") || all(".log") => "text/plain",
        _ if all(".csv") => "text/csv",
        _ if all(".ndjson") || all(".jsonl") || (wanted.template_lines && all(".json")) => "application/x-ndjson",
        _ => "application/octet-stream",
    }
}
