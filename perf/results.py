"""What came of every bar: the newest series of each row, for each class of machine, judged by the rules of today as far
as it can be."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import harness as h
from rows_kafka import RECEIVE_PAIRS
from rows_throughput import FAST_BARS, FILE_PAIRS

RUNS = h.ROOT / "perf" / "runs"
PAGE = h.ROOT / "perf" / "RESULTS.md"
COMMAND = "perf/run.py results"

MET, MISSED, NOT_JUDGED = "met", "**missed**", "not judged"
# What a bar speaks of that was measured or judged otherwise: until when, and how. A series from before says nothing of
# today's bar. Whoever changes a row, its peer or its rule writes the moment of doing so down here.
CHANGED = {
    "engine / fio": ("2026-11-29T20:58:58+00:00", "fio was not pinned, scrambled its buffers and timed each write"),
    "engine / librdkafka": ("2026-11-29T20:58:58+00:00", "librdkafka left Nagle's algorithm on"),
    "engine / iperf3": ("2026-11-29T11:04:59+00:00", "the engine's receiver had a buffer that began within a page"),
    "copying receiver": ("2026-11-29T11:04:59+00:00", "it had a buffer that began within a page"),
    "everybody kept the rate": ("2026-11-29T08:43:53+00:00", "only the slowest was looked at"),
    "calm seconds within": ("2026-11-30T03:53:23+00:00",
                            "catching up of a stall counted against it, and where no second was calm it was met"),
    "resident memory": ("2026-11-30T03:53:23+00:00", "page, SLO, stages and governance were off"),
}
# The mark of each result: it is of the rows and rules as they were from then on.
DEFINED_AT = max(moment for moment, _ in CHANGED.values())
# What `harness.judge` is given for these rows; the others have its own.
LEAST_PAIRS = {"file": FILE_PAIRS, "kafka-receive": RECEIVE_PAIRS, "kafka-receive-512": RECEIVE_PAIRS}
# A figure with its spread is one of pairs.
SPREAD = re.compile(r"\([^()]* to [^()]*\)")
# Steps of a rate and points of the plan have one bar: which they are depends on the machine.
STEP = re.compile(r"^.*(?: at \d+ B/s:?|, \d+ B, \d+ producers:) (?P<bar>.*)$")

HEAD = f"""\
# Results

What each bar of [the benchmarks](README.md) came to: the newest series of its row on each class of machine, which is
the end of a folder's name in `runs/`. Written by `{COMMAND}`, and a test wants it so.

- Each cell says whether the bar is met, the figure, and the page that has its commands and runs. Older series of a row
  lie beside it, and may say otherwise.
- Pairs are judged by today's rules in older series too: fewer steady ones than asked for, or pairs most of which
  moved, are not judged. Where nobody looked whether the processors moved, none is steady. What such a series says
  of its spread is of all its pairs.
- "The row was another one": the row, its peer or its rule has changed since that series, which so says nothing of
  today's bar. In brackets is how it was.
- A row that takes steps of a rate, or points of the plan, says how many of them meet a bar.
- A dash: no series of that machine has the bar. "{FAST_BARS}" is asked only where the peer is fast enough; its
  cells are of the newest series that asked.

