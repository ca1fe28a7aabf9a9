"""Runs peers by turns, keeps the raw numbers, and says how far they spread."""

import hashlib
import itertools
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GIGABYTE = 1e9


class RowError(Exception):
    """A command failed: nothing was measured."""


class Missing(RowError):
    """What a row measures against is not on this machine; a smoke run says so and goes on."""


@dataclass
class Run:
    """One run of one peer."""

    peer: str
    command: str
    bytes: float = 0
    seconds: float = 0
    bytes_per_second: float = 0
    cpu_user_seconds: float = 0
    cpu_system_seconds: float = 0
    max_rss_bytes: int = 0
    wall_seconds: float = 0
    load_average: float = 0
    # How far apart the two processors were, before the run and after it.
    hop_ns: list = field(default_factory=list)
    pair: int = -1
    # Whether the processors moved during this pair, which then compares two machines.
    moved: bool = False
    facts: dict = field(default_factory=dict)

    @property
    def cpu_seconds_per_gigabyte(self):
        used = self.cpu_user_seconds + self.cpu_system_seconds
        return used / (self.bytes / GIGABYTE) if self.bytes else float("nan")

    def as_json(self):
        return asdict(self) | {"cpu_seconds_per_gigabyte": self.cpu_seconds_per_gigabyte}


@dataclass
class Check:
    """One bar: a sentence, the value that was met, and whether that passes."""

    bar: str
    value: str
    passed: bool


@dataclass
class Figures:
    """The figure of each pair that compares one machine with itself, and how many pairs there were in all."""

    steady: list
    pairs: int


def start(command, **options):
    """Starts a command (a list of words) at the project's root."""
    return subprocess.Popen([str(word) for word in command], cwd=ROOT, **options)


@contextmanager
def running(command, **options):
    """A process to be finished inside; what fails there leaves nothing running."""
    process = start(command, **options)
    try:
        yield process
    except BaseException:
        process.kill()
        process.wait()
        raise


