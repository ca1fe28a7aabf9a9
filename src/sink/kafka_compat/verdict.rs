//! What a call that rskafka gave up says of the batch's fate.
//!
//! It tells of the last attempt alone. There may have been others before, even where it was not to try again: what a
//! broker answers together with a throttle time, be it success, rskafka drops, and sends the batch once more.

use crate::base::fatal::{Exit, Fatal};
use crate::counters::Field;
use crate::sink::Fate;
use crate::wire::kafka::errors::{ErrorKind, PERHAPS_APPENDED, UNFORESEEN, broker_error};
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

    /// `place`: topic and partition.
    pub fn of(error: &Error, place: (&str, i32)) -> Self {
        match error {
            Error::ServerError { protocol_error, .. } => Self::of_answer(code_of(*protocol_error), place),
            Error::RetryFailed(BackoffError::DeadlineExceded { source, .. }) => match source.downcast_ref::<Error>() {
                Some(last) => Self::of(last, place),
                None => Self::LATE,
            },
            Error::Connection(_) | Error::Request(RequestError::IO(_) | RequestError::Poisoned(_)) => {
                Self::uncertain(Field::ErrorClosed)
            }
            Error::Timeout => Self::LATE,
            _ => Self::uncertain(Field::ErrorProtocol),
        }
    }

    /// As the native client takes it: what is refused once will be refused again. Where that depends on the moment, it
    /// may have been otherwise before.
    fn of_answer(code: i16, (topic, partition): (&str, i32)) -> Self {
        if PERHAPS_APPENDED.contains(&code) {
            return Self::LATE;
        }
        let error = broker_error(code);
        let end = Fatal::new(Exit::Failed, format!("{topic}/{partition}: the broker answered {error}"));
        let end = error.remedy().into_iter().fold(end, Fatal::mend).to_string();
        let is_of_the_moment = error.kind.is_retriable() || error.kind == ErrorKind::Denied || code == UNFORESEEN;
        let fate = match is_of_the_moment {
            true => Fate::Uncertain(Field::ErrorBroker),
            false => Fate::Failed(Field::ErrorBroker),
        };
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
        let fate = |error: &Error| Verdict::of(error, ("t", 3)).fate;
        let (broker, lost) = (Field::ErrorBroker, Field::ErrorClosed);
        assert_eq!(fate(&answer(ProtocolError::MessageTooLarge)), Fate::Failed(broker));
        assert_eq!(fate(&answer(ProtocolError::RequestTimedOut)), Fate::Uncertain(Field::ErrorTimeout));
        let too_few = answer(ProtocolError::NotEnoughReplicasAfterAppend);
        assert_eq!(fate(&too_few), Fate::Uncertain(Field::ErrorTimeout));
        assert_eq!(fate(&answer(ProtocolError::UnknownServerError)), Fate::Uncertain(broker));
        // An earlier attempt may have been taken: one that rskafka was told to try again, or that was throttled.
        let of_the_moment = [
            ProtocolError::NotEnoughReplicas,
            ProtocolError::NotLeaderOrFollower,
            ProtocolError::KafkaStorageError,
            ProtocolError::TopicAuthorizationFailed,
        ];
        for error in of_the_moment {
            assert_eq!(fate(&answer(error)), Fate::Uncertain(broker), "{error}");
            assert_eq!(fate(&retried(answer(error))), Fate::Uncertain(broker), "{error}");
        }
        assert_eq!(fate(&closed()), Fate::Uncertain(lost));
        assert_eq!(fate(&retried(closed())), Fate::Uncertain(lost));
        assert_eq!(fate(&Error::InvalidResponse("?".into())), Fate::Uncertain(Field::ErrorProtocol));
    }

    #[test]
    fn only_what_cannot_get_better_ends_the_run() {
        let end = |error: ProtocolError| Verdict::of(&answer(error), ("t", 3)).end;
        assert_eq!(end(ProtocolError::NotLeaderOrFollower), None);
        assert_eq!(end(ProtocolError::NotEnoughReplicas), None);
        let said = end(ProtocolError::MessageTooLarge).unwrap();
        assert!(said.starts_with("t/3: the broker answered MESSAGE_TOO_LARGE (10)\n  mend: "), "{said}");
        assert!(end(ProtocolError::TopicAuthorizationFailed).unwrap().contains("TOPIC_AUTHORIZATION_FAILED (29)"));
    }
}
