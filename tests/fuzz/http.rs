//! HTTP from both ends: requests as the receiver and the endpoint read them, responses as the sink does.

use engine::observe::http;
use engine::receive::http::{chunks::Chunks, head};
use engine::wire::http::{HttpError, Response, ResponseParser};

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

/// The first byte says where the stream is cut, which must make no difference.
pub fn responses(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else { return };
    let (first, second) = stream.split_at(usize::from(*cut).min(stream.len()));
    assert_eq!(read_responses(&[stream]), read_responses(&[first, second]));
}

fn read_responses(pieces: &[&[u8]]) -> (Vec<Response>, Option<HttpError>) {
    let (mut parser, mut buffer, mut found) = (ResponseParser::new(), Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let progress = match parser.parse(&buffer) {
                Ok(progress) => progress,
                Err(error) => return (found, Some(error)),
            };
            buffer.drain(..progress.consumed);
            let Some(response) = progress.response else { break };
            assert!((200..600).contains(&response.status), "{response:?}");
            found.push(response);
        }
    }
    match parser.end() {
        Ok(last) => (found.into_iter().chain(last).collect(), None),
        Err(error) => (found, Some(error)),
    }
}
