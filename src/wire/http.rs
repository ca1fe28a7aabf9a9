//! HTTP/1.1 as a sender sees it: request heads that are written once and patched, responses read as they arrive.
//! RFC 9110 and RFC 9112.

pub mod request;
pub mod response;
pub mod status;

pub use request::{HeadFacts, HeadStamps, RequestHead};
pub use response::{HttpError, Progress, RESPONSE_START, Response, ResponseParser, Sought};