def finish(process, run, codes=(0,)):
    """Waits for a process and books its processor time (children that it waited for included) on `run`."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    run.cpu_user_seconds, run.cpu_system_seconds = usage.ru_utime, usage.ru_stime
    run.max_rss_bytes = usage.ru_maxrss * 1024
    if process.returncode not in codes:
        raise RowError(f"exit code {process.returncode} of: {run.command}")


def words(command):
    return " ".join(str(word) for word in command)


def measure(peer, command, codes=(0,)):
    """Runs a command to its end. Returns (Run without a rate, its standard output)."""
    run = Run(peer, words(command), load_average=os.getloadavg()[0], hop_ns=[hop_ns()])
    began = time.monotonic()
    with open(scratch("stderr.txt"), "w+", encoding="utf-8") as errors:
        with running(command, stdout=subprocess.PIPE, stderr=errors) as process:
            output = process.stdout.read().decode()
            try:
                finish(process, run, codes)
            except RowError as error:
                errors.seek(0)
                raise RowError(f"{error}\n{errors.read()[-2000:]}") from None
    run.wall_seconds = time.monotonic() - began
    run.hop_ns.append(hop_ns())
    return run, output


def measure_pipe(peer, command, drain, codes=(0, 1, -13)):
    """Runs `command | drain`; the rate is the drain's, the processor time the command's. The drain goes away
    first: most commands then end by SIGPIPE (-13) or by a failed write (1)."""
    run = Run(peer, f"{words(command)} | {words(drain)}", load_average=os.getloadavg()[0], hop_ns=[hop_ns()])
    reader, writer = os.pipe()
    began = time.monotonic()
    with open(scratch("stderr.txt"), "w", encoding="utf-8") as errors:
        with running(command, stdout=writer, stderr=errors) as process:
            with running(drain, stdin=reader, stderr=subprocess.PIPE) as consumer:
                os.close(reader)
                os.close(writer)
                seen = consumer.stderr.read().decode()
                if consumer.wait() != 0:
                    raise RowError(f"{words(drain)}: {seen}")
            finish(process, run, codes)
    run.wall_seconds = time.monotonic() - began
    run.hop_ns.append(hop_ns())
    facts = json.loads(seen)
    run.facts = {"first_byte_after_seconds": facts["first_byte"] - began, "total_bytes": facts["total"]}
    run.bytes, run.seconds = facts["bytes"], facts["seconds"]
    if not run.seconds or not run.bytes:
        raise RowError(f"nothing came through the pipe: {run.command}")
    run.bytes_per_second = run.bytes / run.seconds
    # Processor time is the whole run's, and so must the bytes be that it is divided by.
    run.bytes = facts["total"]
    return run


# Of runs that one another may be compared to: the processors are no more than this times as far apart in one as in another.
MOVED = 1.8
# Pairs that were run again since the processors moved during them. Kept for the record.
set_aside = []


def hop_ns():
    """Nanoseconds to hand a cache line between the first two processors; None where there is one."""
    if len(os.sched_getaffinity(0)) < 2:
        return None
    # The least of three: a thread that is not running hands nothing on.
    return min(float(first_line([ROOT / peer("hop"), 0, 1])) for _ in range(3))


def moved(runs):
    """Whether a hypervisor moved the processors, nearer to each other or further apart, between or during the runs.
    Where nobody looked, nobody knows, so they may have."""
    if not all(run.hop_ns for run in runs):
        return True
    hops = [hop for run in runs for hop in run.hop_ns if hop]
    return bool(hops) and max(hops) > MOVED * min(hops)


def book(pair, runs):
    """Notes on the runs of a pair which one it is, and whether the processors moved during it. Returns the latter."""
    during = moved(runs)
    for run in runs:
        run.pair, run.moved = pair, during
    return during


def alternate(pairs, first, second):
    """Runs two peers by turns, changing who goes first. Returns the runs, pair by pair. A pair between whose runs the
    processors moved compares nothing: it is set aside and run again, as often as there are pairs. Those that come after
    that are kept, and no figure is made of them."""
    runs, again = [], pairs if pairs > 1 else 0
    while len(runs) < pairs:
        pair = len(runs)
        both = [first(), second()] if pair % 2 == 0 else [second(), first()][::-1]
        during = book(pair, both)
        aside = during and again > 0
        note = " set aside" if aside else " moved" if during else ""
        for run in both:
            far = "/".join(f"{hop:.0f}" for hop in run.hop_ns if hop)
            rate = gigabytes(run.bytes_per_second)
            print(f"    {pair + 1}/{pairs} {run.peer:16} {rate:>10} hop {far} ns{note}", flush=True)
        if aside:
            again -= 1
            set_aside.append(both)
        else:
            runs.append(both)
    return runs


def figures(pairs, value):
    """What `value` says of each pair during which the processors did not move."""
    return Figures([value(*pair) for pair in pairs if not pair[0].moved], len(pairs))


def ratios(pairs, value):
    """first / second for each of these."""
    return figures(pairs, lambda first, second: value(first) / value(second))


# Fewer pairs than these that did not move are not judged, where a row does not ask for more.
LEAST_PAIRS = 5


def judge(bar, found, met, least=LEAST_PAIRS, form=".3f"):
    """Whether the median is as it must be. Too few pairs that did not move pass nothing, nor do pairs most of which
    moved."""
    disturbed = found.pairs - len(found.steady)
    counted = f"{disturbed} of {found.pairs} pairs moved" if disturbed else f"{found.pairs} pairs"
    if not found.steady:
        return Check(bar, f"not judged: {counted}", False)
    median = statistics.median(found.steady)
    value = f"{median:{form}} ({min(found.steady):{form}} to {max(found.steady):{form}}, {counted})"
    if len(found.steady) < least:
        return Check(bar, f"not judged: {len(found.steady)} of at least {least} steady pairs; {value}", False)
    if 2 * disturbed > found.pairs:
        return Check(bar, f"not judged: {value}", False)
    return Check(bar, value, met(median))


def at_least(what, bar, found, least=LEAST_PAIRS):
    return judge(f"{what}: median at least {bar}", found, lambda median: median >= bar, least)


def at_most(what, bar, found, least=LEAST_PAIRS):
    return judge(f"{what}: median at most {bar}", found, lambda median: median <= bar, least)


def gigabytes(bytes_per_second):
    return f"{bytes_per_second / GIGABYTE:.3f} GB/s"


def scratch(name):
    """A path below target/perf, relative to the root, so that commands read the same everywhere."""
    folder = ROOT / "target" / "perf"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def relative(path):
    return os.path.relpath(path, ROOT)


# What a peer is linked with, and the Debian package that has it.
LIBRARIES = {"rdkafka_producer": ("-lrdkafka", "librdkafka-dev")}


def peer(name):
    """Where perf/peers/NAME.c is compiled to, which is done where the source is newer."""
    source, binary = ROOT / "perf" / "peers" / f"{name}.c", scratch(name)
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        library, package = LIBRARIES.get(name, (None, "gcc libc6-dev"))
        command = ["cc", "-O2", "-pthread", "-o", binary, source, *([library] if library else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RowError(f"{words(command)}: {done.stderr[-2000:]}\ndoes it need: sudo apt-get install {package}")
    return relative(binary)


def first_line(command):
    try:
        done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return (done.stdout or done.stderr).strip().split("\n")[0] or None


def read_text(path):
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def cpu_model():
    found = re.search(r"model name\s*:\s*(.+)", read_text("/proc/cpuinfo") or "")
    return found.group(1).strip() if found else platform.machine()


def machine(folders):
    memory = re.search(r"MemTotal:\s*(\d+) kB", read_text("/proc/meminfo") or "")
    return {
        "cpu": cpu_model(),
        "cpus_usable": len(os.sched_getaffinity(0)),
        "memory_bytes": int(memory.group(1)) * 1024 if memory else None,
        "kernel": platform.release(),
        "governor": read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "clocksource": read_text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "transparent_hugepages": read_text("/sys/kernel/mm/transparent_hugepage/enabled"),
        "tcp_congestion_control": read_text("/proc/sys/net/ipv4/tcp_congestion_control"),
        "virtualisation": first_line(["systemd-detect-virt"]),
        "memlock": first_line(["sh", "-c", "ulimit -l"]),
        "file_systems": {name: first_line(["stat", "-f", "-c", "%T", str(path)]) for name, path in folders.items()},
    }


def origin(engine):
    """Which binary it is, what it was built from, and the tree that measures it. Asked before a row: while one runs, a
    commit may be made and another binary built."""
    path = ROOT / engine
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # What scripts/build.sh left beside the binary; it says nothing of another one that was put in its place.
    note = json.loads(read_text(f"{path}.commit") or "{}")
    modified = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
    return {
        "engine": first_line([engine, "--version"]),
        "engine_sha256": digest,
        "engine_modified_at": modified.isoformat(timespec="seconds"),
        "built_from": note if note.get("sha256") == digest else None,
        "commit": first_line(["git", "rev-parse", "HEAD"]),
        # Results that are not committed yet change nothing.
        "uncommitted_changes": bool(first_line(["git", "status", "--porcelain", "--", ".", ":!perf/runs"])),
    }


def tool_versions():
    return {
        "fio": first_line(["fio", "--version"]),
        "cc": first_line(["cc", "--version"]),
        "yes": first_line(["yes", "--version"]),
        "wrk": first_line(["wrk", "-v"]),
        "nginx": first_line(["nginx", "-v"]),
        "iperf3": first_line(["iperf3", "--version"]),
        "librdkafka": first_line([scratch("rdkafka_producer"), "--version"]),
        "java": first_line(["java", "-version"]),
        "python": platform.python_version(),
    }


def host_class():
    """A name for machines of one kind: never the host's own name."""
    model = re.sub(r"\(.*?\)|@.*|cpu|processor", " ", cpu_model().lower())
    slug = re.sub(r"[^a-z0-9]+", "-", model).strip("-")
    return f"{len(os.sched_getaffinity(0))}cpu-{slug}"


