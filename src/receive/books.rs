//! What was received: counted by each thread for itself, added up at the end.

use crate::base::fatal::Exit;
use crate::base::units::{
    format_amount, format_count, format_counted, format_duration, format_rate, parse_duration_ns,
};
use crate::plan::receive::{FaultKind, Protocol, ReceivePlan};
use crate::verify::findings::Findings;
use serde::Serialize;
use std::fmt::Write;

/// The counters of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// What was taken as payload: a TCP stream, the bodies of HTTP requests that were answered well, Kafka's batches
    /// that were taken for the first time.
    pub bytes: u64,
    /// Everything that was read.
    pub wire_bytes: u64,
    /// Those that were answered well; with Kafka only Produce requests are counted.
    pub requests: u64,
    /// With Kafka those with a batch that was refused.
    pub requests_refused: u64,
    pub requests_uncertain: u64,
    pub requests_malformed: u64,
    /// They never became whole.
    pub requests_aborted: u64,
    pub connections_reset: u64,
    pub kafka: KafkaBooks,
    /// For each item of the plan: how often it struck.
    pub faults: Vec<u64>,
    /// When the first and the last bytes of data came ([`Books::data_bytes`]).
    pub active_ns: Option<(u64, u64)>,
}

/// What only a broker counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KafkaBooks {
    /// As the heads of batches say: those that were answered well (or needed no answer) for the first time.
    #[serde(skip)]
    pub records: u64,
    /// Of producers without an id, whose answers were lost on purpose.
    #[serde(skip)]
    pub records_uncertain: u64,
    pub batches: u64,
    /// Answered with an error.
    pub batches_refused: u64,
    /// They were there already, and are not counted again.
    pub batches_doubled: u64,
    pub batches_checked: u64,
    /// Requests other than Produce.
    pub control_requests: u64,
    /// Read of them so far.
    #[serde(skip)]
    pub control_bytes: u64,
}

impl KafkaBooks {
    fn summary(&self, records: u64) -> String {
        let mut out = format!("records     {} in {}", format_count(records), format_counted(self.batches, "batch"));
        for (count, what) in
            [(self.batches_refused, "refused"), (self.batches_doubled, "came again"), (self.batches_checked, "checked")]
        {
            if count > 0 {
                let _ = write!(out, ", {} {what}", format_count(count));
            }
        }
        out.push('\n');
        out
    }

    fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.records_uncertain += other.records_uncertain;
        self.batches += other.batches;
        self.batches_refused += other.batches_refused;
        self.batches_doubled += other.batches_doubled;
        self.batches_checked += other.batches_checked;
        self.control_requests += other.control_requests;
        self.control_bytes += other.control_bytes;
    }
}

impl Books {
    pub fn new(fault_items: usize) -> Self {
        Self { faults: vec![0; fault_items], ..Self::default() }
    }

    /// A payload came, whatever became of it.
    pub fn brought_something(&self) -> bool {
        let requests = self.requests + self.requests_refused + self.requests_uncertain + self.requests_aborted;
        self.bytes + requests > 0
    }

    /// What was read but for what a Kafka client asks before and after it sends: that may be hours away.
    #[inline]
    pub fn data_bytes(&self) -> u64 {
        self.wire_bytes - self.kafka.control_bytes
    }

    /// Bytes of data came between these two moments.
    #[inline]
    pub fn active(&mut self, from_ns: u64, to_ns: u64) {
        let (first, last) = self.active_ns.get_or_insert((from_ns, to_ns));
        (*first, *last) = ((*first).min(from_ns), (*last).max(to_ns));
    }

    pub fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.wire_bytes += other.wire_bytes;
        self.requests += other.requests;
        self.requests_refused += other.requests_refused;
        self.requests_uncertain += other.requests_uncertain;
        self.requests_malformed += other.requests_malformed;
        self.requests_aborted += other.requests_aborted;
        self.connections_reset += other.connections_reset;
        self.kafka.add(&other.kafka);
        for (mine, theirs) in self.faults.iter_mut().zip(&other.faults) {
            *mine += theirs;
        }
        if let Some((from_ns, to_ns)) = other.active_ns {
            self.active(from_ns, to_ns);
        }
    }
}

/// Why the receiver ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    #[default]
    Signal,
    Once,
    Duration,
    /// It could not go on.
    Error,
}

