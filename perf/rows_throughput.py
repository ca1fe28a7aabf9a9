"""Rows that run a peer and the engine by turns: files, memory, pipes, and reading back."""

import json

import harness as h


def engine_words(ctx, target, *flags, seconds=None, poll="adaptive"):
    seconds = seconds or ctx.seconds
    return [ctx.engine, "run", "--target", target, "--duration", f"{seconds}s", "--poll", poll,
            "--log-format", "json", "--report", h.relative(h.scratch("report.json")), *flags]


def read_report(name="report.json"):
    return json.loads(h.scratch(name).read_text(encoding="utf-8"))


def engine(ctx, peer, target, *flags, seconds=None, poll="adaptive"):
    """One run of the engine; bytes, seconds and rate are its report's, processor time is the kernel's."""
    h.remove(h.scratch("report.json"))
    run, _ = h.measure(peer, engine_words(ctx, target, *flags, seconds=seconds, poll=poll))
    report = read_report()
    run.bytes = report["totals"]["bytes_produced"]
    run.seconds = report["elapsed_seconds"]
    run.bytes_per_second = report["throughput"]["bytes_per_second"]
    run.facts = {"cpu": report["cpu"], "verdict": report["verdict"], "totals": report["totals"]}
    run.facts["achieved_ratio"] = report["pacing"]["achieved_ratio"]
    return run


def seconds_of(report):
    """What `seconds_checks` looks at, for the record."""
    kept = ("seconds", "bytes_produced", "catch_up_records", "loop_gap_max_seconds")
    return [{name: interval.get(name, 0) for name in kept} for interval in report["intervals"]]


def off_in_calm_seconds(rate, record_bytes, seconds):
    """By how many bytes each whole second is off in which the loop was let run; None for one in which it was not. What
    such a second caught up of a stall before it is not held against it."""
    found, behind = [], False
    for second in seconds:
        is_calm = second["loop_gap_max_seconds"] <= 0.001
        off, caught_up = second["bytes_produced"] - rate, second["catch_up_records"] * record_bytes
        if behind and off > 0:
            off = max(off - caught_up, 0)
        if abs(second["seconds"] - 1) < 0.001:
            found.append(off if is_calm else None)
        behind = not is_calm or (behind and caught_up > 0)
    return found


def seconds_checks(name, rate, record_bytes, report):
    """Every second in which the loop was let run."""
    whole = off_in_calm_seconds(rate, record_bytes, seconds_of(report))
    calm = [off for off in whole if off is not None]
    worst = max(calm, key=abs, default=None)
    met = worst is not None and abs(worst) <= max(rate * 0.005, record_bytes)
    said = "not judged: no second was calm" if worst is None else f"worst off by {worst:+.0f} bytes in a second"
    share = len(calm) / len(whole) if whole else 0
    return [h.Check(f"{name}: calm seconds within 0.5 % or one record", said, met),
            h.Check(f"{name}: at least 90 % of seconds calm", f"{100 * share:.0f} %", share >= 0.9)]


FAST_RATE = 8_000_000_000
# So its bars begin.
FAST_BARS = "8 GB/s sustained"


def sustained_checks(run, record_bytes):
    """Of the engine's last run, which was asked for 8 GB/s: the whole of it, and its seconds."""
    kept, report = run.bytes_per_second / FAST_RATE, read_report()
    run.facts["intervals"] = seconds_of(report)
    return [h.Check(f"{FAST_BARS}, within 0.01 %", f"{kept:.6f}", abs(kept - 1) <= 0.0001),
            *seconds_checks(FAST_BARS, FAST_RATE, record_bytes, report)]


# What costs fio processor time and is not asked of it here: other bytes in each write, a clock around each.
FIO_THRIFT = ["--scramble_buffers=0", "--gtod_reduce=1"]


