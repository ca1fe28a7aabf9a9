//! The bodies of the requests that are not Produce, read from bytes that anyone may have sent: what is allocated grows
//! with the bytes that are there, not with the counts that they claim.
//!
//! Source: <https://kafka.apache.org/protocol.html>.

use crate::base::limits;
use crate::wire::kafka::fields::{Fields, Malformed};

type Read<T> = Result<T, Malformed>;

/// A string that has to be text.
fn text(fields: &mut Fields<'_>, field: &'static str) -> Read<String> {
    utf8(fields.string(field)?, field)
}

fn utf8(bytes: &[u8], field: &'static str) -> Read<String> {
    let bad = |_| Malformed::Value { field, value: -1 };
    std::str::from_utf8(bytes).map(str::to_owned).map_err(bad)
}

/// Elements of an array, after their count.
fn each<T>(count: u32, mut read: impl FnMut() -> Read<T>) -> Read<Vec<T>> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(read()?);
    }
    Ok(all)
}

/// The count of an array that may be null.
fn nullable_count(fields: &mut Fields<'_>, field: &'static str) -> Read<Option<u32>> {
    let value = fields.i32(field)?;
    if value == -1 { Ok(None) } else { u32::try_from(value).map(Some).map_err(|_| bad(field, value)) }
}

fn bad(field: &'static str, value: i32) -> Malformed {
    Malformed::Value { field, value: i64::from(value) }
}

/// A length of the compact formats, which is one more than it says; `None`: null.
fn compact(fields: &mut Fields<'_>, field: &'static str) -> Read<Option<u32>> {
    unsigned(fields, field).map(|value| value.checked_sub(1))
}

fn unsigned(fields: &mut Fields<'_>, field: &'static str) -> Read<u32> {
    let mut value = 0_u64;
    for at in 0..5 {
        let byte = fields.i8(field)? as u8;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return u32::try_from(value).map_err(|_| bad(field, -1));
        }
    }
    Err(bad(field, -1))
}

fn tags(fields: &mut Fields<'_>) -> Read<()> {
    for _ in 0..unsigned(fields, "number of tags")? {
        unsigned(fields, "tag")?;
        let size = unsigned(fields, "size of a tag")?;
        fields.take("tag", size as usize)?;
    }
    Ok(())
}

/// Names in a Metadata request, versions 0 to 12. `None` stands for all topics, in the list for one named by its id.
pub fn metadata(mut fields: Fields<'_>, version: i16) -> Read<Option<Vec<Option<String>>>> {
    let fields = &mut fields;
    if version < 9 {
        let count = nullable_count(fields, "number of topics")?;
        let all = count.is_none() || (version == 0 && count == Some(0));
        let names = each(count.unwrap_or(0), || text(fields, "topic").map(Some))?;
        return Ok((!all).then_some(names));
    }
    // The end of the request's header.
    tags(fields)?;
    let Some(count) = compact(fields, "number of topics")? else { return Ok(None) };
    let names = each(count, || {
        if version >= 10 {
            fields.take("topic id", 16)?;
        }
        let name = match compact(fields, "length of a topic's name")? {
            Some(length) => Some(utf8(fields.take("topic", length as usize)?, "topic")?),
            None => None,
        };
        tags(fields)?;
        Ok(name)
    })?;
    Ok(Some(names))
}

/// Partitions of a topic, each with something.
pub struct OfTopic<T> {
    pub topic: String,
    pub partitions: Vec<(i32, T)>,
}

fn of_topics<'a, T>(
    fields: &mut Fields<'a>,
    mut read: impl FnMut(&mut Fields<'a>) -> Read<T>,
) -> Read<Vec<OfTopic<T>>> {
    let count = fields.count("number of topics")?;
    each(count, || {
        let topic = text(fields, "topic")?;
        let count = fields.count("number of partitions")?;
        let partitions = each(count, || Ok((fields.i32("partition")?, read(fields)?)))?;
        Ok(OfTopic { topic, partitions })
    })
}

/// The timestamps of a ListOffsets request, versions 1 to 5.
pub fn list_offsets(mut fields: Fields<'_>, version: i16) -> Read<Vec<OfTopic<i64>>> {
    fields.i32("replica")?;
    if version >= 2 {
        fields.i8("isolation level")?;
    }
    of_topics(&mut fields, |fields| {
        if version >= 4 {
            fields.i32("leader epoch")?;
        }
        fields.i64("timestamp")
    })
}

/// The wait in milliseconds and the offsets of a Fetch request, versions 4 to 11.
pub fn fetch(mut fields: Fields<'_>, version: i16) -> Read<(i32, Vec<OfTopic<i64>>)> {
    fields.i32("replica")?;
    let wait_ms = fields.i32("wait")?;
    fields.take("sizes and isolation level", 9)?;
    if version >= 7 {
        fields.take("session", 8)?;
    }
    let topics = of_topics(&mut fields, |fields| {
        if version >= 9 {
            fields.i32("leader epoch")?;
        }
        let offset = fields.i64("offset")?;
        if version >= 5 {
            fields.i64("log start offset")?;
        }
        fields.i32("partition's size")?;
        Ok(offset)
    })?;
    Ok((wait_ms, topics))
}

/// A topic that is to be made.
#[derive(Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// -1: as the broker likes.
    pub partitions: i32,
    pub replicas: i16,
}

/// The topics of a CreateTopics request, versions 2 to 4, and whether to make them.
pub fn create_topics(mut fields: Fields<'_>) -> Read<(Vec<NewTopic>, bool)> {
    let fields = &mut fields;
    let count = fields.count("number of topics")?;
    let topics = each(count, || {
        let name = text(fields, "topic")?;
        let (mut partitions, mut replicas) = (fields.i32("partitions")?, fields.i16("replicas")?);
        let assigned = fields.count("number of assignments")?;
        for _ in 0..assigned {
            fields.i32("partition")?;
            let brokers = fields.count("number of replicas")?;
            fields.take("replicas", brokers as usize * 4)?;
            replicas = i16::try_from(brokers).unwrap_or(i16::MAX);
        }
        if assigned > 0 {
            partitions = i32::try_from(assigned).unwrap_or(i32::MAX);
        }
        for _ in 0..fields.count("number of settings")? {
            fields.string("setting")?;
            fields.nullable_string("value of a setting")?;
        }
        Ok(NewTopic { name, partitions, replicas })
    })?;
    fields.i32("timeout")?;
    Ok((topics, fields.i8("validate only")? == 0))
}

/// A topic or broker, and which of its settings are asked for; `None`: all.
pub struct Resource {
    pub kind: i8,
    pub name: String,
    pub keys: Option<Vec<String>>,
}

/// The resources of a DescribeConfigs request, versions 1 to 3.
pub fn describe_configs(mut fields: Fields<'_>) -> Read<Vec<Resource>> {
    let fields = &mut fields;
    let count = fields.count("number of resources")?;
    // Each has many settings to be told.
    if count as usize > limits::RECEIVE_TOPICS_MAX {
        return Err(Malformed::Value { field: "number of resources", value: i64::from(count) });
    }
    each(count, || {
        let (kind, name) = (fields.i8("resource type")?, text(fields, "resource")?);
        let keys = match nullable_count(fields, "number of settings")? {
            Some(count) => Some(each(count, || text(fields, "setting"))?),
            None => None,
        };
        Ok(Resource { kind, name, keys })
    })
}

/// Whether an InitProducerId request, version 0 or 1, is for transactions.
pub fn is_transactional(mut fields: Fields<'_>) -> Read<bool> {
    Ok(fields.nullable_string("transactional id")?.is_some())
}
