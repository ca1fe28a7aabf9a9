//! What a seed stands for where connections are simulated.

use super::broker::Mood;
use super::server::Manners;
use super::socket::NetFaults;
use crate::chance::Chance;
use crate::scenario::{MICROSECOND, MILLISECOND, SECOND, Scenario};
use engine::plan::{PhaseShare, RetryPlan, Schedule};
use engine::wire::kafka::codec::Codec;

#[derive(Clone, Debug)]
pub struct NetPlan {
    /// Lanes, their pace, and the machine.
    pub base: Scenario,
    /// Of each lane; for Kafka: partitions.
    pub connections: usize,
    /// Blocks of a lane that something is still to become of.
    pub window: usize,
    pub faults: NetFaults,
    pub request_timeout_ns: u64,
    pub retry: RetryPlan,
    /// For Kafka.
    pub delivery_timeout_ns: u64,
    pub target: NetTarget,
}

#[derive(Clone, Debug)]
pub enum NetTarget {
    Tcp { framed: bool },
    Http { pipeline: usize, records_per_request: u64, summed: bool, manners: Manners },
    Kafka { acks: i16, idempotent: bool, in_flight: usize, codec: Codec, keyed: bool, mood: Mood },
}

impl NetPlan {
    fn new(seed: u64, chance: &mut Chance, target: NetTarget) -> Self {
        let mut base = Scenario::calm(seed, false);
        base.loses = true;
        base.rhythm.look_ns_max = chance.pick(&[3 * MICROSECOND, 30 * MICROSECOND]);
        let faults = faults(chance);
        // Long enough for a block to get through the narrowest buffer.
        let slowness_ns = crate::world::block_bytes(&base) / faults.buffer_bytes * MILLISECOND;
        Self {
            base,
            connections: chance.pick(&[1, 1, 2, 3]) as usize,
            window: chance.pick(&[2, 5, 64]) as usize,
            faults,
            request_timeout_ns: slowness_ns + chance.pick(&[2 * MILLISECOND, 20 * MILLISECOND]),
            retry: RetryPlan {
                retries_max: u32::MAX,
                backoff_min_ns: chance.pick(&[10 * MICROSECOND, 200 * MICROSECOND]),
                backoff_max_ns: chance.pick(&[200 * MICROSECOND, 2 * MILLISECOND]),
            },
            delivery_timeout_ns: u64::MAX,
            target,
        }
    }