def fio(ctx, peer, *flags):
    words = ["fio", "--name=peer", "--rw=write", "--overwrite=1", "--time_based", f"--runtime={ctx.seconds}",
             "--output-format=json", *FIO_THRIFT, *flags]
    run, output = h.measure(peer, words)
    jobs = json.loads(output[output.index("{"):])["jobs"]
    run.bytes = sum(job["write"]["io_bytes"] for job in jobs)
    run.seconds = max(job["write"]["runtime"] for job in jobs) / 1000
    run.bytes_per_second = run.bytes / run.seconds
    return run


# What `file` is judged on at least.
FILE_PAIRS = 10
# Of both its peers: interrupts tend to land on the first.
FILE_CORE = "1"


def file(ctx):
    """fio and the engine on the same disk: O_DIRECT, 1 MiB blocks, 32 in flight, overwriting."""
    size = ctx.disk_bytes
    data, ours = ctx.disk / "fio.dat", ctx.disk / "engine.bin"
    block = ["--block-size", "1Mi", "--queue-depth", "32", "--payload-size", "4096", "--parallel", "1"]
    ring = ["--cores", FILE_CORE, "--overwrite", "--preallocate", size, "--direct", "on", "--io", "uring", "--fsync",
            "end", *block]
    peer = [f"--filename={data}", f"--size={size}", "--bs=1M", "--iodepth=32", "--ioengine=io_uring", "--direct=1",
            "--fixedbufs=1", "--registerfiles=1", "--end_fsync=1", f"--cpus_allowed={FILE_CORE}"]

    def first():
        return engine(ctx, "engine", f"file:{ours}", *ring)

    def second():
        return fio(ctx, "fio io_uring", *peer)

    first(), second()  # Lays out and writes both files once, so that every measured run overwrites.
    runs = h.alternate(ctx.pairs, first, second)
    checks = [
        h.at_least("throughput, engine / fio", 0.98, h.ratios(runs, lambda run: run.bytes_per_second),
                   FILE_PAIRS),
        h.at_most("CPU for each GB, engine / fio", 1.0, h.ratios(runs, lambda run: run.cpu_seconds_per_gigabyte),
                  FILE_PAIRS),
    ]
    return runs, checks


def tmpfs_flags(ctx, producers=2, each=None):
    """As many cores as producers, files (of `each` bytes) that stay in memory."""
    cores = ",".join(str(core) for core in range(producers))
    # A smoke run takes what little there is.
    floor = ["--min-free", "0"] if ctx.smoke else []
    return ["--cores", cores, "--parallel", producers, "--overwrite", "--preallocate", each or ctx.tmpfs_bytes // 2,
            "--block-size", "256Ki", "--payload-size", "4096", "--direct", "off", *floor]


def tmpfs(ctx):
    """fio psync with two jobs and the engine with two producers on two cores, on tmpfs, files warmed."""
    each = ctx.tmpfs_bytes // 2
    peer = [f"--directory={ctx.tmpfs}", f"--size={each}", "--bs=256k", "--ioengine=psync", "--numjobs=2",
            "--group_reporting", "--cpus_allowed=0,1", "--cpus_allowed_policy=split"]

    def first():
        return engine(ctx, "engine", f"file:{ctx.tmpfs}/", *tmpfs_flags(ctx))

    def second():
        return fio(ctx, "fio psync x2", *peer)

    first(), second()
    runs = h.alternate(ctx.pairs, first, second)
    checks = [
        h.at_least("throughput, engine / fio", 1.0, h.ratios(runs, lambda run: run.bytes_per_second)),
        h.at_most("CPU for each GB, engine / fio (no bar; for the record)", float("inf"),
                  h.ratios(runs, lambda run: run.cpu_seconds_per_gigabyte)),
    ]
    fio_rate = h.statistics.median(second.bytes_per_second for _, second in runs)
    sustained = engine(ctx, "engine 8GB/s", f"file:{ctx.tmpfs}/", *tmpfs_flags(ctx), "--rate", FAST_RATE,
                       seconds=ctx.long_seconds)
    if fio_rate >= 10e9:
        checks += sustained_checks(sustained, 4096)
    else:
        print(f"    fio reaches {h.gigabytes(fio_rate)}, not 10: the bar of 8 GB/s sustained does not apply here")
    return [*runs, [sustained]], checks


