"""Rows that look at time: pacing, lateness, stalls, memory over a long run, start-up."""

import json
import re
import signal
import time
import urllib.request
from pathlib import Path

import harness as h
import servers
from rows_throughput import drain, engine, engine_words, read_report, seconds_checks, seconds_of, tmpfs_flags
from servers import READY_SECONDS, against

RECORD_BYTES = 4096


def pace_checks(name, rate, seconds, record_bytes, report):
    """The whole run, and every second in which the loop was let run."""
    wanted = rate * seconds
    off = abs(report["totals"]["bytes_produced"] - wanted)
    bound = max(wanted * 0.0001, record_bytes)
    checks = [h.Check(f"{name}: whole run within 0.01 % or one record", f"off by {off:.0f} of {wanted} bytes",
                      off <= bound)]
    return checks + seconds_checks(name, rate, record_bytes, report)


def pacing(ctx):
    """From 1 Mb/s to 90 % of capacity, on null and on tmpfs: totals and seconds against the rate."""
    seconds = ctx.seconds if ctx.smoke else max(ctx.seconds, 10)
    runs, checks = [], []
    for name, target, flags in (("null", "null", ["--cores", "0", "--parallel", "1", "--payload-size", RECORD_BYTES]),
                                ("tmpfs", f"file:{ctx.tmpfs}/", tmpfs_flags(ctx, 1))):
        capacity = engine(ctx, f"capacity {name}", target, *flags, poll="busy")
        runs.append([capacity])
        steps = [125_000, 10_000_000, 1_000_000_000, int(capacity.bytes_per_second * 0.5),
                 int(capacity.bytes_per_second * 0.9)]
        for rate in sorted({step for step in steps if step <= capacity.bytes_per_second * 0.9}):
            run = engine(ctx, f"{name} {rate} B/s", target, *flags, "--rate", rate, seconds=seconds, poll="busy")
            runs.append([run])
            report = read_report()
            run.facts["intervals"] = seconds_of(report)
            checks += pace_checks(f"{name} at {rate} B/s", rate, seconds, RECORD_BYTES, report)
            print(f"    {checks[-3].bar}: {checks[-3].value}", flush=True)
    return runs, checks


WAKES_PER_SECOND = 1000
# What keeps its place in memory however small the machine: it takes 4 MB a second.
LATENESS_FILE_BYTES = 64 << 20


def bare_wakes(ctx):
    run, output = h.measure("clock_nanosleep", ["taskset", "-c", "0", h.peer("wake"), WAKES_PER_SECOND, ctx.seconds])
    run.facts = {"lateness_seconds": json.loads(output)}
    return run


def punctual_engine(ctx, name, target, *flags):
    run = engine(ctx, f"engine {name}", target, *flags, "--rate", f"{WAKES_PER_SECOND}rec/s")
    run.facts["lateness_seconds"] = slim(read_report()["pacing"]["lateness_seconds"])
    return run


def punctual_stdout(ctx, *flags):
    h.remove(h.scratch("report.json"))
    words = engine_words(ctx, "stdout", *flags, "--rate", f"{WAKES_PER_SECOND}rec/s")
    # It reads until the engine is done, however long that takes.
    run = h.measure_pipe("engine stdout", words, drain(ctx, "read", ctx.seconds + 3600), codes=(0,))
    run.facts["lateness_seconds"] = slim(read_report()["pacing"]["lateness_seconds"])
    return run


