"""Rows over Kafka: to `engine receive`, which discards, and to a real Apache Kafka."""

import json
import re
from collections import namedtuple

import harness as h
import servers
from rows_network import CORE, RECORD_BYTES, cpu_per_gigabyte, pinned, rate, ring_bytes, send_loop
from rows_throughput import FAST_RATE, engine, read_report, sustained_checks
from servers import against

TOPIC = "perf"
BATCH_BYTES = 1_000_000
LINGER_MS = 5
# Beyond this a bare send says that the machine is one of those that the bar of 8 GB/s is for.
FAST_SEND = 12e9
# Of the batches of a fast run the receiver checks each so many-th whole.
VERIFY_EVERY = 1000
# What all producers sustain against a broker that shares two cores with them.
BROKER_RATE = 100_000_000
# Of librdkafka always. It leaves Nagle's algorithm on; the engine and Kafka's Java client turn it off.
PROPERTIES = ["acks=1", f"batch.size={BATCH_BYTES}", "batch.num.messages=1000000", f"linger.ms={LINGER_MS}",
              "socket.nagle.disable=true"]
BATCHES = ["--batch-size", BATCH_BYTES, "--linger", f"{LINGER_MS}ms"]
LEADER = ["--acks", "1", "--idempotent", "off"]
UNLIMITED = ["queue.buffering.max.messages=0", "queue.buffering.max.kbytes=2147483647"]
BOUNDED = ["queue.buffering.max.messages=0", "queue.buffering.max.kbytes=65536"]
# Whether librdkafka copies records into its requests, as it does by default, or refers to them.
COPIES = ["message.copy.max.bytes=65535", "message.copy.max.bytes=0"]
# How librdkafka is run: its properties, and how long it waits for delivery reports where nothing is due.
Tuning = namedtuple("Tuning", "properties wait_ms")
# With a rate: woken often, or only as often as batches leave.
PACED_WAITS_MS = [1, LINGER_MS]
# What `kafka-receive` and `kafka-receive-512` are judged on at least.
RECEIVE_PAIRS = 10


def kafka_engine(ctx, brokers, size, *flags, peer="engine", poll="busy", acks=(), seconds=None):
    run = engine(ctx, peer, f"kafka://{brokers}/{TOPIC}", *CORE, "--payload-size", size, *BATCHES, *(acks or LEADER),
                 *flags, poll=poll, seconds=seconds)
    latency = read_report()["latency_seconds"]
    run.facts["response_p99"], run.facts["service_p99"] = latency["response"]["p99"], latency["service"]["p99"]
    run.facts["records_per_second"] = run.facts["totals"]["records_produced"] / run.seconds
    return run


def librdkafka(ctx, brokers, size, tuning, *properties, ring=8 << 20, bytes_per_second=0, seconds=None):
    words = pinned("rdkafka_producer", brokers, TOPIC, size, seconds or ctx.seconds, bytes_per_second, ring,
                   tuning.wait_ms, *PROPERTIES, *tuning.properties, *properties)
    run, output = h.measure("librdkafka", words)
    done = json.loads(output)
    run.bytes, run.seconds = done["bytes"], done["seconds"]
    run.bytes_per_second = run.bytes / run.seconds
    run.facts = {"p50": done["p50"], "p99": done["p99"], "p999": done["p999"],
                 "records_per_second": done["records"] / run.seconds}
    return run


def best_tuning(ctx, run, worth, queues=(UNLIMITED, BOUNDED), waits_ms=(1,)):
    """The tuning with which `run(tuning, seconds)` of librdkafka is worth most of all."""
    tunings = [Tuning([*queue, copies], wait_ms) for queue in queues for copies in COPIES for wait_ms in waits_ms]
    tried = [(run(tuning, min(3, ctx.seconds)), tuning) for tuning in (tunings[:1] if ctx.smoke else tunings)]
    best, tuning = max(tried, key=lambda each: worth(each[0]))
    print(f"    librdkafka is best with {h.words(tuning.properties)}, waiting {tuning.wait_ms} ms: "
          f"{h.gigabytes(best.bytes_per_second)}, {best.cpu_seconds_per_gigabyte:.3f} CPU s/GB, "
          f"p99 {1000 * best.facts['p99']:.2f} ms", flush=True)
    return tuning


def thrift(run):
    return -cpu_per_gigabyte(run)


def to_receiver(ctx, size):
    """The engine and librdkafka, each as what makes one run of it."""
    ring = ring_bytes(ctx, f"kafka://127.0.0.1:9/{TOPIC}", *CORE, "--payload-size", size, *BATCHES, *LEADER)

    def peer_with(tuning, seconds=None):
        return against(servers.receiver(ctx, "kafka"),
                       lambda there: librdkafka(ctx, there.address, size, tuning, ring=ring, seconds=seconds))

    tuning = best_tuning(ctx, peer_with, rate)

    def ours(*flags, **named):
        return against(servers.receiver(ctx, "kafka"),
                       lambda there: kafka_engine(ctx, there.address, size, *flags, **named))

    return ours, lambda: peer_with(tuning), ring


