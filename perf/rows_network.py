"""Rows over TCP and HTTP: the sender on core 0, the other end on core 1; and what governance costs."""

import json
import time
from pathlib import Path

import harness as h
import servers
from rows_throughput import engine, engine_words, read_report, tmpfs_flags
from servers import against

CORE = ["--cores", "0", "--parallel", "1"]
RECORD_BYTES = 4096
BODY_BYTES = 1 << 20
CONNECTIONS = 8
# Two bodies on their way hide the wait for an answer; more of them only fall out of the cache.
BODY_CONNECTIONS = 2


def pinned(name, *words):
    return ["taskset", "-c", "0", h.peer(name), *words]


def rate(run):
    return run.bytes_per_second


def cpu_per_gigabyte(run):
    return run.cpu_seconds_per_gigabyte


def ring_bytes(ctx, target, *flags):
    """How large a payload ring the engine takes for itself: what a bare loop sends from, too."""
    _, output = h.measure("dry run", [*engine_words(ctx, target, *flags), "--dry-run"])
    return json.loads(output)["ring_bytes_total"]


def send_loop(ctx, there, block, ring, seconds=None):
    run, output = h.measure("send loop", pinned("send", there.address, block, seconds or ctx.seconds, ring))
    done = json.loads(output)
    run.bytes, run.seconds = done["bytes"], done["seconds"]
    run.bytes_per_second = run.bytes / run.seconds
    return run


def best_send_block(ctx, ring):
    """Tries block sizes; returns the fastest."""
    found = {}
    for block in [1 << 20] if ctx.smoke else [1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20]:
        run = against(servers.receiver(ctx, "tcp"),
                      lambda there, block=block: send_loop(ctx, there, block, max(ring, block), min(1, ctx.seconds)))
        found[block] = run.bytes_per_second
    best = max(found, key=found.get)
    print(f"    best send loop: blocks of {best} bytes at {h.gigabytes(found[best])}")
    return best


def tcp_engine(ctx, server, *flags, peer="engine", poll="busy"):
    def send(there):
        return engine(ctx, peer, f"tcp://{there.address}", *CORE, "--payload-size", RECORD_BYTES, *flags, poll=poll)

    return against(server, send)


def tcp(ctx):
    """TCP to a receiver that truncates and busy-polls, against a bare blocking send loop from as large a buffer."""
    ring = ring_bytes(ctx, "tcp://127.0.0.1:9", *CORE, "--payload-size", RECORD_BYTES)
    block = best_send_block(ctx, ring)
    runs = h.alternate(ctx.pairs, lambda: tcp_engine(ctx, servers.receiver(ctx, "tcp")),
                       lambda: against(servers.receiver(ctx, "tcp"),
                                       lambda there: send_loop(ctx, there, block, max(ring, block))))
    return runs, [h.at_least("throughput, engine / send loop", 0.85, h.ratios(runs, rate))]


def iperf3(ctx, there):
    words = ["taskset", "-c", "0", "iperf3", "--client", there.host, "--port", there.port, "--length", "1M", "--time",
             max(1, int(ctx.seconds)), "--json"]
    run, output = h.measure("iperf3", words)
    got = json.loads(output)["end"]["sum_received"]
    run.bytes, run.seconds = got["bytes"], got["seconds"]
    run.bytes_per_second = run.bytes / run.seconds
    return run


def tcp_copy(ctx):
    """TCP to a receiver that copies as iperf3's server does, against iperf3 -l 1M to that server."""
    runs = h.alternate(ctx.pairs, lambda: tcp_engine(ctx, servers.copying_receiver(), poll="adaptive"),
                       lambda: against(servers.iperf3(), lambda there: iperf3(ctx, there)))
    bare = against(servers.copying_receiver(), lambda there: send_loop(ctx, there, 1 << 20, 1 << 20))
    # Says whether the two receivers are alike: iperf3's client is such a loop, too.
    print(f"    a bare send loop to the copying receiver: {h.gigabytes(bare.bytes_per_second)}")
    checks = [h.at_least("throughput, engine / iperf3", 0.98, h.ratios(runs, rate)),
              h.at_most("CPU for each GB, engine / iperf3", 1.0, h.ratios(runs, cpu_per_gigabyte))]
    return [*runs, [bare]], checks


def back_ends(ctx, what, run):
    runs = h.alternate(ctx.pairs, lambda: run("syscall"), lambda: run("uring"))
    return runs, h.at_least(f"{what}: throughput, syscall / uring", 0.85, h.ratios(runs, rate))