def lateness(ctx):
    """How late 1000 records a second go out with --poll adaptive, against a bare loop that sleeps until each is due."""
    core = ["--cores", "0", "--parallel", "1", "--payload-size", RECORD_BYTES]
    files = tmpfs_flags(ctx, 1, min(ctx.tmpfs_bytes // 2, LATENESS_FILE_BYTES))

    def on_tmpfs(io):
        return lambda: punctual_engine(ctx, f"tmpfs {io}", f"file:{ctx.tmpfs}/", *files, "--io", io)

    cases = {"null": lambda: punctual_engine(ctx, "null", "null", *core), "tmpfs, io_uring": on_tmpfs("uring"),
             "tmpfs, system calls": on_tmpfs("syscall"), "stdout": lambda: punctual_stdout(ctx, *core)}
    runs, checks = [], []
    for name, ours in cases.items():
        pairs = h.alternate(ctx.pairs, ours, lambda: bare_wakes(ctx))
        later = h.figures(pairs, lambda paced, bare: 1e6 * (late_p999(paced) - late_p999(bare)))
        checks.append(h.judge(f"{name}: p99.9 of lateness, engine less bare loop, in µs: median at most 100", later,
                              lambda median: median <= 100, form="+.1f"))
        medians = [1e6 * h.statistics.median(map(late_p999, those)) for those in zip(*pairs)]
        print(f"    {name}: p99.9 {medians[0]:.1f} µs, of the bare loop {medians[1]:.1f}", flush=True)
        runs += pairs
    return runs, checks


def late_p999(run):
    return run.facts["lateness_seconds"]["p999"]


def burst(ctx):
    """Bursts average their rate over whole cycles."""
    seconds = 2 if ctx.smoke else 20
    runs, checks = [], []
    for rate in (125_000, 100_000_000, 1_000_000_000):
        run = engine(ctx, f"burst {rate} B/s", "null", "--mode", "burst", "--burst-on", "500ms", "--burst-off", "500ms",
                     "--rate", rate, "--payload-size", RECORD_BYTES, "--cores", "0", "--parallel", "1", seconds=seconds)
        wanted = rate * seconds
        off = abs(run.bytes - wanted)
        passed = off <= max(wanted * 0.005, RECORD_BYTES)
        checks.append(h.Check(f"burst at {rate} B/s averages it within 0.5 %", f"off by {off} of {wanted}", passed))
        runs.append([run])
    return runs, checks


def stall(ctx):
    """A process stopped for 200 ms at half of capacity: what due times say, service times do not."""
    seconds, stop_at, stop_for = (3, 1, 0.2) if ctx.smoke else (20, 8, 0.2)
    flags = ["--cores", "0", "--parallel", "1", "--payload-size", RECORD_BYTES]
    capacity = engine(ctx, "capacity", "null", *flags)
    rate = int(capacity.bytes_per_second / 2)
    calm = engine(ctx, "undisturbed", "null", *flags, "--rate", rate, seconds=seconds)
    calm_service = read_report()["latency_seconds"]["service"]["p999"]

    words = engine_words(ctx, "null", *flags, "--rate", rate, seconds=seconds)
    stopped = h.Run("stopped for 200 ms", h.words(words))
    with h.running(words, stderr=h.subprocess.DEVNULL) as process:
        time.sleep(stop_at)
        began = time.monotonic()
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(stop_for)
        finally:
            process.send_signal(signal.SIGCONT)
        stall_seconds = time.monotonic() - began
        h.finish(process, stopped)
    report = read_report()
    stopped.bytes, stopped.seconds = report["totals"]["bytes_produced"], report["elapsed_seconds"]
    stopped.bytes_per_second = report["throughput"]["bytes_per_second"]
    latency = report["latency_seconds"]
    stopped.facts = {"response": slim(latency["response"]), "service": slim(latency["service"]), "stall": stall_seconds}
    # A record due t into the stall leaves at stall + t × rate / capacity: the backlog drains at capacity.
    expected = stall_seconds - 0.001 * seconds * (1 - rate / capacity.bytes_per_second)
    response, service = latency["response"]["p999"], latency["service"]["p999"]
    off = abs(response - expected) / expected if response else float("inf")
    moved = abs(service - calm_service) if service and calm_service else float("inf")
    checks = [
        h.Check("response p99.9 within 5 % of arithmetic", f"{response} s, arithmetic {expected:.4f} s", off <= 0.05),
        h.Check("service p99.9 unmoved (within 1 ms)", f"{service} s, undisturbed {calm_service} s",
                moved <= 0.001),
    ]
    return [[capacity], [calm], [stopped]], checks


def slim(latency):
    return {name: value for name, value in latency.items() if name != "histogram"}


def resident_bytes(pid):
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"VmRSS:\s*(\d+) kB", text).group(1)) * 1024