def unused(folder, name):
    """`name`, or the first of name-2, name-3 … that no result in the folder has: a series never overwrites another."""
    numbered = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(stem for stem in numbered if not (folder / f"{stem}.json").exists())


def write_result(folder, name, title, settings, runs, checks, facts):
    """ROW.json (everything) and ROW.md (what a person reads). Returns the latter's path."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = unused(folder, name)
    page = folder / f"{stem}.md"
    flat = [run for group in runs for run in group]
    result = {
        "row": name,
        "title": title,
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "passed": all(check.passed for check in checks),
        "checks": [asdict(check) for check in checks],
        "settings": settings,
        **facts,
        "runs": [run.as_json() for run in flat],
        "set_aside": [run.as_json() for both in set_aside for run in both],
    }
    set_aside.clear()
    (folder / f"{stem}.json").write_text(json.dumps(result, indent=1, default=str) + "\n", encoding="utf-8")
    page.write_text(markdown(result, flat), encoding="utf-8")
    return page


def markdown(result, runs):
    lines = [f"# {result['row']}: {result['title']}", "", f"Measured {result['measured_at']}.", ""]
    lines += ["| bar | met | |", "|---|---|---|"]
    for check in result["checks"]:
        lines.append(f"| {check['bar']} | {check['value']} | {'pass' if check['passed'] else 'MISS'} |")
    if result["set_aside"]:
        lines += ["", f"{len(result['set_aside']) // 2} pairs were set aside: the processors moved between their runs."]
    lines += ["", "| pair | peer | rate | CPU s/GB | wall s | load | hop ns |", "|---|---|---|---|---|---|---|"]
    for run in runs:
        cpu = f"{run.cpu_seconds_per_gigabyte:.4f}"
        rate = gigabytes(run.bytes_per_second)
        far = " ".join(f"{hop:.0f}" for hop in run.hop_ns if hop) + (" moved" if run.moved else "")
        lines.append(f"| {run.pair + 1} | {run.peer} | {rate} | {cpu} | {run.wall_seconds:.2f} | {run.load_average:.2f} | {far} |")
    lines += ["", "Commands:", "", "```sh", *dict.fromkeys(run.command for run in runs), "```", ""]
    for title in ("machine", "versions", "settings"):
        lines += [f"{title.capitalize()}: `{json.dumps(result[title], default=str)}`", ""]
    return "\n".join(lines)


def remove(path):
    path = Path(path)
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