"""


@dataclass
class Series:
    """One result that was kept."""

    path: Path
    result: dict

    @property
    def host(self):
        return re.sub(r"^\d{4}-\d\d-\d\d-", "", self.path.parent.name)

    @property
    def source(self):
        page = self.path.with_suffix(".md")
        return f"[{self.result['measured_at'][:10]}](runs/{page.parent.name}/{page.name})"


def kept(runs):
    """Every series, the newest first."""
    found = [Series(path, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(runs.glob("*/*.json"))]
    return sorted(found, key=lambda series: series.result["measured_at"], reverse=True)


def comparisons(runs):
    """Of each comparison, which lie one after the other in a result: how many pairs are steady, and how many there
    are."""
    found, last = [], 0
    for run in runs:
        if run["pair"] < 0:
            continue
        if not found or run["pair"] < last:
            found.append({})
        last = run["pair"]
        found[-1].setdefault(last, []).append(SimpleNamespace(hop_ns=run.get("hop_ns", [])))
    return [(sum(not h.moved(pair) for pair in pairs.values()), len(pairs)) for pairs in found]


def pairs_of_checks(result):
    """How many steady pairs, and how many in all, the checks of a series rest on that was judged before there were
    rules for that."""
    if all("moved" in run for run in result["runs"]):
        return {}
    bars = [check["bar"] for check in result["checks"] if SPREAD.search(check["value"])]
    found = comparisons(result["runs"])
    # Several bars may rest on one comparison. Where it is not plain which on which, the least says enough.
    if len(found) != len(bars):
        found = [min(found, default=(0, 0))] * len(bars)
    return dict(zip(bars, found))


def before_a_change(result, bar):
    """How what the bar speaks of was measured or judged when the series was made, if otherwise than today."""
    # The first ones have no mark.
    known = result.get("defined_at", result["measured_at"])
    return next((before for what, (moment, before) in CHANGED.items() if what in bar and known < moment), None)


def judged(check, pairs, least):
    """The verdict on a check, and its figure; `pairs` if they are still to be judged."""
    value = check["value"]
    if value.startswith(f"{NOT_JUDGED}: "):
        return NOT_JUDGED, value.removeprefix(f"{NOT_JUDGED}: ")
    if pairs and pairs[0] < least:
        return NOT_JUDGED, f"{pairs[0]} of at least {least} steady pairs; {value}"
    if pairs and 2 * pairs[0] < pairs[1]:
        return NOT_JUDGED, f"{pairs[1] - pairs[0]} of {pairs[1]} pairs moved; {value}"
    return (MET if check["passed"] else MISSED), value


def bars_of(series):
    """The bars of a series, each with the verdicts and figures of all its steps."""
    result, found = series.result, {}
    pairs, least = pairs_of_checks(result), LEAST_PAIRS.get(result["row"], h.LEAST_PAIRS)
    for check in result["checks"]:
        if "(no bar" in check["bar"]:
            continue
        step = STEP.match(check["bar"])
        bar = step["bar"] if step else check["bar"]
        verdict, value = judged(check, pairs.get(check["bar"]), least)
        before = before_a_change(result, bar)
        if before:
            # Said once of all its steps.
            found[bar] = [(NOT_JUDGED, f"the row was another one ({before}){'' if step else f'; {value}'}")]
        else:
            found.setdefault(bar, []).append((verdict, value))
    return found


def cell(verdicts, source):
    if len(verdicts) == 1:
        (verdict, value), = verdicts
        return f"{verdict}: {value}, {source}"
    count = {verdict: sum(verdict == said for said, _ in verdicts) for verdict in (MISSED, NOT_JUDGED, MET)}
    worst = next(verdict for verdict in count if count[verdict])
    rest = "".join(f", {count[verdict]} {verdict.strip('*')}" for verdict in (MISSED, NOT_JUDGED) if count[verdict])
    return f"{worst}: {count[MET]} of {len(verdicts)} {MET}{rest}, {source}"


def newest_bars(series):
    """From the series of one row and machine, the newest first: each bar's cell."""
    found = {}
    for at, one in enumerate(series):
        bars = bars_of(one)
        if at > 0:
            # Which series asked for these depends on how fast the peer was on that day.
            asked = any(bar.startswith(FAST_BARS) for bar in found)
            bars = {bar: verdicts for bar, verdicts in bars.items() if bar.startswith(FAST_BARS) and not asked}
        found |= {bar: cell(verdicts, one.source) for bar, verdicts in bars.items()}
    return found


def page(rows, runs=RUNS):
    """The whole page."""
    series = [one for one in kept(runs) if one.result["row"] in rows]
    hosts = sorted({one.host for one in series})
    lines = ["| row | bar | " + " | ".join(hosts) + " |", "|---|---|" + "---|" * len(hosts)]
    for row in rows:
        cells = {host: newest_bars([one for one in series if (one.result["row"], one.host) == (row, host)])
                 for host in hosts}
        bars = dict.fromkeys(bar for found in cells.values() for bar in found)
        for bar in bars or ["not measured yet"]:
            lines.append(f"| `{row}` | {bar} | " + " | ".join(cells[host].get(bar, "–") for host in hosts) + " |")
    return HEAD + "\n".join(lines) + "\n"
