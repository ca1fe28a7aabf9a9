//! The broker's error codes: what a producer does about each, and what a user can.
//!
//! Source: <https://kafka.apache.org/protocol.html#protocol_error_codes>, up to Kafka 4.1.

use std::fmt;

/// What a producer does after an answer with that code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    Success,
    /// Send the same batch again, to the same broker.
    Retriable,
    /// Ask who leads the partition, then send the same batch there.
    RefreshMetadata,
    /// The broker has this batch already: it counts as written.
    DuplicateSequence,
    /// The broker misses batches before this one, or forgot the producer.
    SequenceLost,
    /// A newer producer has taken this one's id.
    Fenced,
    /// The batch is larger than the topic takes.
    TooLarge,
    /// The user may not do that.
    Denied,
    /// Sending again cannot help.
    Fatal,
}

use ErrorKind::{
    Denied, DuplicateSequence, Fatal, Fenced, RefreshMetadata, Retriable, SequenceLost, Success, TooLarge,
};

impl ErrorKind {
    /// The same batch may be sent again.
    pub const fn is_retriable(self) -> bool {
        matches!(self, Retriable | RefreshMetadata)
    }
}

macro_rules! codes {
    ($($name:ident = $code:literal;)*) => {
        $(pub const $name: i16 = $code;)*
        #[cfg(test)]
        const NAMED: &[(&str, i16)] = &[$((stringify!($name), $code)),*];
    };
}

// Those that the engine looks for or sends, by the names of their rows.
codes! {
    UNKNOWN_SERVER_ERROR = -1;
    OFFSET_OUT_OF_RANGE = 1;
    CORRUPT_MESSAGE = 2;
    UNKNOWN_TOPIC_OR_PARTITION = 3;
    LEADER_NOT_AVAILABLE = 5;
    REQUEST_TIMED_OUT = 7;
    INVALID_TOPIC_EXCEPTION = 17;
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20;
    INVALID_REQUIRED_ACKS = 21;
    TOPIC_AUTHORIZATION_FAILED = 29;
    ILLEGAL_SASL_STATE = 34;
    UNSUPPORTED_VERSION = 35;
    TOPIC_ALREADY_EXISTS = 36;
    INVALID_PARTITIONS = 37;
    INVALID_REPLICATION_FACTOR = 38;
    INVALID_REQUEST = 42;
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43;
    POLICY_VIOLATION = 44;
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45;
    INVALID_PRODUCER_EPOCH = 47;
    INVALID_RECORD = 87;
    UNKNOWN_TOPIC_ID = 100;
}

/// Codes after which the leader may have the batch all the same: it timed out, or has too few replicas after all.
pub const PERHAPS_APPENDED: [i16; 2] = [REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS_AFTER_APPEND];
/// Something failed that nobody foresaw, before the append or behind it.
pub const UNFORESEEN: i16 = UNKNOWN_SERVER_ERROR;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerError {
    pub code: i16,
    /// As Kafka's documentation spells it; `UNKNOWN` where a newer broker sends a code that is not in it.
    pub name: &'static str,
    pub kind: ErrorKind,
}

/// The row of a code.
pub fn broker_error(code: i16) -> BrokerError {
    let known = usize::try_from(i32::from(code) + 1).ok().and_then(|at| TABLE.get(at));
    known.copied().unwrap_or(row(code, "UNKNOWN", Fatal))
}

/// `NOT_LEADER_OR_FOLLOWER (6)`.
impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.code)
    }
}

