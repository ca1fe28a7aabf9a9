//! HTTP from both ends: requests as the receiver and the endpoint read them, responses as the sink does.

use engine::observe::http;
use engine::receive::http::{chunks::Chunks, head};
use engine::wire::http::{HttpError, Response, ResponseParser, Sought};
use std::sync::Arc;

/// A head and, behind it, a body in chunks: in one piece or in two, they are the same.
pub fn request(data: &[u8]) {
    let length = match head::parse(data) {
        Ok(Some((_, length))) => length,
        other => {
            assert!(other.is_ok() || matches!(other, Err(400..=599)), "{other:?}");
            0
        }
    };
    assert!(length <= data.len());
    let _ = head::facts(&data[..length]);
    let body = &data[length..];
    let read = |pieces: [&[u8]; 2]| {
        let (mut chunks, mut found) = (Chunks::begin(), Vec::new());
        let taken = pieces.map(|piece| chunks.take(piece, |bytes| found.extend_from_slice(bytes)));
        let taken: Result<usize, _> = taken.into_iter().sum();
        taken.map(|taken| (taken, chunks, found))
    };
    let (front, back) = body.split_at(body.len() / 2);
    assert_eq!(read([body, &[]]), read([front, back]));
}

pub fn endpoint_head(data: &[u8]) {
    let whole = http::parse(data);
    // A head that was complete stays what it was, whatever follows.
    for end in 0..data.len() {
        if let Some(asked) = http::parse(&data[..end]) {
            return assert!(asked.0.is_err() || whole == Some(asked), "{asked:?} became {whole:?}");
        }
    }
}

/// The first byte says where the stream is cut, which must make no difference, and with it which part of the stream is
/// sought in the bodies.
pub fn responses(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else { return };
    let (first, second) = stream.split_at(usize::from(*cut).min(stream.len()));
    let from = stream.len() / 2;
    let text = &stream[from..stream.len().min(from + 1 + usize::from(cut % 16))];
    let sought = (!text.is_empty()).then(|| Arc::new(Sought::new(text)));
    let whole = read_responses(&[stream], sought.as_ref());
    assert_eq!(whole, read_responses(&[first, second], sought.as_ref()));
    let bytes: Vec<_> = stream.chunks(1).collect();
    assert_eq!(whole, read_responses(&bytes, sought.as_ref()));
    let mut without = whole;
    without.0.iter_mut().for_each(|(response, told)| (response.has_text, *told) = (false, String::new()));
    assert_eq!(without, read_responses(&[stream], None), "that a text is sought changes nothing else");
}

/// The responses, and what is told of those that have the text.
type Found = Vec<(Response, String)>;

fn read_responses(pieces: &[&[u8]], sought: Option<&Arc<Sought>>) -> (Found, Option<HttpError>) {
    let (mut parser, mut buffer, mut found) = (ResponseParser::seeking(sought), Vec::new(), Vec::new());
    let told = |parser: &ResponseParser, response: Response| {
        let taken = (200..300).contains(&response.status);
        assert!((200..600).contains(&response.status) && (taken || !response.has_text), "{response:?}");
        let told = if response.has_text { parser.excerpt().to_string() } else { String::new() };
        assert_eq!(told.is_empty(), !response.has_text, "{response:?}");
        (response, told)
    };
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let progress = match parser.parse(&buffer) {
                Ok(progress) => progress,
                Err(error) => return (found, Some(error)),
            };
            buffer.drain(..progress.consumed);
            let Some(response) = progress.response else { break };
            found.push(told(&parser, response));
        }
    }
    match parser.end() {
        Ok(last) => {
            found.extend(last.map(|response| told(&parser, response)));
            (found, None)
        }
        Err(error) => (found, Some(error)),
    }
}