/// What the main thread knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Course {
    pub elapsed_ns: u64,
    pub connections: u64,
    pub connections_refused: u64,
    /// Times that a connection could not be taken; it is tried again.
    pub accept_errors: u64,
    pub ended_by: EndedBy,
}

/// The result of `engine receive`.
#[derive(Clone, Debug, Serialize)]
pub struct Received {
    pub schema_version: u32,
    pub engine_version: &'static str,
    pub listen: String,
    pub protocol: &'static str,
    pub verify: bool,
    pub ended_by: EndedBy,
    pub elapsed_seconds: f64,
    /// From the first bytes to the last ones; with Kafka those of Produce requests.
    pub seconds_active: f64,
    /// The stream, the bodies of HTTP requests that were answered well, or Kafka's batches that were taken for the
    /// first time.
    pub bytes_received: u64,
    /// Everything that was read: with all around them, and with what was refused, doubled, cut off or left unanswered.
    pub wire_bytes: u64,
    /// Of `bytes_received` over the active time; 0 where that is nothing.
    pub bytes_per_second: f64,
    pub connections: u64,
    pub connections_refused: u64,
    /// Times that a connection could not be taken, for want of descriptors say; it is tried again.
    pub accept_errors: u64,
    /// By the peer, or by a fault.
    pub connections_reset: u64,
    /// Those that were answered well, so that the four below are apart; with Kafka only Produce requests are counted.
    pub requests: u64,
    pub requests_per_second: f64,
    pub refused_requests: u64,
    /// Read whole, but left without a whole answer.
    pub uncertain_requests: u64,
    pub malformed_requests: u64,
    pub aborted_requests: u64,
    /// With `verify`: intact records in requests that were answered well. With Kafka always, as the batches say.
    pub records_received: Option<u64>,
    pub records_uncertain: Option<u64>,
    /// With Kafka.
    pub batches: Option<KafkaBooks>,
    /// How often each struck.
    pub faults: serde_json::Map<String, serde_json::Value>,
    pub findings: Option<Findings>,
    pub exit_code: u8,
}

impl Received {
    pub fn new(
        plan: &ReceivePlan,
        listen: String,
        books: &Books,
        course: Course,
        judged: Option<(Findings, u64)>,
    ) -> Self {
        let seconds_active = books.active_ns.map_or(0.0, |(first, last)| (last - first) as f64 / 1e9);
        let rate = |count: u64| if seconds_active > 0.0 { count as f64 / seconds_active } else { 0.0 };
        let names = plan.faults.items.iter().map(|item| fault_name(item.kind));
        let exit = judged.as_ref().map_or(Exit::Done, |(findings, _)| findings.exit());
        let (findings, records_uncertain) = judged.unzip();
        let batches = (plan.protocol == Protocol::Kafka).then_some(books.kafka);
        let judged = findings.as_ref().filter(|_| plan.verify).map(|findings| findings.records);
        let records_uncertain = records_uncertain.filter(|_| plan.verify);
        Self {
            schema_version: 1,
            engine_version: env!("CARGO_PKG_VERSION"),
            listen,
            protocol: plan.protocol.scheme(),
            verify: plan.verify,
            ended_by: course.ended_by,
            elapsed_seconds: course.elapsed_ns as f64 / 1e9,
            seconds_active,
            bytes_received: books.bytes,
            wire_bytes: books.wire_bytes,
            bytes_per_second: rate(books.bytes),
            connections: course.connections,
            connections_refused: course.connections_refused,
            accept_errors: course.accept_errors,
            connections_reset: books.connections_reset,
            requests: books.requests,
            requests_per_second: rate(books.requests),
            refused_requests: books.requests_refused,
            uncertain_requests: books.requests_uncertain,
            malformed_requests: books.requests_malformed,
            aborted_requests: books.requests_aborted,
            records_received: judged.or(batches.map(|batches| batches.records)),
            records_uncertain: records_uncertain.or(batches.map(|batches| batches.records_uncertain)),
            batches,
            faults: names.zip(&books.faults).map(|(name, count)| (name, (*count).into())).collect(),
            findings,
            exit_code: exit as u8,
        }
    }