impl BrokerError {
    /// What the user can do, for the codes that a producer meets.
    pub const fn remedy(&self) -> Option<&'static str> {
        Some(match self.code {
            2 => "look for a broken network card, proxy or memory: the broker saw another CRC than was sent",
            3 => "--create-topic on, or make the topic first: kafka-topics.sh --create",
            5 | 6 => "wait until the partition has a leader; kafka-topics.sh --describe shows it",
            7 => "a longer --request-timeout, or fewer bytes in flight: the replicas did not confirm in time",
            10 => {
                "a smaller --batch-size, or a larger max.message.bytes of the topic (message.max.bytes of the broker)"
            }
            17 => "a topic name of letters, digits, '.', '_' and '-', and not one of Kafka's internal topics",
            18 => "a smaller --batch-size, or a larger log segment size (segment.bytes) of the topic",
            19 | 20 => "start the missing replicas, lower the topic's min.insync.replicas, or --acks 1",
            21 => "--acks 0, 1 or all",
            29 => "allow it: kafka-acls.sh --add --allow-principal User:NAME --operation Write --topic TOPIC",
            31 => {
                "--idempotent off, or allow it: kafka-acls.sh --add --allow-principal User:NAME --operation Write \
                 --topic TOPIC (before Kafka 2.8: --operation IdempotentWrite --cluster)"
            }
            32 => "set this host's clock, or raise the topic's message.timestamp.before.max.ms and .after.max.ms",
            33 => "--sasl-mechanism with one that the broker's sasl.enabled.mechanisms names",
            34 => "--sasl-mechanism, or a listener of the broker that wants no SASL",
            35 => "a broker of 0.11 or later, or --kafka-client rskafka",
            37 => "fewer --partitions, or make the topic first, then --create-topic off",
            38 => {
                "make the topic first, with no more replicas than there are brokers: kafka-topics.sh --create \
                 --replication-factor N; then --create-topic off"
            }
            41 => "wait until the cluster has elected a controller",
            42 => "--partitions and --kafka-property as the cluster's policy allows; the broker's log says which field",
            43 => "a topic of message format 2: --idempotent off does without it",
            44 => "a topic as the cluster's policy allows: make it first, then --create-topic off",
            45 | 59 => {
                "a new run: batches were lost, or the broker forgot the producer (transactional.id.expiration.ms)"
            }
            47 | 90 => "a new run: another producer got this one's id",
            56 => "look at the broker's disks: its log says which one failed or is full",
            58 => "--sasl-user and --sasl-password-file with what the broker knows",
            76 => "another --compression: the broker or the topic's format does not know this one",
            87 => "--key producer for a compacted topic, or another topic: the broker refuses these records",
            89 => "a lower --rate, or a larger quota of this client",
            _ => return None,
        })
    }
}

const fn row(code: i16, name: &'static str, kind: ErrorKind) -> BrokerError {
    BrokerError { code, name, kind }
}