def tcp_syscall(ctx):
    """The syscall back end against io_uring over TCP, to both kinds of receiver."""
    def truncating(io):
        return tcp_engine(ctx, servers.receiver(ctx, "tcp"), "--io", io, peer=f"engine {io}")

    def copying(io):
        return tcp_engine(ctx, servers.copying_receiver(), "--io", io, peer=f"engine {io}", poll="adaptive")

    first, one = back_ends(ctx, "truncating receiver", truncating)
    second, other = back_ends(ctx, "copying receiver", copying)
    return [*first, *second], [one, other]


def requests_per_second(run):
    return run.facts["requests_per_second"]


def cpu_per_request(run):
    return (run.cpu_user_seconds + run.cpu_system_seconds) / run.facts["requests"]


def http_engine(ctx, server, size, *flags, peer="engine", poll="adaptive", connections=CONNECTIONS):
    def send(there):
        run = engine(ctx, peer, f"http://{there.address}/", *CORE, "--connections", connections, "--payload-size", size,
                     *flags, poll=poll)
        run.facts["requests"] = run.facts["totals"]["records_produced"]
        run.facts["requests_per_second"] = run.facts["requests"] / run.seconds
        return run

    return against(server, send)


def wrk(ctx, server, size):
    def send(there):
        words = ["taskset", "-c", "0", "wrk", "--threads", 1, "--connections", CONNECTIONS, "--duration",
                 f"{max(1, int(ctx.seconds))}s", "--script", "perf/peers/post.lua", f"http://{there.address}/", "--", size]
        run, output = h.measure("wrk", words)
        done = json.loads(output.strip().split("\n")[-1])
        if done["errors"] or not done["requests"]:
            raise h.RowError(f"{done['errors']} errors in {done['requests']} requests: {run.command}")
        run.bytes, run.seconds = done["requests"] * size, done["seconds"]
        run.bytes_per_second = run.bytes / run.seconds
        run.facts = {"requests": done["requests"], "requests_per_second": done["requests"] / run.seconds}
        return run

    return against(server, send)


def http_nginx_4k(ctx):
    """POSTs of 4 KiB to nginx, which is the limit, against wrk: 8 connections each."""
    runs = h.alternate(ctx.pairs, lambda: http_engine(ctx, servers.nginx(), RECORD_BYTES),
                       lambda: wrk(ctx, servers.nginx(), RECORD_BYTES))
    return runs, [h.at_least("throughput, engine / wrk", 0.98, h.ratios(runs, requests_per_second)),
                  h.at_most("CPU for each request, engine / wrk", 0.85, h.ratios(runs, cpu_per_request))]


def http_nginx_1m(ctx):
    """POSTs of 1 MiB to nginx, which is the limit, against wrk: 8 connections each."""
    runs = h.alternate(ctx.pairs, lambda: http_engine(ctx, servers.nginx(), BODY_BYTES),
                       lambda: wrk(ctx, servers.nginx(), BODY_BYTES))
    return runs, [h.at_least("throughput, engine / wrk", 0.98, h.ratios(runs, rate)),
                  h.at_most("CPU for each GB, engine / wrk", 1.0, h.ratios(runs, cpu_per_gigabyte))]


def http_receive(ctx):
    """POSTs of 4 KiB to a receiver that busy-polls, without pipelining, against wrk: 8 connections each."""
    runs = h.alternate(ctx.pairs, lambda: http_engine(ctx, servers.receiver(ctx, "http"), RECORD_BYTES, poll="busy"),
                       lambda: wrk(ctx, servers.receiver(ctx, "http"), RECORD_BYTES))
    return runs, [h.at_least("requests a second, engine / wrk", 1.3, h.ratios(runs, requests_per_second))]


def http_bodies(ctx, *flags, peer="engine http"):
    return http_engine(ctx, servers.receiver(ctx, "http"), BODY_BYTES, *flags, peer=peer, poll="busy",
                       connections=BODY_CONNECTIONS)


def http_tcp(ctx):
    """POSTs of 1 MiB to a receiver that busy-polls, against the engine's own TCP to one."""
    runs = h.alternate(ctx.pairs, lambda: http_bodies(ctx),
                       lambda: tcp_engine(ctx, servers.receiver(ctx, "tcp"), peer="engine tcp"))
    return runs, [h.at_least("throughput, http / tcp", 0.8, h.ratios(runs, rate))]


