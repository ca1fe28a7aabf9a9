"""The capacity model of `engine plan`: the points it is fitted to, and those that it must predict."""

import json
import math
import statistics

import harness as h
import servers
from rows_throughput import engine
from servers import against

CORE = ["--cores", "0"]
PATHS = ["null", "tmpfs", "tcp", "kafka", "http"]
# Record bytes, producers.
FIT = [(512, 1), (4096, 1), (65536, 1)]
HELD_OUT = [(1024, 2), (16384, 1), (16384, 3)]
# What the model assumes of a core with http; the other paths need one connection.
HTTP_CONNECTIONS = 8


def run_point(ctx, path, size, producers):
    flags = [*CORE, "--parallel", producers, "--payload-size", size]
    name = f"{path} {size} x{producers}"
    if path == "null":
        return engine(ctx, name, "null", *flags, poll="busy")
    if path == "tmpfs":
        # Room for the same footprint at every count of producers, so that all of them meet the same memory.
        each = ctx.tmpfs_bytes // 4 // producers // (1 << 20)
        return engine(ctx, name, f"file:{ctx.tmpfs}/{size}-{producers}/", *flags, "--preallocate", f"{each}Mi",
                      "--min-free", "0", "--overwrite", poll="busy")
    if path == "http":
        # Of each producer: no fewer than these together.
        flags += ["--connections", math.ceil(HTTP_CONNECTIONS / producers)]
    url = {"tcp": "tcp://{}", "http": "http://{}/", "kafka": "kafka://{}/plan"}[path]
    # Copied, as for a broker or a server across a network, and from a ring as for a receiver there.
    extra = {"kafka": ["--acks", "1", "--idempotent", "off", "--zero-copy", "off"],
             "http": ["--zero-copy", "off"],
             "tcp": ["--block-size", "1Mi", "--ring-size", "5Mi"]}.get(path, [])
    return against(servers.receiver(ctx, path),
                   lambda there: engine(ctx, name, url.format(there.address), *flags, *extra, poll="busy"))


def measured(ctx, path, points):
    """The runs of each point, in rounds over all of them: a disturbed second spoils one run of one point. Before each
    the plan is asked, with a calibration of that moment; if the processors move in between, both are done again,
    twice at most."""
    runs = {point: [] for point in points}
    for number in range(ctx.pairs):
        for size, producers in points:
            for again in (False,) if ctx.smoke else (True, True, False):
                asked, said = predicted(ctx, path, size, producers)
                run = run_point(ctx, path, size, producers)
                during = h.book(number, [asked, run])
                run.facts = {"predicted": said["core_bytes_per_second"], "calibration": said["calibration"]}
                h.remove(ctx.tmpfs / f"{size}-{producers}")
                if not (again and during):
                    break
                h.set_aside.append([asked, run])
            note = " moved" if run.moved else ""
            print(f"    {run.peer:20} {h.gigabytes(run.bytes_per_second):>12} {error(run):+.1%}{note}", flush=True)
            runs[size, producers].append(run)
    return runs


def error(run):
    return run.facts["predicted"]["likely"] / run.bytes_per_second - 1


def predicted(ctx, path, size, producers):
    words = [ctx.engine, "plan", "--target", path, "--payload-size", size, "--parallel", producers, "--json"]
    asked, output = h.measure("plan", words)
    return asked, json.loads(output)


# What the costs for each record and for each byte scale as, as src/host/capacity/costs.rs has it. Heads are timed where
# the records of each point lie, so that those of the reference, of 4 KiB in one ring, are the unit for all of them.
PROBES = {
    "null": ("head_ns", "core_ns"),
    "tmpfs": ("core_ns", "tmpfs_byte_ns"),
    "tcp": ("core_ns", "loopback_byte_ns"),
    "kafka": ("core_ns", "loopback_byte_ns"),
    "http": ("exchange_ns", "loopback_byte_ns"),
}


def fitted(path, runs, reference):
    """Nanoseconds for each record and for each byte on a machine whose probes are `reference`, so that the worst
    relative error is small: least squares, each run weighted by its own time."""
    record_probe, byte_probe = PROBES[path]
    rows = []
    for (size, _), those in runs.items():
        for run in those:
            slowness = {name: run.facts["calibration"][name] / reference[name] for name in (record_probe, byte_probe)}
            ns = 1e9 * size / run.bytes_per_second
            rows.append((slowness[record_probe] / ns, slowness[byte_probe] * size / ns))
    a11, a12, a22 = (sum(x[i] * x[j] for x in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    b1, b2 = (sum(x[i] for x in rows) for i in (0, 1))
    determinant = a11 * a22 - a12 * a12
    record, byte = (b1 * a22 - b2 * a12) / determinant, (a11 * b2 - a12 * b1) / determinant
    # Costs are not negative: a path without one of them is fitted by the other.
    if record < 0:
        record, byte = 0, b2 / a22
    if byte < 0:
        record, byte = b1 / a11, 0
    return record, byte


def plan(ctx):
    """The ceilings of one core, as engine plan predicts them, at points that its table was not fitted to."""
    groups, checks, all_runs = [], [], {}
    fit, held_out = (FIT[:2], HELD_OUT[:1]) if ctx.smoke else (FIT, HELD_OUT)
    for path in ["null", "http"] if ctx.smoke else PATHS:
        runs = all_runs[path] = measured(ctx, path, fit + held_out)
        groups += runs.values()
        for size, producers in held_out:
            those = runs[size, producers]
            ceiling = statistics.median(run.bytes_per_second for run in those)
            off = h.figures([[run] for run in those], error)
            check = h.judge(f"{path}, {size} B, {producers} producers: predicted within 20 %", off,
                            lambda median: abs(median) <= 0.2, form="+.1%")
            check.value += f" of {h.gigabytes(ceiling)}"
            checks.append(check)
    # Loopback is asked with as many connections as producers, and heads as records lie, so the reference is one point.
    probes = [run.facts["calibration"] for runs in all_runs.values() for run in runs[FIT[1]]]
    asked = {name: [probe[name] for probe in probes if probe[name] is not None] for name in probes[0]}
    reference = {name: statistics.median(values) for name, values in asked.items() if values}
    print(f"    for the table: reference {reference}")
    for path, runs in all_runs.items():
        record, byte = fitted(path, {point: runs[point] for point in fit}, reference)
        print(f"    for the table: {path}: record_ns {record:.1f}, byte_ns {byte:.5f}")
    return groups, checks