def back_ends(ctx, bar, target, flags):
    def run(io):
        return lambda: engine(ctx, f"engine {io}", target, *flags, "--io", io)

    run("uring")()
    runs = h.alternate(ctx.pairs, run("syscall"), run("uring"))
    return runs, [h.at_least("throughput, syscall / uring", bar, h.ratios(runs, lambda run: run.bytes_per_second))]


def tmpfs_syscall(ctx):
    """The syscall back end against io_uring on tmpfs."""
    return back_ends(ctx, 0.95, f"file:{ctx.tmpfs}/", tmpfs_flags(ctx))


def disk_syscall(ctx):
    """The syscall back end against io_uring on the disk, O_DIRECT."""
    flags = ["--overwrite", "--preallocate", ctx.disk_bytes, "--direct", "on", "--block-size", "1Mi", "--queue-depth", "32",
             "--payload-size", "4096", "--parallel", "1"]
    return back_ends(ctx, 0.9, f"file:{ctx.disk / 'engine.bin'}", flags)


def null(ctx):
    """4 KiB records, stamped and checksummed, to nowhere, against a memcpy of 256 MiB on the same core."""
    def first():
        return engine(ctx, "engine null", "null", "--payload-size", "4096", "--ring-size", "64Mi", "--cores", "0",
                      "--parallel", "1")

    def second():
        run, output = h.measure("memcpy 256 MiB", ["taskset", "-c", "0", h.peer("memcpy"), ctx.seconds])
        done = json.loads(output)
        run.bytes, run.seconds = done["bytes"], done["seconds"]
        run.bytes_per_second = run.bytes / run.seconds
        return run

    runs = h.alternate(ctx.pairs, first, second)
    return runs, [h.at_least("rate, engine / memcpy", 25, h.ratios(runs, lambda run: run.bytes_per_second))]


# A cache line short of whole pages: heads that are a power of two apart share a few sets of the cache, the more so the
# further they are apart.
STAMPED_LARGE, STAMPED_SMALL = (1 << 20) - 64, (4 << 10) - 64
# In a ring of either: as many heads, and no more of them than any cache holds, since only heads are touched.
STAMPED_RECORDS = 64


def stamp(ctx):
    """Records a second to nowhere, signed and not, one record a turn: 1 MiB against 4 KiB, which cost the same."""
    key = h.scratch("sign.key")
    key.write_bytes(b"signs nothing but what perf/run.py measures\n")

    def run(size, signed):
        # The turn's own cost is then in both alike; it would be shared by 256 records of 4 KiB.
        one_a_turn = ["--block-size", size, "--queue-depth", 1, "--ring-size", STAMPED_RECORDS * size]
        made = engine(ctx, f"{size} B{' signed' if signed else ''}", "null", "--payload-size", size, *one_a_turn,
                      "--cores", "0", "--parallel", "1", *signed, poll="busy")
        made.facts["records_per_second"] = made.facts["totals"]["records_produced"] / made.seconds
        return made

    runs, checks = [], []
    for what, signed in (("not signed", []), ("signed", ["--sign-key", h.relative(key)])):
        pairs = h.alternate(ctx.pairs, lambda: run(STAMPED_LARGE, signed), lambda: run(STAMPED_SMALL, signed))
        found = h.ratios(pairs, lambda made: made.facts["records_per_second"])
        checks.append(h.at_least(f"{what}: records a second, 1 MiB / 4 KiB", 0.8, found))
        runs += pairs
    return runs, checks


SKIP_SECONDS = 0.3


def drain(ctx, mode, seconds=None):
    return ["taskset", "-c", "1", h.peer("drain"), mode, seconds or ctx.seconds, SKIP_SECONDS]


def stdout_engine(ctx, mode, *flags):
    """The engine on core 0 into a drain on core 1, which goes away first."""
    words = [ctx.engine, "run", "--target", "stdout", "--duration", f"{ctx.seconds + 5}s", "--poll", "adaptive",
             "--cores", "0", "--parallel", "1", "--payload-size", "4096", "--log-format", "json", *flags]
    return h.measure_pipe("engine", words, drain(ctx, mode), codes=(0,))


