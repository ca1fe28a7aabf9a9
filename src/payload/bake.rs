//! Before the barrier: where each record of a ring lies, and its constant bytes.

use super::framing::Framing;
use super::random::{Calibration, Head};
use super::stamper::{HeadBake, Stamper};
use super::template::{Facts, Template};
use super::{Payload, Starts, random, sign};
use crate::base::fatal::Fatal;
use crate::manifest::RecordFormat;
use crate::plan::{Annotate, PayloadPlan, PayloadSource};
use crate::record::{HEADER_BYTES, Header, STAMP_END};
use crate::wire::crc32c;

/// What a producer's records say of it.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    pub run_id: &'a str,
    pub run_id_hash: u64,
    pub producer_id: u32,
}

/// Finds the share of zeros that makes records as compressible as wanted; `None` for templates.
pub fn calibration(plan: &PayloadPlan) -> Option<Calibration> {
    let PayloadSource::Random { compressibility } = plan.source else { return None };
    let head = match (plan.annotate, plan.sign_key) {
        (Annotate::Off | Annotate::Headers, _) => Head::None,
        (Annotate::Payload, None) => Head::Plain,
        (Annotate::Payload, Some(_)) => Head::Signed,
    };
    Some(random::calibrate(plan.seed, plan.record_bytes_min, plan.record_bytes_max, head, compressibility))
}

/// The records of one ring before they have an address.
pub struct Draft {
    starts: Starts,
    framing: Framing,
    templates: Vec<Template>,
    /// Records start with the 64-byte header.
    headed: bool,
    zero_fraction: f64,
}

impl Draft {
    /// Lays out at most `ring_bytes` of records, but at least one (of templates: one of each). A fixed size
    /// fills a whole number of `block_bytes` where it can.
    /// `zero_fraction` is what [`calibration`] found for the whole run.
    pub fn new(
        plan: &PayloadPlan,
        framing: Framing,
        zero_fraction: f64,
        producer_id: u32,
        ring_bytes: u64,
        block_bytes: u64,
    ) -> Result<Self, Fatal> {
        let (frame, headed) = (framing.bytes(), plan.headed);
        match &plan.source {
            PayloadSource::Random { .. } => {
                let (shortest, longest) = (plan.record_bytes_min, plan.record_bytes_max);
                let starts = if shortest == longest {
                    fixed(shortest, frame, ring_bytes, block_bytes)
                } else {
                    varied(random::record_sizes(plan.seed, producer_id, shortest, longest), frame, 1, ring_bytes)
                };
                Ok(Self { starts, framing, templates: Vec::new(), headed, zero_fraction })
            }
            PayloadSource::Templates(files) => {
                let templates: Vec<Template> = files
                    .iter()
                    .map(|file| {
                        Template::parse(file, plan.annotate)
                            .map_err(|why| Fatal::usage(format!("--payload-template: {why}")))
                    })
                    .collect::<Result<_, _>>()?;
                let lengths: Vec<u64> = templates.iter().map(Template::length).collect();
                let starts = if lengths.iter().all(|length| *length == lengths[0]) {
                    let whole = lengths.len() as u64;
                    let Starts::Fixed { length, count } = fixed(lengths[0], frame, ring_bytes, lengths[0]) else {
                        unreachable!()
                    };
                    Starts::Fixed { length, count: (count / whole).max(1) * whole }
                } else {
                    varied(lengths.iter().copied().cycle(), frame, lengths.len(), ring_bytes)
                };
                Ok(Self { starts, framing, templates, headed, zero_fraction: 0.0 })
            }
        }
    }

    /// Bytes of region that [`Self::bake`] fills.
    pub fn bytes(&self) -> u64 {
        self.starts.period_bytes() + self.starts.count() * self.framing.bytes()
    }

    /// Bytes of the longest record with its framing.
    pub fn longest_span(&self) -> u64 {
        self.starts.longest() + self.framing.bytes()
    }

    pub fn starts(&self) -> &Starts {
        &self.starts
    }

    /// Where record `at` lies in the ring.
    fn place(&self, at: u64) -> std::ops::Range<usize> {
        let start = (self.starts.start(at) + at * self.framing.bytes()) as usize + self.framing.before();
        start..start + (self.starts.start(at + 1) - self.starts.start(at)) as usize
    }

    /// How a reader finds and checks these records.
    pub fn record_format(&self, plan: &PayloadPlan) -> RecordFormat {
        match (plan.annotate, self.headed) {
            (Annotate::Off | Annotate::Headers, _) => RecordFormat::Opaque,
            (Annotate::Payload, true) => RecordFormat::Header,
            (Annotate::Payload, false) => {
                RecordFormat::Slots { templates: self.templates.iter().map(Template::shape).collect() }
            }
        }
    }