    /// For people.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        let ns = |seconds: f64| format_duration((seconds * 1e9) as u64);
        let _ = writeln!(
            out,
            "received    {} in {} (listened for {})",
            format_amount(self.bytes_received),
            ns(self.seconds_active),
            ns(self.elapsed_seconds)
        );
        let _ = writeln!(out, "rate        {}", format_rate(self.bytes_per_second));
        if self.protocol != Protocol::Tcp.scheme() {
            let mut more = String::new();
            for (count, what) in [
                (self.refused_requests, "refused"),
                (self.uncertain_requests, "uncertain"),
                (self.malformed_requests, "malformed"),
                (self.aborted_requests, "cut off"),
            ] {
                if count > 0 {
                    let _ = write!(more, ", {} {what}", format_count(count));
                }
            }
            let per_second = format_count(self.requests_per_second as u64);
            let _ = writeln!(out, "requests    {}, {per_second}/s{more}", format_count(self.requests));
        }
        if let Some(batches) = &self.batches {
            out.push_str(&batches.summary(self.records_received.unwrap_or(0)));
        }
        let reset = match self.connections_reset {
            0 => String::new(),
            count => format!(", {} reset", format_count(count)),
        };
        let _ = writeln!(out, "connections {}{reset}", format_count(self.connections));
        if self.connections_refused > 0 {
            let connections = format_counted(self.connections_refused, "connection");
            let _ = writeln!(out, "turned away {connections}, too many at once");
        }
        if self.accept_errors > 0 {
            let times = format_counted(self.accept_errors, "time");
            let _ = writeln!(out, "waited      {times} for a connection to be taken");
        }
        if let Some(faults) = self.faults_struck() {
            let _ = writeln!(out, "faults      {faults}");
        }
        if let Some(findings) = &self.findings {
            let sources = if self.batches.is_some() { ("in", "partition") } else { ("over", "connection") };
            out.push_str(&findings.summary_with("--report", sources));
        }
        out
    }

    /// As `status=503 12, delay=5ms 0`; `None`: nothing was to go wrong.
    fn faults_struck(&self) -> Option<String> {
        let all: Vec<_> = self.faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// For machines: the first few findings and explanations, then the summary.
    pub fn log(&self) {
        for finding in self.findings.iter().flat_map(Findings::told) {
            let kind = finding.kind.name();
            tracing::warn!(event = "finding", kind, records = finding.records, "{}", finding.text());
        }
        for line in self.findings.iter().flat_map(|findings| findings.told_explanations().0) {
            tracing::info!(event = "explained", "{line}");
        }
        let (faults, findings) = (self.faults_struck(), self.findings.as_ref().map(Findings::counted));
        tracing::info!(
            event = "summary",
            exit_code = self.exit_code,
            bytes_received = self.bytes_received,
            seconds_active = self.seconds_active,
            bytes_per_second = self.bytes_per_second,
            connections = self.connections,
            requests = self.requests,
            refused_requests = self.refused_requests,
            uncertain_requests = self.uncertain_requests,
            records_received = self.records_received,
            records_uncertain = self.records_uncertain,
            faults = faults.as_deref(),
            clean = self.findings.as_ref().map(|findings| findings.clean),
            findings = findings.as_deref(),
            "the receiver ended"
        );
    }
}

/// How a fault is called in the report: as it was asked for.
fn fault_name(kind: FaultKind) -> String {
    let duration = |ns: u64| {
        let short = format_duration(ns).replace(' ', "");
        // Rounded, two of them could have one name.
        if parse_duration_ns(&short) == Ok(ns) { short } else { format!("{ns}ns") }
    };
    match kind {
        FaultKind::Status(status) => format!("status={status}"),
        FaultKind::Reset => "reset".to_owned(),
        FaultKind::Abort => "abort".to_owned(),
        FaultKind::Truncate => "truncate".to_owned(),
        FaultKind::Close => "close".to_owned(),
        FaultKind::Error(code) => format!("error={code}"),
        FaultKind::LoseAnswer => "lose_answer".to_owned(),
        FaultKind::Delay { ns } => format!("delay={}", duration(ns)),
        FaultKind::Slow { ns } => format!("slow={}", duration(ns)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_called_as_they_were_asked_for() {
        assert_eq!(fault_name(FaultKind::Delay { ns: 50_000_000 }), "delay=50ms");
        assert_eq!(fault_name(FaultKind::Slow { ns: 1_500_000 }), "slow=1.5ms");
        assert_eq!(fault_name(FaultKind::Delay { ns: 1_501_000 }), "delay=1501000ns", "1.5ms is another one");
    }
}