def metrics_address(process, log):
    """Where a run serves its metrics, as its log says."""
    until = time.monotonic() + READY_SECONDS
    while True:
        text = log.read_text(encoding="utf-8")
        # Whole lines only: it is being written.
        for line in text[: text.rfind("\n") + 1].splitlines():
            if '"event":"metrics"' in line:
                return json.loads(line)["address"]
        if process.poll() is not None or time.monotonic() > until:
            raise h.RowError(f"no metrics are served: {h.words(process.args)}\n{text[-2000:]}")
        time.sleep(0.01)


def memory(ctx):
    """Resident memory over half an hour: report, page, SLO, stages, audit, metrics, JSON log and governance are on."""
    seconds = 4 if ctx.smoke else ctx.memory_minutes * 60
    # The first minute is for settling.
    settle, every = (1, 0.5) if ctx.smoke else (60, 10)
    run = against(servers.governance(), lambda there: watched(ctx, there, seconds, every))
    settled = [size for at, size in run.facts["resident_bytes"] if at >= settle]
    swing = max(settled) - min(settled)
    what = f"{swing / 1024:.0f} KiB over {seconds} s, around {min(settled) >> 20} MiB"
    return [[run]], [h.Check("resident memory flat within 1 MiB either way", what, swing <= 2 << 20)]


def watched(ctx, api, seconds, every):
    """A run that tells of itself in all ways, and its resident memory at so many seconds."""
    page = h.scratch("report.html")
    h.remove(page)
    words = engine_words(ctx, f"file:{ctx.tmpfs}/", *tmpfs_flags(ctx), "--rate", "190MB/s", "--ramp-to", "210MB/s",
                         "--ramp-steps", 4, "--html", h.relative(page), "--slo", "p99<10s", "--audit-every", "1000",
                         "--metrics-addr", "127.0.0.1:0", "--governance-url", f"http://{api.address}",
                         "--governance-every", 1000, seconds=seconds)
    run = h.Run("engine", h.words(words))
    samples, log, began = [], h.scratch("stderr.txt"), time.monotonic()
    with open(log, "w", encoding="utf-8") as errors, h.running(words, stderr=errors) as process:
        address = metrics_address(process, log)
        # The last look is over well before the run is.
        while time.monotonic() - began < seconds - 2 * every:
            time.sleep(every)
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
                answer.read()
            samples.append([time.monotonic() - began, resident_bytes(process.pid)])
        h.finish(process, run)
    report = read_report()
    run.bytes, run.seconds = report["totals"]["bytes_produced"], report["elapsed_seconds"]
    run.bytes_per_second = report["throughput"]["bytes_per_second"]
    told = report["governance"]
    if not page.exists() or len(report["phases"]) != 4 or not report["slo"] or not told["posted"]:
        raise h.RowError(f"not every report was on: {run.command}\ngovernance: {told}")
    run.facts = {"resident_bytes": samples, "governance": told}
    return run


def startup(ctx):
    """From the start of the process to its first byte, with a payload ring of 1 GiB, after a run that nobody times."""
    ring = "64Mi" if ctx.smoke else "1Gi"
    words = [ctx.engine, "run", "--target", "stdout", "--ring-size", ring, "--duration", "10s", "--cores", "0",
             "--parallel", "1", "--payload-size", RECORD_BYTES, "--log-format", "json"]
    runs = []
    # A virtual machine gets memory from its host when it first touches it, which takes seconds for 1 GiB.
    h.measure_pipe("engine", words, drain(ctx, "read", 0.1), codes=(0,))
    for attempt in range(ctx.pairs):
        run = h.measure_pipe("engine", words, drain(ctx, "read", 0.1), codes=(0,))
        run.pair = attempt
        runs.append([run])
        print(f"    {attempt + 1}/{ctx.pairs} {run.facts['first_byte_after_seconds']:.3f} s", flush=True)
    worst = max(run.facts["first_byte_after_seconds"] for run, in runs)
    return runs, [h.Check("first byte within 1 s of the start", f"worst {worst:.3f} s of {len(runs)}", worst < 1)]