    /// Writes every record into `ring`, which starts at `base` of the core's region. That may take many seconds:
    /// `may_prepare` says meanwhile why nobody needs it any more.
    pub fn bake(
        mut self,
        plan: &PayloadPlan,
        who: Who<'_>,
        base: usize,
        ring: &mut [u8],
        window: usize,
        may_prepare: &dyn Fn() -> Result<(), Fatal>,
    ) -> Result<Payload, Fatal> {
        let facts = Facts { run_id: who.run_id, producer_id: who.producer_id };
        let mut bakes: Vec<HeadBake> = Vec::new();
        let mut slots = Vec::new();
        let mut shifts = Shifts::default();
        let body_from = if self.headed { HEADER_BYTES } else { 0 };
        for at in 0..self.starts.count() {
            may_prepare()?;
            let range = self.place(at);
            let (head, tail) = ring.split_at_mut(range.end);
            let before = &mut head[range.start - self.framing.before()..range.start];
            self.framing.bake(before, &mut tail[..self.framing.after()], range.len());
            if !self.templates.is_empty() && at as usize >= self.templates.len() {
                // The same template again: a copy.
                let first = at % self.templates.len() as u64;
                ring.copy_within(self.place(first), range.start);
                bakes.extend(bakes.get(first as usize).copied());
                continue;
            }
            let record = &mut ring[range];
            match self.templates.get(at as usize) {
                None => random::fill(plan.seed, who.producer_id, at, self.zero_fraction, &mut record[body_from..]),
                Some(template) => {
                    let baked = template.bake(&facts, record);
                    slots.push(baked.map_err(|why| template_error(template.name(), &why))?);
                }
            }
            if self.headed {
                bakes.push(bake_header(plan, who, record, &mut shifts));
            }
        }
        let stamper = match (plan.annotate, self.headed) {
            (Annotate::Off | Annotate::Headers, _) => Stamper::Nothing,
            (_, true) => Stamper::Header { bakes: bakes.into(), sign_key: plan.sign_key },
            (_, false) => Stamper::Slots(slots.into()),
        };
        self.framing.seal(ring, &self.starts, &stamper);
        Ok(Payload::new(base, self.starts, self.framing, stamper, window))
    }
}

fn template_error(name: &str, why: &str) -> Fatal {
    Fatal::usage(format!("--payload-template: {name}: {why}"))
}

/// The powers of x for the last length that was asked for: most records have the same.
#[derive(Default)]
struct Shifts {
    length: usize,
    behind_stamps: u32,
    behind_header: u32,
}

impl Shifts {
    fn of(&mut self, length: usize) -> &Self {
        if self.length != length {
            let [behind_stamps, behind_header] =
                [STAMP_END, HEADER_BYTES].map(|from| crc32c::shift((length - from) as u64));
            *self = Self { length, behind_stamps, behind_header };
        }
        self
    }
}

fn bake_header(plan: &PayloadPlan, who: Who<'_>, record: &mut [u8], shifts: &mut Shifts) -> HeadBake {
    let body_crc32c = crc32c::checksum(&record[HEADER_BYTES..]);
    let header = Header {
        flags: u8::from(plan.sign_key.is_some()) * crate::record::FLAG_SIGNED,
        run_id: who.run_id_hash,
        producer_id: who.producer_id,
        record_length: record.len() as u32,
        weight: 0,
        sequence: 0,
        timestamp_ns: 0,
        signature: 0,
        body_crc32c,
        crc32c: 0,
    };
    let head = header.encode();
    record[..HEADER_BYTES].copy_from_slice(&head);
    let shifts = shifts.of(record.len());
    let crc32c = crc32c::multiply(crc32c::checksum(&head), shifts.behind_header) ^ body_crc32c;
    debug_assert_eq!(crc32c, crc32c::checksum(record));
    let body_digest = plan.sign_key.as_ref().map_or(0, |key| sign::body_digest(key, &record[HEADER_BYTES..]));
    HeadBake { crc32c, shift: shifts.behind_stamps, body_digest }
}

fn fixed(length: u64, frame: u64, ring_bytes: u64, block_bytes: u64) -> Starts {
    let per_block = (block_bytes / (length + frame)).max(1);
    let count = (ring_bytes / (length + frame)).max(1);
    let count = if count > per_block { count / per_block * per_block } else { count };
    Starts::Fixed { length, count }
}

/// At least `least` records, then as many whole multiples of `least` as fit.
fn varied(sizes: impl Iterator<Item = u64>, frame: u64, least: usize, ring_bytes: u64) -> Starts {
    let mut starts = vec![0];
    let mut end = 0;
    for (at, size) in sizes.enumerate() {
        if at >= least && end + size + frame * (at as u64 + 1) > ring_bytes {
            break;
        }
        end += size;
        starts.push(end);
    }
    let whole = (starts.len() - 1) / least * least;
    starts.truncate(whole + 1);
    Starts::Varied(starts.into())
}
