//! What the receiver says.

use super::head::Link;

pub const NO_CONTENT: &[u8] = b"HTTP/1.1 204 No Content\r\n";
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The end of every head.
pub fn end(link: Link) -> &'static [u8] {
    match link {
        Link::Stays => b"\r\n",
        Link::SaysStays => b"Connection: keep-alive\r\n\r\n",
        Link::Closes => b"Connection: close\r\n\r\n",
    }
}

/// For what is no request: the connection ends with it.
pub fn refusal(status: u16) -> String {
    let reason = match status {
        405 => "Method Not Allowed",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        505 => "HTTP Version Not Supported",
        _ => "Bad Request",
    };
    format!("HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
