//! What a call that rskafka gave up says of the batch's fate.

use crate::counters::Field;
use crate::sink::Fate;
use crate::wire::kafka::errors::{PERHAPS_APPENDED, UNFORESEEN, broker_error};
use rskafka::BackoffError;
use rskafka::client::error::{Error, ProtocolError, RequestError};

/// The end of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub fate: Fate,
    /// Why the run cannot go on.
    pub end: Option<String>,
}

impl Verdict {
    pub const PRODUCED: Self = Self { fate: Fate::Produced, end: None };
    /// Not answered in time.
    pub const LATE: Self = Self { fate: Fate::Uncertain(Field::ErrorTimeout), end: None };

    fn uncertain(kind: Field) -> Self {
        Self { fate: Fate::Uncertain(kind), end: None }
    }

    /// `once`: rskafka was not to try again, so the error tells all that happened. `place`: topic and partition.
    pub fn of(error: &Error, once: bool, place: (&str, i32)) -> Self {
        match error {
            Error::ServerError { protocol_error, .. } => Self::of_answer(code_of(*protocol_error), place),
            Error::RetryFailed(BackoffError::DeadlineExceded { source, .. }) => match source.downcast_ref::<Error>() {
                Some(last) if once => Self::of(last, once, place),
                // An earlier attempt may have arrived.
                Some(last) => match Self::of(last, once, place).fate {
                    Fate::Failed(kind) | Fate::Uncertain(kind) => Self::uncertain(kind),
                    Fate::Produced | Fate::NotSent => Self::LATE,
                },
                None => Self::LATE,
            },
            // No connection, so nothing was sent.
            Error::Connection(_) if once => Self { fate: Fate::Failed(Field::ErrorClosed), end: None },
            Error::Connection(_) | Error::Request(RequestError::IO(_) | RequestError::Poisoned(_)) => {
                Self::uncertain(Field::ErrorClosed)
            }
            Error::Timeout => Self::LATE,
            _ => Self::uncertain(Field::ErrorProtocol),
        }
    }

    /// As the native client takes it: what is refused once will be refused again.
    fn of_answer(code: i16, (topic, partition): (&str, i32)) -> Self {
        if PERHAPS_APPENDED.contains(&code) {
            return Self::LATE;
        }
        let error = broker_error(code);
        let remedy = error.remedy().map(|how| format!("\n  mend: {how}")).unwrap_or_default();
        let end = format!("{topic}/{partition}: the broker answered {error}{remedy}");
        let fate =
            if code == UNFORESEEN { Fate::Uncertain(Field::ErrorBroker) } else { Fate::Failed(Field::ErrorBroker) };
        Self { fate, end: (!error.kind.is_retriable()).then_some(end) }
    }
}

/// rskafka has names only; the numbers are Kafka's.
fn code_of(error: ProtocolError) -> i16 {
    (-1..i16::MAX).find(|code| ProtocolError::new(*code) == Some(error)).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rskafka::client::error::RequestContext;
    use std::io;
    use std::time::Duration;

    fn answer(protocol_error: ProtocolError) -> Error {
        let request = RequestContext::Partition("t".into(), 3);
        Error::ServerError { protocol_error, error_message: None, request, response: None, is_virtual: false }
    }

    fn retried(last: Error) -> Error {
        Error::RetryFailed(BackoffError::DeadlineExceded { deadline: Duration::ZERO, source: Box::new(last) })
    }

    fn closed() -> Error {
        Error::Request(RequestError::IO(io::ErrorKind::ConnectionReset.into()))
    }

    #[test]
    fn what_may_have_arrived_is_uncertain() {
        let fate = |error: &Error, once: bool| Verdict::of(error, once, ("t", 3)).fate;
        let (broker, lost) = (Field::ErrorBroker, Field::ErrorClosed);
        for once in [true, false] {
            assert_eq!(fate(&answer(ProtocolError::MessageTooLarge), once), Fate::Failed(broker));
            assert_eq!(fate(&answer(ProtocolError::RequestTimedOut), once), Fate::Uncertain(Field::ErrorTimeout));
            let too_few = answer(ProtocolError::NotEnoughReplicasAfterAppend);
            assert_eq!(fate(&too_few, once), Fate::Uncertain(Field::ErrorTimeout));
            assert_eq!(fate(&answer(ProtocolError::UnknownServerError), once), Fate::Uncertain(broker));
            assert_eq!(fate(&closed(), once), Fate::Uncertain(lost));
            assert_eq!(fate(&retried(closed()), once), Fate::Uncertain(lost));
            assert_eq!(fate(&Error::InvalidResponse("?".into()), once), Fate::Uncertain(Field::ErrorProtocol));
        }
        let moved = || retried(answer(ProtocolError::NotLeaderOrFollower));
        assert_eq!(fate(&moved(), true), Fate::Failed(broker));
        assert_eq!(fate(&moved(), false), Fate::Uncertain(broker));
    }

    #[test]
    fn only_what_cannot_get_better_ends_the_run() {
        let end = |error: ProtocolError| Verdict::of(&answer(error), false, ("t", 3)).end;
        assert_eq!(end(ProtocolError::NotLeaderOrFollower), None);
        assert_eq!(end(ProtocolError::NotEnoughReplicas), None);
        let said = end(ProtocolError::MessageTooLarge).unwrap();
        assert!(said.starts_with("t/3: the broker answered MESSAGE_TOO_LARGE (10)\n  mend: "), "{said}");
        assert!(end(ProtocolError::TopicAuthorizationFailed).unwrap().contains("TOPIC_AUTHORIZATION_FAILED (29)"));
    }
}
