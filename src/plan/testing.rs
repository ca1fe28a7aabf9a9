//! Plans made by hand, and a port where nobody is, for the tests of all rooms.

use super::*;
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;

/// A port on which nobody listens, and nobody else will for as long as the socket is kept.
pub fn closed_port() -> (u16, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap().port(), socket)
}

/// One producer on one core, ten seconds of records of 100 bytes to nowhere, and nobody who looks.
pub fn run_plan() -> RunPlan {
    RunPlan {
        run_id: "test-run".into(),
        run_id_hash: 1,
        command: vec![],
        effective_config: serde_json::Map::new(),
        cores: vec![CorePlan { cpu: 0, producers: vec![0], ring_bytes_per_lane: 1 << 20 }],
        producers: vec![producer_plan(0)],
        fleet_producers: 1,
        payload_bytes_max: None,
        free_cpus: vec![],
        sink: SinkPlan {
            kind: SinkKind::Null,
            targets: vec!["null".into()],
            block_bytes: 1 << 20,
            queue_depth: 8,
            linger_ns: 250_000,
            confirmation: Confirmation::Target,
        },
        payload: PayloadPlan {
            source: PayloadSource::Random { compressibility: 0.0 },
            record_bytes_min: 100,
            record_bytes_max: 100,
            headed: true,
            seed: 0,
            annotate: Annotate::Payload,
            sign_key: None,
        },
        phases: vec![phase_plan(10_000_000_000)],
        rate_bytes_per_second: None,
        catch_up_ns: 10_000_000_000,
        drain_timeout_ns: 10_000_000_000,
        start_at_unix_ns: None,
        poll: Poll::Busy,
        io: Io::Syscall,
        unregistered: Unregistered::Told,
        zero_copy: true,
        observe: ObservePlan {
            metrics_addr: None,
            metrics_hold_ns: 0,
            log_format: LogFormat::Json,
            stats_interval_ns: 3_600_000_000_000,
            report: None,
            html: None,
            audit_every: 0,
            governance: None,
            slo: vec![],
        },
        notes: vec![],
    }
}

/// Of the first core and target, without a schedule.
pub fn producer_plan(id: u32) -> ProducerPlan {
    ProducerPlan {
        id,
        core: 0,
        target: 0,
        schedule: vec![],
        stagger_ns: 0,
        records_max: u64::MAX,
        bytes_max: u64::MAX,
        to: TargetPlan::Null,
    }
}

pub fn phase_plan(duration_ns: u64) -> PhasePlan {
    PhasePlan { duration_ns, warmup: false, sampled: false, weight: 1, rate_bytes_per_second: None }
}

/// Through rskafka, to a broker at this port of this host.
pub fn kafka_plan(port: u16) -> KafkaPlan {
    let retry = RetryPlan { retries_max: u32::MAX, backoff_min_ns: 0, backoff_max_ns: 0 };
    let peer = peer("127.0.0.1", port).into();
    KafkaPlan {
        bootstrap: vec![("127.0.0.1".into(), port)],
        local_only: false,
        topic: "t".into(),
        sasl: None,
        link: LinkPlan { peer, connections: 1, request_timeout_ns: 200_000_000, retry },
        acks: -1,
        idempotent: false,
        codec: Compression::None,
        batch_bytes: 1000,
        batch_bytes_min: 1000,
        linger_ns: 0,
        key: KeyPlan::None,
        partitions: None,
        create_topic: false,
        client: KafkaClient::Rskafka,
        client_id: "engine".into(),
        in_flight_max: 2,
        delivery_timeout_ns: 1_000_000_000,
    }
}

/// Without TLS.
pub fn peer(host: &str, port: u16) -> PeerPlan {
    PeerPlan { host: host.into(), port, tls: None, connect_timeout_ns: 5_000_000_000 }
}
