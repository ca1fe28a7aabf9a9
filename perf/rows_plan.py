"""The capacity model of `engine plan`: the points it is fitted to, and those that it must predict."""

import json

import harness as h
import servers
from rows_throughput import engine
from servers import against

CORE = ["--cores", "0"]
PATHS = ["null", "tmpfs", "tcp", "kafka", "http"]
# Record bytes, producers.
FIT = [(512, 1), (4096, 1), (65536, 1)]
HELD_OUT = [(1024, 2), (16384, 1), (16384, 3)]
# What the model assumes of http; the other paths need one connection.
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
        flags += ["--connections", max(1, HTTP_CONNECTIONS // producers)]
    url = {"tcp": "tcp://{}", "http": "http://{}/", "kafka": "kafka://{}/plan"}[path]
    extra = ["--acks", "1", "--idempotent", "off"] if path == "kafka" else []
    return against(servers.receiver(ctx, path),
                   lambda there: engine(ctx, name, url.format(there.address), *flags, *extra, poll="busy"))


def measured(ctx, path, points):
    runs = {}
    for size, producers in points:
        run = run_point(ctx, path, size, producers)
        run.pair = len(runs)
        print(f"    {run.peer:20} {h.gigabytes(run.bytes_per_second):>12}", flush=True)
        runs[size, producers] = run
        h.remove(ctx.tmpfs / f"{size}-{producers}")
    return runs


def fitted(runs):
    """Nanoseconds for each record and for each byte, so that the worst relative error is small: weighted least squares."""
    rows = [(size, 1e9 * size / run.bytes_per_second) for (size, _), run in runs.items()]
    # Relative errors: divide each equation r + b * size = t by t.
    a11 = sum(1 / t ** 2 for _, t in rows)
    a12 = sum(s / t ** 2 for s, t in rows)
    a22 = sum(s * s / t ** 2 for s, t in rows)
    b1, b2 = sum(1 / t for _, t in rows), sum(s / t for s, t in rows)
    det = a11 * a22 - a12 * a12
    record, byte = (b1 * a22 - b2 * a12) / det, (a11 * b2 - a12 * b1) / det
    # Costs are not negative: a path without one of them is fitted by the other.
    if record < 0:
        record, byte = 0, b2 / a22
    if byte < 0:
        record, byte = b1 / a11, 0
    return record, byte


def predicted(ctx, path, size, producers):
    target = {"null": "null", "tmpfs": "tmpfs", "tcp": "tcp", "http": "http", "kafka": "kafka"}[path]
    words = [ctx.engine, "plan", "--target", target, "--payload-size", size, "--parallel", producers, "--json"]
    _, output = h.measure("plan", words)
    return json.loads(output)["core_bytes_per_second"]


def plan(ctx):
    """The ceilings of one core, as engine plan predicts them, at points that its table was not fitted to."""
    groups, checks = [], []
    for path in PATHS:
        said = {point: predicted(ctx, path, *point) for point in HELD_OUT}
        fit, held = measured(ctx, path, FIT), measured(ctx, path, HELD_OUT)
        record, byte = fitted(fit)
        print(f"    {path}: record_ns {record:.1f}, seconds_per_gigabyte {byte:.4f}")
        groups += [list(fit.values()), list(held.values())]
        for (size, producers), run in held.items():
            likely = said[size, producers]["likely"]
            run.facts = {"predicted": said[size, producers], "refit": {"record_ns": record, "byte_ns": byte}}
            error = likely / run.bytes_per_second - 1
            checks.append(h.Check(f"{path}, {size} B, {producers} producers: predicted within 20 %",
                                  f"{h.gigabytes(likely)} / {h.gigabytes(run.bytes_per_second)}: {error:+.1%}",
                                  abs(error) <= 0.2))
    return groups, checks
