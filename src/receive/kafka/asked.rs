//! The bodies of the requests that are not Produce, read from bytes that anyone may have sent: what is allocated grows
//! with the bytes that are there, not with the counts that they claim.
//!
//! Source: <https://kafka.apache.org/protocol.html>.

use crate::base::limits;
use crate::wire::kafka::fields::{Fields, Malformed};

type Read<T> = Result<T, Malformed>;

fn text(fields: &mut Fields<'_>, field: &'static str) -> Read<String> {
    fields.text(field).map(str::to_owned)
}

/// Elements of an array, after their count.
fn each<T>(count: u32, mut read: impl FnMut() -> Read<T>) -> Read<Vec<T>> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(read()?);
    }
    Ok(all)
}

/// A length of the compact formats, which is one more than it says; `None`: null.
fn compact(fields: &mut Fields<'_>, field: &'static str) -> Read<Option<u32>> {
    fields.unsigned_varint(field).map(|value| value.checked_sub(1))
}

/// Names in a Metadata request, versions 0 to 12. `None` stands for all topics, in the list for one named by its id.
pub fn metadata(mut fields: Fields<'_>, version: i16) -> Read<Option<Vec<Option<String>>>> {
    let fields = &mut fields;
    if version < 9 {
        let count = fields.nullable_count("number of topics")?;
        let all = count.is_none() || (version == 0 && count == Some(0));
        let names = each(count.unwrap_or(0), || text(fields, "topic").map(Some))?;
        return Ok((!all).then_some(names));
    }
    // The end of the request's header.
    fields.skip_tags()?;
    let Some(count) = compact(fields, "number of topics")? else { return Ok(None) };
    let names = each(count, || {
        if version >= 10 {
            fields.take("topic id", 16)?;
        }
        let name = match compact(fields, "length of a topic's name")? {
            Some(length) => Some(fields.text_of("topic", length as usize)?.to_owned()),
            None => None,
        };
        fields.skip_tags()?;
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
        let keys = match fields.nullable_count("number of settings")? {
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
