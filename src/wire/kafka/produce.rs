//! A Produce request up to its records: one topic, one partition, so that the records are the rest of the request.

use super::{PRODUCE_API_KEY, PRODUCE_VERSION_MAX, PRODUCE_VERSION_MIN};
use crate::base::fatal::Fatal;
use crate::base::limits::{KAFKA_CLIENT_ID_BYTES_MAX, KAFKA_TOPIC_BYTES_MAX};

/// The request as it is before the records, but for the four fields that change from send to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePrefix {
    template: Vec<u8>,
}

const VERSION_AT: usize = 6;
const CORRELATION_AT: usize = 8;
/// From the end: the partition and the length of its records.
const PARTITION_FROM_END: usize = 8;
const RECORDS_FROM_END: usize = 4;
/// Bytes that a request's own length does not count.
const SIZE_BYTES: usize = 4;

impl ProducePrefix {
    /// `acks` is 0, 1 or -1 for all; the version is the newest with records at the end.
    pub fn new(client_id: &str, topic: &str, acks: i16, timeout_ms: i32) -> Result<Self, Fatal> {
        if topic.is_empty() || topic.len() > KAFKA_TOPIC_BYTES_MAX {
            let what = format!("the topic '{topic}' has {} bytes, not 1 to {KAFKA_TOPIC_BYTES_MAX}", topic.len());
            return Err(Fatal::usage(what).mend("--target kafka://HOST:PORT/TOPIC with a topic of a legal length"));
        }
        if client_id.len() > KAFKA_CLIENT_ID_BYTES_MAX {
            let what =
                format!("the client id has {} bytes, at most {KAFKA_CLIENT_ID_BYTES_MAX} can be", client_id.len());
            return Err(Fatal::usage(what).mend("--kafka-property client.id=NAME with a shorter name"));
        }
        let mut template = vec![0; SIZE_BYTES];
        template.extend(PRODUCE_API_KEY.to_be_bytes());
        template.extend(PRODUCE_VERSION_MAX.to_be_bytes());
        template.extend(0_i32.to_be_bytes());
        put_string(&mut template, client_id);
        // No transaction.
        template.extend((-1_i16).to_be_bytes());
        template.extend(acks.to_be_bytes());
        template.extend(timeout_ms.to_be_bytes());
        template.extend(1_i32.to_be_bytes());
        put_string(&mut template, topic);
        template.extend(1_i32.to_be_bytes());
        template.extend([0; PARTITION_FROM_END]);
        Ok(Self { template })
    }

    /// For a broker that speaks an older version; outside of 3 to 8 there is none.
    pub fn with_version(mut self, version: i16) -> Result<Self, Fatal> {
        if !(PRODUCE_VERSION_MIN..=PRODUCE_VERSION_MAX).contains(&version) {
            let range = format!("{PRODUCE_VERSION_MIN} to {PRODUCE_VERSION_MAX}");
            let what = format!("version {version} of Kafka's Produce request is not spoken, only {range}");
            return Err(Fatal::usage(what).mend("--kafka-client rskafka, or a broker of 0.11 or later"));
        }
        self.template[VERSION_AT..CORRELATION_AT].copy_from_slice(&version.to_be_bytes());
        Ok(self)
    }

    /// Bytes before the batch.
    pub fn bytes(&self) -> usize {
        self.template.len()
    }

    /// Writes the prefix of a batch of `batch_bytes`, its head included, at the start of `out`.
    #[inline]
    pub fn write(&self, out: &mut [u8], correlation_id: i32, partition: i32, batch_bytes: u32) {
        let bytes = self.bytes();
        let out = &mut out[..bytes];
        out.copy_from_slice(&self.template);
        let size = (bytes - SIZE_BYTES) as u32 + batch_bytes;
        out[..SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
        out[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&correlation_id.to_be_bytes());
        out[bytes - PARTITION_FROM_END..bytes - RECORDS_FROM_END].copy_from_slice(&partition.to_be_bytes());
        out[bytes - RECORDS_FROM_END..].copy_from_slice(&batch_bytes.to_be_bytes());
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).expect("lengths were checked");
    out.extend(length.to_be_bytes());
    out.extend(text.as_bytes());
}
