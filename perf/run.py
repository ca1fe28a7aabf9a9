#!/usr/bin/env python3
"""Measures the engine against its peers, one row at a time.

    perf/run.py list
    perf/run.py results               writes what each bar came to, out of perf/runs/, to perf/RESULTS.md
    perf/run.py file tmpfs            raw numbers and a page for each go to perf/runs/<date>-<host class>/
    perf/run.py --smoke all           every row, tiny: shows that it runs, keeps nothing, judges nothing

Exit code: 0 every bar met, 1 a bar missed or not judged, 2 something could not be measured.
"""

import argparse
import os
import signal
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import harness as h
import results
import rows_kafka as kafka
import rows_network as network
import rows_pacing as pacing
import rows_plan
import rows_throughput as throughput

ROWS = {
    "file": throughput.file,
    "tmpfs": throughput.tmpfs,
    "tmpfs-syscall": throughput.tmpfs_syscall,
    "disk-syscall": throughput.disk_syscall,
    "null": throughput.null,
    "stamp": throughput.stamp,
    "stdout-stamped": throughput.stdout_stamped,
    "stdout-unstamped": throughput.stdout_unstamped,
    "stdout-splice": throughput.stdout_splice,
    "verify": throughput.verify,
    "pacing": pacing.pacing,
    "lateness": pacing.lateness,
    "burst": pacing.burst,
    "stall": pacing.stall,
    "startup": pacing.startup,
    "memory": pacing.memory,
    "tcp": network.tcp,
    "tcp-copy": network.tcp_copy,
    "tcp-syscall": network.tcp_syscall,
    "http-nginx-4k": network.http_nginx_4k,
    "http-nginx-1m": network.http_nginx_1m,
    "http-receive": network.http_receive,
    "http-tcp": network.http_tcp,
    "http-syscall": network.http_syscall,
    "governance": network.governance,
    "kafka-receive": kafka.kafka_receive,
    "kafka-receive-512": kafka.kafka_receive_512,
    "kafka-tls": kafka.kafka_tls,
    "kafka-broker-cpu": kafka.kafka_broker_cpu,
    "kafka-broker-latency": kafka.kafka_broker_latency,
    "plan": rows_plan.plan,
}


@dataclass
class Context:
    """What a row may know. While it runs, `disk` and `tmpfs` are folders of its own."""

    engine: str
    pairs: int
    seconds: float
    long_seconds: float
    memory_minutes: float
    disk: Path
    disk_bytes: int
    tmpfs: Path
    tmpfs_bytes: int
    smoke: bool


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", metavar="ROW", help="'list', 'results', 'all', or any of: " + " ".join(ROWS))
    parser.add_argument("--engine", default="./engine", help="the binary, as scripts/build.sh leaves it")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10, help="of each run")
    parser.add_argument("--memory-minutes", type=float, default=30)
    parser.add_argument("--disk", type=Path, default=h.scratch("data").parent,
                        help="a folder on the drive to measure; each row makes one of its own in it, and removes it")
    parser.add_argument("--disk-gib", type=float, default=4, help="size of the files there")
    parser.add_argument("--tmpfs", type=Path, default=Path("/dev/shm"), help="the same, in memory")
    parser.add_argument("--tmpfs-gib", type=float, default=4, help="of both files together")
    parser.add_argument("--out", type=Path, help="where results go, instead of perf/runs/<date>-<host class>")
    parser.add_argument("--smoke", action="store_true")
    return parser.parse_args()


def context(options):
    seconds = int(options.seconds) if options.seconds == int(options.seconds) else options.seconds
    gib = 1 << 30
    made = Context(options.engine, options.pairs, seconds, 30, options.memory_minutes,
                   options.disk.absolute(), int(options.disk_gib * gib),
                   options.tmpfs.absolute(), int(options.tmpfs_gib * gib), options.smoke)
    if options.smoke:
        made.pairs, made.seconds, made.long_seconds = 1, 1, 1
        # In memory both peers' files fit into the 64 MiB that Docker gives /dev/shm.
        made.disk_bytes, made.tmpfs_bytes = 64 << 20, 16 << 20
    return made


@contextmanager
def own_folders(ctx):
    """The context of one row, with folders that nobody else has, here or in another checkout, and that go with it."""
    made = []
    try:
        for parent in (ctx.disk, ctx.tmpfs):
            parent.mkdir(parents=True, exist_ok=True)
            made.append(Path(tempfile.mkdtemp(prefix="engine-perf.", dir=parent)))
        yield replace(ctx, disk=made[0], tmpfs=made[1])
    finally:
        for folder in made:
            h.remove(folder)


def name_folders(ctx, runs):
    """Commands that read the same in every run: the row's folders are $DISK and $TMPFS there."""
    for group in (*runs, *h.set_aside):
        for run in group:
            run.command = run.command.replace(str(ctx.disk), "$DISK").replace(str(ctx.tmpfs), "$TMPFS")


def measure_row(name, ctx, out):
    """Returns whether every bar was met."""
    row = ROWS[name]
    title = row.__doc__.strip().split("\n")[0]
    print(f"{name}: {title}", flush=True)
    origin = h.origin(ctx.engine)
    try:
        with own_folders(ctx) as own:
            runs, checks = row(own)
            name_folders(own, runs)
            machine = h.machine({"disk": own.disk, "tmpfs": own.tmpfs})
    except h.Missing as missing:
        if not ctx.smoke:
            raise
        print(f"    not checked: {name}: {missing}")
        return True
    settings = {"pairs": ctx.pairs, "seconds": ctx.seconds, "disk_bytes": ctx.disk_bytes, "tmpfs_bytes": ctx.tmpfs_bytes}
    facts = {"defined_at": results.DEFINED_AT, "machine": machine, "versions": origin | h.tool_versions()}
    page = h.write_result(out, name, title, settings, runs, checks, facts)
    if ctx.smoke:
        h.remove(out)
        print("    ran")
        return True
    print(f"    {h.relative(page)}")
    for check in checks:
        print(f"    {'pass' if check.passed else 'MISS'}  {check.bar}: {check.value}")
    return all(check.passed for check in checks)


def main():
    options = arguments()
    if options.rows == ["list"]:
        # Who reads only the first lines, such as `head`, ends it without a word.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        for name, row in ROWS.items():
            print(f"{name:18} {row.__doc__.strip()}")
        return 0
    if options.rows == ["results"]:
        results.PAGE.write_text(results.page(list(ROWS)), encoding="utf-8")
        return 0
    names = list(ROWS) if options.rows == ["all"] else options.rows
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        print(f"no such row: {' '.join(unknown)}; see: perf/run.py list", file=sys.stderr)
        return 2
    if not (h.ROOT / options.engine).exists():
        print(f"{options.engine} is missing; build it: scripts/build.sh", file=sys.stderr)
        return 2
    # Debian's users have no nginx in theirs.
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    # Whoever is ended by `timeout` ends what it started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    ctx = context(options)
    kept = options.out or h.ROOT / "perf" / "runs" / f"{date.today()}-{h.host_class()}"
    out = h.scratch("smoke") if ctx.smoke else kept.absolute()
    try:
        met = [measure_row(name, ctx, out) for name in names]
        if not ctx.smoke and out.parent == results.RUNS:
            print(f"the page of all results is older now: {results.COMMAND}")
    except (h.RowError, OSError, KeyError, ValueError) as error:
        print(f"not measured: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