/// By code, from -1.
const TABLE: &[BrokerError] = &[
    row(-1, "UNKNOWN_SERVER_ERROR", Fatal),
    row(0, "NONE", Success),
    row(1, "OFFSET_OUT_OF_RANGE", Fatal),
    row(2, "CORRUPT_MESSAGE", Retriable),
    row(3, "UNKNOWN_TOPIC_OR_PARTITION", RefreshMetadata),
    row(4, "INVALID_FETCH_SIZE", Fatal),
    row(5, "LEADER_NOT_AVAILABLE", RefreshMetadata),
    row(6, "NOT_LEADER_OR_FOLLOWER", RefreshMetadata),
    row(7, "REQUEST_TIMED_OUT", Retriable),
    row(8, "BROKER_NOT_AVAILABLE", Fatal),
    row(9, "REPLICA_NOT_AVAILABLE", RefreshMetadata),
    row(10, "MESSAGE_TOO_LARGE", TooLarge),
    row(11, "STALE_CONTROLLER_EPOCH", Fatal),
    row(12, "OFFSET_METADATA_TOO_LARGE", Fatal),
    row(13, "NETWORK_EXCEPTION", RefreshMetadata),
    row(14, "COORDINATOR_LOAD_IN_PROGRESS", Retriable),
    row(15, "COORDINATOR_NOT_AVAILABLE", Retriable),
    row(16, "NOT_COORDINATOR", Retriable),
    row(17, "INVALID_TOPIC_EXCEPTION", Fatal),
    row(18, "RECORD_LIST_TOO_LARGE", TooLarge),
    row(19, "NOT_ENOUGH_REPLICAS", Retriable),
    row(20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", Retriable),
    row(21, "INVALID_REQUIRED_ACKS", Fatal),
    row(22, "ILLEGAL_GENERATION", Fatal),
    row(23, "INCONSISTENT_GROUP_PROTOCOL", Fatal),
    row(24, "INVALID_GROUP_ID", Fatal),
    row(25, "UNKNOWN_MEMBER_ID", Fatal),
    row(26, "INVALID_SESSION_TIMEOUT", Fatal),
    row(27, "REBALANCE_IN_PROGRESS", Fatal),
    row(28, "INVALID_COMMIT_OFFSET_SIZE", Fatal),
    row(29, "TOPIC_AUTHORIZATION_FAILED", Denied),
    row(30, "GROUP_AUTHORIZATION_FAILED", Denied),
    row(31, "CLUSTER_AUTHORIZATION_FAILED", Denied),
    row(32, "INVALID_TIMESTAMP", Fatal),
    row(33, "UNSUPPORTED_SASL_MECHANISM", Fatal),
    row(34, "ILLEGAL_SASL_STATE", Fatal),
    row(35, "UNSUPPORTED_VERSION", Fatal),
    row(36, "TOPIC_ALREADY_EXISTS", Fatal),
    row(37, "INVALID_PARTITIONS", Fatal),
    row(38, "INVALID_REPLICATION_FACTOR", Fatal),
    row(39, "INVALID_REPLICA_ASSIGNMENT", Fatal),
    row(40, "INVALID_CONFIG", Fatal),
    row(41, "NOT_CONTROLLER", Retriable),
    row(42, "INVALID_REQUEST", Fatal),
    row(43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", Fatal),
    row(44, "POLICY_VIOLATION", Fatal),
    row(45, "OUT_OF_ORDER_SEQUENCE_NUMBER", SequenceLost),
    row(46, "DUPLICATE_SEQUENCE_NUMBER", DuplicateSequence),
    row(47, "INVALID_PRODUCER_EPOCH", Fenced),
    row(48, "INVALID_TXN_STATE", Fatal),
    row(49, "INVALID_PRODUCER_ID_MAPPING", Fatal),
    row(50, "INVALID_TRANSACTION_TIMEOUT", Fatal),
    row(51, "CONCURRENT_TRANSACTIONS", Retriable),
    row(52, "TRANSACTION_COORDINATOR_FENCED", Fatal),
    row(53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", Denied),
    row(54, "SECURITY_DISABLED", Fatal),
    row(55, "OPERATION_NOT_ATTEMPTED", Fatal),
    row(56, "KAFKA_STORAGE_ERROR", RefreshMetadata),
    row(57, "LOG_DIR_NOT_FOUND", Fatal),
    row(58, "SASL_AUTHENTICATION_FAILED", Denied),
    row(59, "UNKNOWN_PRODUCER_ID", SequenceLost),
    row(60, "REASSIGNMENT_IN_PROGRESS", Fatal),
    row(61, "DELEGATION_TOKEN_AUTH_DISABLED", Fatal),
    row(62, "DELEGATION_TOKEN_NOT_FOUND", Fatal),
    row(63, "DELEGATION_TOKEN_OWNER_MISMATCH", Fatal),
    row(64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", Fatal),
    row(65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", Denied),
    row(66, "DELEGATION_TOKEN_EXPIRED", Fatal),
    row(67, "INVALID_PRINCIPAL_TYPE", Fatal),
    row(68, "NON_EMPTY_GROUP", Fatal),
    row(69, "GROUP_ID_NOT_FOUND", Fatal),
    row(70, "FETCH_SESSION_ID_NOT_FOUND", Retriable),
    row(71, "INVALID_FETCH_SESSION_EPOCH", Retriable),
    row(72, "LISTENER_NOT_FOUND", RefreshMetadata),
    row(73, "TOPIC_DELETION_DISABLED", Fatal),
    row(74, "FENCED_LEADER_EPOCH", RefreshMetadata),
    row(75, "UNKNOWN_LEADER_EPOCH", RefreshMetadata),
    row(76, "UNSUPPORTED_COMPRESSION_TYPE", Fatal),
    row(77, "STALE_BROKER_EPOCH", Fatal),
    row(78, "OFFSET_NOT_AVAILABLE", Retriable),
    row(79, "MEMBER_ID_REQUIRED", Fatal),
    row(80, "PREFERRED_LEADER_NOT_AVAILABLE", RefreshMetadata),
    row(81, "GROUP_MAX_SIZE_REACHED", Fatal),
    row(82, "FENCED_INSTANCE_ID", Fatal),
    row(83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", RefreshMetadata),
    row(84, "ELECTION_NOT_NEEDED", Retriable),
    row(85, "NO_REASSIGNMENT_IN_PROGRESS", Fatal),
    row(86, "GROUP_SUBSCRIBED_TO_TOPIC", Fatal),
    row(87, "INVALID_RECORD", Fatal),
    row(88, "UNSTABLE_OFFSET_COMMIT", Retriable),
    row(89, "THROTTLING_QUOTA_EXCEEDED", Retriable),
    row(90, "PRODUCER_FENCED", Fenced),
    row(91, "RESOURCE_NOT_FOUND", Fatal),
    row(92, "DUPLICATE_RESOURCE", Fatal),
    row(93, "UNACCEPTABLE_CREDENTIAL", Fatal),
    row(94, "INCONSISTENT_VOTER_SET", Fatal),
    row(95, "INVALID_UPDATE_VERSION", Fatal),
    row(96, "FEATURE_UPDATE_FAILED", Fatal),
    row(97, "PRINCIPAL_DESERIALIZATION_FAILURE", Fatal),
    row(98, "SNAPSHOT_NOT_FOUND", Fatal),
    row(99, "POSITION_OUT_OF_RANGE", Fatal),
    row(100, "UNKNOWN_TOPIC_ID", RefreshMetadata),
    row(101, "DUPLICATE_BROKER_REGISTRATION", Fatal),
    row(102, "BROKER_ID_NOT_REGISTERED", Fatal),
    row(103, "INCONSISTENT_TOPIC_ID", RefreshMetadata),
    row(104, "INCONSISTENT_CLUSTER_ID", Fatal),
    row(105, "TRANSACTIONAL_ID_NOT_FOUND", Fatal),
    row(106, "FETCH_SESSION_TOPIC_ID_ERROR", Retriable),
    row(107, "INELIGIBLE_REPLICA", Fatal),
    row(108, "NEW_LEADER_ELECTED", Fatal),
    row(109, "OFFSET_MOVED_TO_TIERED_STORAGE", Fatal),
    row(110, "FENCED_MEMBER_EPOCH", Fatal),
    row(111, "UNRELEASED_INSTANCE_ID", Fatal),
    row(112, "UNSUPPORTED_ASSIGNOR", Fatal),
    row(113, "STALE_MEMBER_EPOCH", Fatal),
    row(114, "MISMATCHED_ENDPOINT_TYPE", Fatal),
    row(115, "UNSUPPORTED_ENDPOINT_TYPE", Fatal),
    row(116, "UNKNOWN_CONTROLLER_ID", Fatal),
    row(117, "UNKNOWN_SUBSCRIPTION_ID", Fatal),
    row(118, "TELEMETRY_TOO_LARGE", Fatal),
    row(119, "INVALID_REGISTRATION", Fatal),
    row(120, "TRANSACTION_ABORTABLE", Fatal),
    row(121, "INVALID_RECORD_STATE", Fatal),
    row(122, "SHARE_SESSION_NOT_FOUND", Retriable),
    row(123, "INVALID_SHARE_SESSION_EPOCH", Retriable),
    row(124, "FENCED_STATE_EPOCH", Fatal),
    row(125, "INVALID_VOTER_KEY", Fatal),
    row(126, "DUPLICATE_VOTER", Fatal),
    row(127, "VOTER_NOT_FOUND", Fatal),
    row(128, "INVALID_REGULAR_EXPRESSION", Fatal),
    row(129, "REBOOTSTRAP_REQUIRED", Fatal),
    row(130, "STREAMS_INVALID_TOPOLOGY", Fatal),
    row(131, "STREAMS_INVALID_TOPOLOGY_EPOCH", Fatal),
    row(132, "STREAMS_TOPOLOGY_FENCED", Fatal),
    row(133, "SHARE_SESSION_LIMIT_REACHED", Retriable),
];

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::ResponseError;

    #[test]
    fn every_code_has_its_row() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.code, at as i16 - 1);
            assert_eq!(broker_error(row.code), *row);
        }
        for code in [i16::MIN, -2, TABLE.len() as i16, i16::MAX] {
            assert_eq!(broker_error(code), row(code, "UNKNOWN", Fatal));
        }
        assert_eq!((broker_error(0).name, broker_error(0).kind), ("NONE", Success));
        assert_eq!(broker_error(6).to_string(), "NOT_LEADER_OR_FOLLOWER (6)");
        assert_eq!(broker_error(999).to_string(), "UNKNOWN (999)");
    }

    #[test]
    fn constants_are_the_codes_of_their_rows() {
        for (name, code) in NAMED {
            assert_eq!(broker_error(*code).name, *name);
        }
    }

    /// What the Java client does again. It knows 51 from `InitProducerId`, where waiting helps.
    #[test]
    fn names_and_retries_are_those_of_the_protocol() {
        for row in TABLE.iter().filter(|row| row.code != 0) {
            let Some(theirs) = ResponseError::try_from_code(row.code) else { panic!("{row:?} is not in the protocol") };
            let name: String = row.name.split('_').flat_map(|word| [&word[..1], &word[1..]]).collect();
            assert_eq!(format!("{theirs:?}").to_uppercase(), name);
            assert_eq!(row.kind.is_retriable(), theirs.is_retriable() || row.code == 51, "{row:?}");
        }
    }

    #[test]
    fn what_a_producer_meets_has_a_remedy() {
        for code in [2, 3, 5, 6, 7, 10, 17, 18, 19, 20, 21, 29, 31, 32, 35, 37, 38, 45, 47, 56, 58, 59, 76, 87, 89] {
            assert!(broker_error(code).remedy().is_some(), "{:?}", broker_error(code));
        }
        assert_eq!(broker_error(0).remedy(), None);
        // Each of them with a flag that there is.
        for (code, flag) in [(31, "--idempotent off"), (37, "--partitions"), (38, "--create-topic off")] {
            assert!(broker_error(code).remedy().is_some_and(|remedy| remedy.contains(flag)), "{code}");
        }
        assert!(!broker_error(38).remedy().unwrap().contains("--partitions"));
    }
}