    pub fn tcp(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 6);
        let framed = chance.one_in(2);
        let mut plan = Self::new(seed, &mut chance, NetTarget::Tcp { framed });
        plan.window = plan.base.queue_depth;
        // More than a lane has buffers for blocks that are made again.
        plan.connections = chance.pick(&[plan.connections as u64, 6]) as usize;
        plan
    }

    pub fn http(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 7);
        let manners = Manners {
            odd_one_in: chance.pick(&[0, 3, 20]),
            second_one_in: chance.pick(&[0, 0, 40]),
            refuses: chance.one_in(2),
            hangs_one_in: chance.pick(&[0, 0, 60]),
            partly_one_in: chance.pick(&[0, 15]),
            hasty_one_in: chance.pick(&[0, 0, 3]),
        };
        let target = NetTarget::Http {
            pipeline: chance.pick(&[1, 1, 2, 4]) as usize,
            records_per_request: chance.pick(&[1, 3, 1000]),
            summed: chance.one_in(3),
            manners,
        };
        let mut plan = Self::new(seed, &mut chance, target);
        plan.retry.retries_max = chance.pick(&[0, 2, 1_000_000]) as u32;
        plan
    }

    pub fn kafka(seed: u64, acks: i16, idempotent: bool) -> Self {
        let mut chance = Chance::new(seed, 8);
        let mood = Mood {
            odd_one_in: chance.pick(&[0, 4, 25]),
            throttle_one_in: chance.pick(&[0, 9]),
            throttle_ms_max: 2,
            lacks: None,
            refuse_one_in: 0,
            hangs_one_in: chance.pick(&[0, 0, 60]),
            garbage_one_in: 0,
            wordy_one_in: chance.pick(&[0, 0, 20]),
        };
        let target = NetTarget::Kafka {
            acks,
            idempotent,
            in_flight: chance.pick(&[1, 2, 5]) as usize,
            codec: chance.pick(&[Codec::None, Codec::None, Codec::None, Codec::Lz4, Codec::Snappy]),
            keyed: chance.one_in(3),
            mood,
        };
        Self::new(seed, &mut chance, target)
    }

    /// No connection breaks and no peer errs.
    pub fn in_peace(mut self) -> Self {
        self.faults.breaks_left = 0;
        match &mut self.target {
            NetTarget::Tcp { .. } => {}
            NetTarget::Http { manners, .. } => {
                (manners.odd_one_in, manners.hangs_one_in, manners.refuses) = (0, 0, false);
                manners.partly_one_in = 0;
            }
            NetTarget::Kafka { mood, .. } => (mood.odd_one_in, mood.hangs_one_in) = (0, 0),
        }
        self.request_timeout_ns = 10_000 * MILLISECOND;
        self
    }

    /// Some requests are taken in part, and the body of a good answer says so.
    pub fn partly(mut self) -> Self {
        if let NetTarget::Http { manners, .. } = &mut self.target {
            manners.partly_one_in = 5;
        }
        self
    }

    /// Some batches are refused for good, patience has an end, and so have attempts.
    pub fn refusing(mut self) -> Self {
        let mut chance = Chance::new(self.base.seed, 10);
        if let NetTarget::Kafka { mood, .. } = &mut self.target {
            mood.refuse_one_in = chance.pick(&[0, 5, 40]);
            mood.odd_one_in = chance.pick(&[3, 25]);
        }
        self.retry.retries_max = chance.pick(&[0, 2, 1000]) as u32;
        self.delivery_timeout_ns = chance.pick(&[MILLISECOND, 20 * MILLISECOND, u64::MAX]);
        self
    }

    /// The first of two partitions takes nothing, and there is more to offer than the ring holds.
    pub fn lacking(mut self) -> Self {
        if let NetTarget::Kafka { mood, .. } = &mut self.target {
            (mood.lacks, mood.throttle_one_in) = (Some(0), 0);
        }
        (self.connections, self.window) = (2, 64);
        (self.faults.step_ns_max, self.faults.slow_one_in) = (2 * MICROSECOND, 0);
        self.faults.buffer_bytes = 100_000;
        (self.base.stop_at_ns, self.base.drain_timeout_ns) = (None, 50 * MILLISECOND);
        for lane in &mut self.base.lanes {
            (lane.records_max, lane.bytes_limit) = (10 * (lane.ring_bytes / lane.bytes_min) + 100, u64::MAX);
            let (duration_ns, schedule) = (200 * MILLISECOND, Schedule::Unlimited);
            lane.schedule = vec![PhaseShare { duration_ns, warmup: false, weight: 1, schedule }];
        }
        self
    }

    /// Some answers make no sense.
    pub fn garbling(mut self) -> Self {
        let mut chance = Chance::new(self.base.seed, 13);
        if let NetTarget::Kafka { mood, .. } = &mut self.target {
            mood.garbage_one_in = chance.pick(&[2, 8]);
        }
        self
    }

    /// A broker asks for up to weeks of silence, and the drain does not wait for long.
    pub fn silenced(mut self) -> Self {
        let mut chance = Chance::new(self.base.seed, 14);
        if let NetTarget::Kafka { mood, .. } = &mut self.target {
            (mood.throttle_one_in, mood.throttle_ms_max) = (chance.pick(&[3, 20]), i32::MAX as u64);
        }
        self.base.drain_timeout_ns = chance.pick(&[0, MILLISECOND, 8 * MILLISECOND]);
        self
    }

    /// The kernel sends without a copy only as long as it has memory to account for that.
    pub fn short_of_memory(mut self) -> Self {
        let mut chance = Chance::new(self.base.seed, 15);
        (self.faults.zero_copy, self.faults.lends) = (true, false);
        self.faults.lacks_memory_one_in = chance.pick(&[1, 1, 3, 20]);
        self
    }

    /// The kernel sends without a copy, but copies one message in so many after all (never for 0).
    pub fn copying(mut self, one_in: u64) -> Self {
        (self.faults.zero_copy, self.faults.lends) = (true, false);
        self.faults.copied_one_in = one_in;
        self
    }

    /// The process is stopped for longer than any peer is waited for, which go on meanwhile. None errs.
    pub fn away(self) -> Self {
        let mut plan = self.in_peace();
        let mut chance = Chance::new(plan.base.seed, 16);
        plan.base.rhythm.away = Some((chance.between(0..=15 * MILLISECOND), 31 * SECOND));
        plan.base.stop_at_ns = None;
        plan.delivery_timeout_ns = 20 * SECOND;
        plan
    }

    /// From some moment on no peer moves, and the kernel never gives back what connections have in flight that are
    /// broken off for that.
    pub fn withholding(self) -> Self {
        let mut plan = self.in_peace();
        (plan.request_timeout_ns, plan.delivery_timeout_ns) = (50 * MILLISECOND, u64::MAX);
        (plan.faults.stuck_at_ns, plan.faults.withholds) = (10 * MILLISECOND, true);
        (plan.faults.step_ns_max, plan.faults.slow_ns_max) = (5 * MILLISECOND, 5 * MILLISECOND);
        (plan.base.stop_at_ns, plan.base.drain_timeout_ns, plan.base.adaptive) = (None, MILLISECOND, true);
        for lane in &mut plan.base.lanes {
            (lane.records_max, lane.bytes_limit) = (u64::MAX, u64::MAX);
            let (duration_ns, schedule) = (100 * SECOND, Schedule::Unlimited);
            lane.schedule = vec![PhaseShare { duration_ns, warmup: false, weight: 1, schedule }];
        }
        plan
    }

    /// From some moment on no peer moves, and the drain does not wait for long.
    pub fn stuck(mut self) -> Self {
        let mut chance = Chance::new(self.base.seed, 9);
        self.faults.stuck_at_ns = chance.between(0..=15 * MILLISECOND);
        self.base.drain_timeout_ns = chance.pick(&[0, MILLISECOND, 8 * MILLISECOND]);
        self
    }
}

fn faults(chance: &mut Chance) -> NetFaults {
    NetFaults {
        step_ns_max: chance.pick(&[2 * MICROSECOND, 20 * MICROSECOND, 100 * MICROSECOND]),
        slow_one_in: chance.pick(&[0, 10, 100]),
        slow_ns_max: chance.pick(&[200 * MICROSECOND, MILLISECOND]),
        buffer_bytes: chance.pick(&[300, 5000, 100_000]),
        short_one_in: chance.pick(&[0, 4, 30]),
        again_one_in: chance.pick(&[0, 4, 30]),
        busy_one_in: chance.pick(&[0, 5]),
        zero_copy: chance.one_in(2),
        copied_one_in: chance.pick(&[0, 2, 1]),
        lacks_memory_one_in: 0,
        reset_one_in: chance.pick(&[0, 20, 300]),
        close_one_in: chance.pick(&[0, 20, 300]),
        breaks_left: chance.pick(&[0, 1, 5, 12]),
        dial_ns_max: chance.pick(&[10 * MICROSECOND, MILLISECOND]),
        refuse_one_in: chance.pick(&[0, 2]),
        stuck_at_ns: u64::MAX,
        withholds: false,
        lends: chance.one_in(2),
    }
}