def yes(ctx, mode="read"):
    return h.measure_pipe("yes", ["taskset", "-c", "0", "yes"], drain(ctx, mode))


def best_write_loop(ctx):
    """Tries block and pipe sizes; returns the fastest write loop's words."""
    best, fastest = None, 0
    blocks = [1 << 16] if ctx.smoke else [1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20]
    for pipe in (0, 1 << 20):
        for block in blocks:
            words = ["taskset", "-c", "0", h.peer("writeloop"), block, pipe]
            run = h.measure_pipe("write loop", words, drain(ctx, "read", min(1, ctx.seconds)))
            if run.bytes_per_second > fastest:
                best, fastest = words, run.bytes_per_second
    print(f"    best write loop: {h.words(best)} at {h.gigabytes(fastest)}")
    return best


def stdout_stamped(ctx):
    """Stamped records into a pipe that is read 1 MiB at a time, against a bare write loop."""
    loop = best_write_loop(ctx)
    runs = h.alternate(ctx.pairs, lambda: stdout_engine(ctx, "read"),
                       lambda: h.measure_pipe("write loop", loop, drain(ctx, "read")))
    return runs, [h.at_least("rate, engine / write loop", 0.95, h.ratios(runs, lambda run: run.bytes_per_second))]


def stdout_unstamped(ctx):
    """Unstamped records into a pipe that is read 1 MiB at a time, against yes."""
    runs = h.alternate(ctx.pairs, lambda: stdout_engine(ctx, "read", "--annotate", "off"), lambda: yes(ctx))
    return runs, [h.at_least("rate, engine / yes", 3.3, h.ratios(runs, lambda run: run.bytes_per_second))]


def stdout_splice(ctx):
    """Unstamped records into a pipe that is spliced to /dev/null, against yes."""
    runs = h.alternate(ctx.pairs, lambda: stdout_engine(ctx, "splice", "--annotate", "off"),
                       lambda: yes(ctx, "splice"))
    return runs, [h.at_least("rate, engine / yes", 6, h.ratios(runs, lambda run: run.bytes_per_second))]


def verify(ctx):
    """Reading back and checking every byte, against writing it, on the same cores and tmpfs."""
    def write():
        return engine(ctx, "engine run", f"file:{ctx.tmpfs}/", *tmpfs_flags(ctx))

    def check():
        size = sum(path.stat().st_size for path in ctx.tmpfs.glob("payloads.*.bin"))
        peak = h.scratch("peak-kib.txt")
        # What the kernel gives for a child counts what it was before exec: this harness, if that is larger.
        timed = ["/usr/bin/time", "--format=%M", f"--output={h.relative(peak)}"]
        run, _ = h.measure("engine verify", [*timed, "taskset", "-c", "0,1", ctx.engine, "verify", ctx.tmpfs])
        run.max_rss_bytes = int(peak.read_text(encoding="utf-8")) * 1024
        run.bytes, run.seconds = size, run.wall_seconds
        run.bytes_per_second = size / run.wall_seconds
        return run

    write()
    runs = []
    for pair in range(ctx.pairs):
        wrote, checked = write(), check()  # What is verified must have been written: this order only.
        note = " moved" if h.book(pair, [checked, wrote]) else ""
        print(f"    {pair + 1}/{ctx.pairs} verify {h.gigabytes(checked.bytes_per_second)}, "
              f"run {h.gigabytes(wrote.bytes_per_second)}, {checked.max_rss_bytes >> 20} MiB{note}", flush=True)
        runs.append([checked, wrote])
    most = max(checked.max_rss_bytes for checked, _ in runs)
    bars = [h.at_least("rate, verify / run", 1.0, h.ratios(runs, lambda run: run.bytes_per_second)),
            h.Check("memory of verify at most 64 MiB, whatever the size", f"{most >> 20} MiB", most <= 64 << 20)]
    return runs, bars
