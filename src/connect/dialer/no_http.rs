//! What is said of a peer that `http://` or `https://` was meant for and that speaks something else.

use crate::connect::peer::shown;
use crate::plan::PeerPlan;

/// A server that is about to end may close once or twice without an answer.
pub const MUTE_TOLD_AT: u32 = 3;

/// Kafka's brokers, and servers that expect TLS, close where they do not understand.
pub fn words_of_silence(peer: &PeerPlan) -> String {
    let shown = shown(peer);
    let meant = match peer.tls {
        None => format!("TLS (https://{shown}), or something else"),
        Some(_) => "HTTP".to_owned(),
    };
    format!("{shown} closed without an answer {MUTE_TOLD_AT} times in a row; does this port speak {meant}?")
}

/// `start`: the first bytes, with zeros behind them.
pub fn words_of_answer(peer: &PeerPlan, start: [u8; 4]) -> String {
    let shown = shown(peer);
    // A record of alerts (RFC 8446, section 5.1).
    if start[..2] == [21, 3] && peer.tls.is_none() {
        return format!("{shown} answers with a TLS alert: this port speaks TLS, https://{shown}");
    }
    let length = start.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let begins = start[..length].escape_ascii();
    format!("{shown} answers with what is no HTTP/1, beginning with '{begins}'; does this port speak something else?")
}