def fast_run(ctx):
    """8 GB/s to a receiver that checks a sample of batches in full."""
    received = h.scratch("received.json")
    h.remove(received)
    receiver = servers.receiver(ctx, "kafka", "--verify-every", VERIFY_EVERY, "--report", h.relative(received))
    run = against(receiver, lambda there: kafka_engine(ctx, there.address, RECORD_BYTES, "--rate", FAST_RATE,
                                                       peer="engine 8GB/s", seconds=2 * ctx.long_seconds))
    found = read_report(received.name)
    checked, clean = found["batches"]["batches_checked"], found["findings"]["clean"]
    return run, [*sustained_checks(run, RECORD_BYTES),
                 h.Check("8 GB/s sustained: the batches that the receiver checked are whole",
                         f"{checked} checked, {'clean' if clean else 'damaged'}", checked > 0 and clean)]


def kafka_receive(ctx):
    """4 KiB records to a broker that discards and busy-polls, against librdkafka, rskafka and a bare send."""
    ours, peer, ring = to_receiver(ctx, RECORD_BYTES)

    def rskafka():
        return ours("--kafka-client", "rskafka", peer="engine rskafka", acks=("--acks", "all", "--idempotent", "off"))

    def bare():
        return against(servers.receiver(ctx, "tcp"), lambda there: send_loop(ctx, there, 1 << 20, ring))

    with_peer = h.alternate(ctx.pairs, ours, peer)
    with_rskafka = h.alternate(ctx.pairs, ours, rskafka)
    with_bare = h.alternate(ctx.pairs, ours, bare)
    checks = [h.at_least("throughput, engine / librdkafka", 4, h.ratios(with_peer, rate), RECEIVE_PAIRS),
              h.at_least("throughput, engine / rskafka", 10, h.ratios(with_rskafka, rate), RECEIVE_PAIRS),
              h.at_least("throughput, engine / send loop", 0.75, h.ratios(with_bare, rate), RECEIVE_PAIRS)]
    runs = [*with_peer, *with_rskafka, *with_bare]
    fastest = h.statistics.median(run.bytes_per_second for _, run in with_bare)
    if fastest >= FAST_SEND:
        sustained, bars = fast_run(ctx)
        checks += bars
        runs.append([sustained])
    else:
        print(f"    bare send reaches {h.gigabytes(fastest)}, not 12: the bar of 8 GB/s sustained does not apply here")
    return runs, checks


def kafka_receive_512(ctx):
    """512-byte records to a broker that discards and busy-polls, against librdkafka."""
    ours, peer, _ = to_receiver(ctx, 512)
    runs = h.alternate(ctx.pairs, ours, peer)
    records = h.ratios(runs, lambda run: run.facts["records_per_second"])
    return runs, [h.at_least("records a second, engine / librdkafka", 6, records, RECEIVE_PAIRS)]


def lay_out(ctx, brokers, *flags):
    """Makes the topic and its first segment."""
    kafka_engine(ctx, brokers, RECORD_BYTES, "--create-topic", "on", "--partitions", 1, "--rate", BROKER_RATE, *flags,
                 poll="adaptive", seconds=1)


def described(run, cluster):
    """Without the ports and folders of this cluster."""
    for name in ("KAFKA_BOOTSTRAP", "KAFKA_TLS_BOOTSTRAP", "KAFKA_CA", "KAFKA_CLASSPATH"):
        run.command = run.command.replace(cluster[name], f"${name}")
    return run


def kafka_tls(ctx):
    """TLS to a real Apache Kafka: what one core of the sender could carry, against librdkafka, same cipher."""
    with servers.kafka(ctx) as cluster:
        brokers, authority = cluster["KAFKA_TLS_BOOTSTRAP"], cluster["KAFKA_CA"]
        secure = ["--tls-ca", authority]
        lay_out(ctx, brokers, *secure)

        def peer(tuning, seconds=None):
            return described(librdkafka(ctx, brokers, RECORD_BYTES, tuning, "security.protocol=ssl",
                                        f"ssl.ca.location={authority}", seconds=seconds), cluster)

        tuning = best_tuning(ctx, peer, thrift, queues=[BOUNDED])
        runs = h.alternate(
            ctx.pairs,
            lambda: described(kafka_engine(ctx, brokers, RECORD_BYTES, *secure, poll="adaptive"), cluster),
            lambda: peer(tuning))
    carried = h.ratios(runs, lambda run: 1 / run.cpu_seconds_per_gigabyte)
    return runs, [h.at_least("bytes for each CPU second, engine / librdkafka", 1.5, carried),
                  h.at_least("throughput, the broker being the limit (no bar; for the record)", 0, h.ratios(runs, rate))]