def http_syscall(ctx):
    """The syscall back end against io_uring over HTTP, 4 KiB and 1 MiB, to nginx and to a receiver that busy-polls."""
    def small(io):
        return http_engine(ctx, servers.receiver(ctx, "http"), RECORD_BYTES, "--io", io, peer=f"engine {io}", poll="busy")

    def large(io):
        return http_bodies(ctx, "--io", io, peer=f"engine {io}")

    def small_nginx(io):
        return http_engine(ctx, servers.nginx(), RECORD_BYTES, "--io", io, peer=f"engine {io}")

    def large_nginx(io):
        return http_engine(ctx, servers.nginx(), BODY_BYTES, "--io", io, peer=f"engine {io}")

    cases = [("4 KiB to the receiver", small), ("1 MiB to the receiver", large), ("4 KiB to nginx", small_nginx),
             ("1 MiB to nginx", large_nginx)]
    runs, checks = [], []
    for what, run in cases:
        these, check = back_ends(ctx, what, run)
        runs += these
        checks.append(check)
    return runs, checks


def core_thread_seconds(pid, core):
    """Processor time so far of the thread that runs the core; None before it is there."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if h.read_text(task / "comm") == f"core-{core}":
            return int(h.read_text(task / "schedstat").split()[0]) / 1e9
    return None


GOVERNED_RATE = 1_000_000_000


def governed(ctx, peer, url=None):
    """One run at a fixed rate, its core thread's time taken between two moments in the middle."""
    seconds = max(ctx.seconds, 3)
    settle, window = seconds * 0.2, seconds * 0.6
    told = ["--governance-url", url, "--governance-every", 1000] if url else []
    flags = [*tmpfs_flags(ctx, 1), "--rate", GOVERNED_RATE, *told]
    words = engine_words(ctx, f"file:{ctx.tmpfs}/", *flags, seconds=seconds)
    run = h.Run(peer, h.words(words), load_average=h.os.getloadavg()[0], hop_ns=[h.hop_ns()])
    began = time.monotonic()
    used, moments = [], []
    with open(h.scratch("stderr.txt"), "w+", encoding="utf-8") as errors, h.running(words, stderr=errors) as process:
        while core_thread_seconds(process.pid, 0) is None:
            if process.poll() is not None or time.monotonic() - began > servers.READY_SECONDS:
                errors.seek(0)
                raise h.RowError(f"no core started: {run.command}\n{errors.read()[-2000:]}")
            time.sleep(0.01)
        for pause in (settle, window):
            time.sleep(pause)
            moments.append(time.monotonic())
            used.append(core_thread_seconds(process.pid, 0))
        h.finish(process, run)
    run.wall_seconds = time.monotonic() - began
    run.hop_ns.append(h.hop_ns())
    report = read_report()
    run.bytes, run.seconds = report["totals"]["bytes_produced"], report["elapsed_seconds"]
    run.bytes_per_second = report["throughput"]["bytes_per_second"]
    if None in used:
        raise h.RowError(f"the run was over too soon: {run.command}")
    kept = run.bytes_per_second / GOVERNED_RATE
    # A smoke run judges nothing, and may be a slow build on a slow machine.
    if not ctx.smoke and abs(kept - 1) > 0.01:
        raise h.RowError(f"{100 * kept:.1f} % of the rate were kept: {run.command}")
    gigabytes = GOVERNED_RATE / h.GIGABYTE * (moments[1] - moments[0])
    run.facts = {"core_cpu_seconds_per_gigabyte": (used[1] - used[0]) / gigabytes, "governance": report.get("governance")}
    return run


def governance(ctx):
    """What telling a governance API of one record in 1000 costs the core, at 1 GB/s to tmpfs; and a dead API."""
    def plain():
        return governed(ctx, "no governance")

    def told():
        return against(servers.governance(), lambda there: governed(ctx, "told", f"http://{there.address}"))

    def dead():
        port = servers.free_port()
        run = governed(ctx, "dead server", f"http://127.0.0.1:{port}")
        run.command = run.command.replace(f":{port}", ":PORT")
        return run

    plain()  # Lays the file out, so that every measured run overwrites it.
    runs, checks = [], []
    for what, other in (("1 in 1000", told), ("1 in 1000, dead server", dead)):
        pairs = h.alternate(ctx.pairs, other, plain)
        ratios = h.ratios(pairs, lambda run: run.facts["core_cpu_seconds_per_gigabyte"])
        checks.append(h.at_most(f"{what}: the core thread's CPU for each GB, with / without", 1.01, ratios))
        runs += pairs
    books = [run.facts["governance"] for run, _ in runs if run.peer == "told"]
    lost = sum(book["events_offered"] - book["posted"] for book in books)
    checks.append(h.Check("a server that lives hears of every one", f"{lost} missed", lost == 0))
    counted = [run.facts["governance"] for run, _ in runs if run.peer == "dead server"]
    missing = sum(book["events_offered"] - book["dropped"] - book["failed"] for book in counted)
    checks.append(h.Check("with a dead one, each is counted", f"{missing} not counted", missing == 0))
    return runs, checks