def producer_performance(ctx, cluster, bytes_per_second, seconds):
    """Kafka's own: its last line is the summary."""
    records = int(bytes_per_second * seconds / RECORD_BYTES)
    words = ["taskset", "-c", "0", "java", "-cp", cluster["KAFKA_CLASSPATH"],
             "org.apache.kafka.tools.ProducerPerformance", "--bootstrap-server", cluster["KAFKA_BOOTSTRAP"], "--topic",
             TOPIC, "--num-records", records, "--record-size", RECORD_BYTES, "--throughput",
             bytes_per_second // RECORD_BYTES, "--command-property", "acks=1", "enable.idempotence=false",
             f"batch.size={BATCH_BYTES}", f"linger.ms={LINGER_MS}", "buffer.memory=134217728"]
    run, output = h.measure("ProducerPerformance", words)
    found = re.findall(r"^(\d+) records sent, ([\d.]+) records/sec.* ([\d.]+) ms 99th", output, re.MULTILINE)
    if not found or int(found[-1][0]) != records:
        raise h.RowError(f"not {records} records sent: {output[-500:]}")
    run.bytes = records * RECORD_BYTES
    run.bytes_per_second = float(found[-1][1]) * RECORD_BYTES
    run.seconds = run.bytes / run.bytes_per_second
    run.facts = {"p99": float(found[-1][2]) / 1000}
    return run


def kept_rate(runs, wanted):
    def off(run):
        return abs(rate(run) / wanted - 1)

    worst = max((run for pair in runs for run in pair), key=off)
    share = f"{100 * rate(worst) / wanted:.1f} %"
    return h.Check("everybody kept the rate within 3 %", f"{worst.peer}: {share}", off(worst) <= 0.03)


def kafka_broker_cpu(ctx):
    """Processor time for each GB to a real Apache Kafka at 100 MB/s, against librdkafka and ProducerPerformance."""
    seconds = max(1, int(ctx.long_seconds))
    with servers.kafka(ctx) as cluster:
        brokers = cluster["KAFKA_BOOTSTRAP"]
        lay_out(ctx, brokers)

        def ours():
            return described(kafka_engine(ctx, brokers, RECORD_BYTES, "--rate", BROKER_RATE, poll="adaptive",
                                          seconds=seconds), cluster)

        def peer(tuning, seconds):
            return described(librdkafka(ctx, brokers, RECORD_BYTES, tuning, bytes_per_second=BROKER_RATE,
                                        seconds=seconds), cluster)

        tuning = best_tuning(ctx, peer, thrift, waits_ms=PACED_WAITS_MS)
        with_peer = h.alternate(ctx.pairs, ours, lambda: peer(tuning, seconds))
        with_java = h.alternate(ctx.pairs, ours, lambda: described(producer_performance(
            ctx, cluster, BROKER_RATE, seconds), cluster))
    runs = [*with_peer, *with_java]
    return runs, [h.at_most("CPU for each GB, engine / librdkafka", 0.333, h.ratios(with_peer, cpu_per_gigabyte)),
                  h.at_most("CPU for each GB, engine / ProducerPerformance", 0.125, h.ratios(with_java, cpu_per_gigabyte)),
                  kept_rate(runs, BROKER_RATE)]


def kafka_broker_latency(ctx):
    """The p99 at half of what a real Apache Kafka takes, against librdkafka's with the same linger."""
    with servers.kafka(ctx) as cluster:
        brokers = cluster["KAFKA_BOOTSTRAP"]
        lay_out(ctx, brokers)

        def peer(tuning, seconds=None, bytes_per_second=0):
            return described(librdkafka(ctx, brokers, RECORD_BYTES, tuning, bytes_per_second=bytes_per_second,
                                        seconds=seconds), cluster)

        fastest = best_tuning(ctx, peer, rate, queues=[BOUNDED])
        capacity = [described(kafka_engine(ctx, brokers, RECORD_BYTES, peer="capacity engine", poll="adaptive"), cluster),
                    peer(fastest)]
        capacity[1].peer = "capacity rdkafka"
        half = int(max(run.bytes_per_second for run in capacity) / 2)
        tuning = best_tuning(ctx, lambda each, seconds: peer(each, seconds, half), lambda run: -run.facts["p99"],
                             waits_ms=PACED_WAITS_MS)
        runs = h.alternate(
            ctx.pairs,
            lambda: described(kafka_engine(ctx, brokers, RECORD_BYTES, "--rate", half, poll="adaptive"), cluster),
            lambda: peer(tuning, bytes_per_second=half))
    # The engine's counts from when a record was due, librdkafka's only from when it was handed over.
    ratios = h.figures(runs, lambda ours, theirs: (ours.facts["response_p99"] or float("inf")) / theirs.facts["p99"])
    return [capacity, *runs], [h.at_most("p99, engine / librdkafka", 1.1, ratios), kept_rate(runs, half)]
