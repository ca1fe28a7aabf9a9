"""How rows are judged and kept, what the page of results says, how peers are run, and that a row that is ended leaves
nothing running."""

import hashlib
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import unittest
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import harness as h
import results
import rows_kafka
import rows_plan
import rows_throughput
import run
import servers

CALM = [50, 55]
MOVED = [50, 500]


def peers(hops):
    """Two peers, the first twice as fast; `hops` says for each pair what was seen around its runs."""
    def runs(peer, bytes_per_second):
        seen = iter(hops)
        return lambda: h.Run(peer, peer, bytes_per_second=bytes_per_second, hop_ns=next(seen))

    return runs("fast", 2e9), runs("slow", 1e9)


def alternated(pairs, hops):
    with redirect_stdout(StringIO()):
        return h.alternate(pairs, *peers(hops))


def rate(run):
    return run.bytes_per_second


def scratch_folder(test):
    folder = tempfile.TemporaryDirectory()
    test.addCleanup(folder.cleanup)
    return Path(folder.name)


class Judging(unittest.TestCase):
    def setUp(self):
        self.addCleanup(h.set_aside.clear)

    def test_pairs_that_did_not_move_are_judged(self):
        check = h.at_least("rate", 1.5, h.ratios(alternated(5, [CALM] * 5), rate))
        self.assertEqual((check.passed, check.value), (True, "2.000 (2.000 to 2.000, 5 pairs)"))
        self.assertEqual(h.set_aside, [])

    def test_a_pair_that_moved_is_run_again(self):
        runs = alternated(5, [CALM, MOVED, *[CALM] * 4])
        self.assertEqual([run.moved for pair in runs for run in pair], [False] * 10)
        self.assertEqual(len(h.set_aside), 1)

    def test_pairs_most_of_which_moved_pass_nothing(self):
        runs = alternated(10, [MOVED] * 20)
        self.assertEqual(len(h.set_aside), 10)
        for check in (h.at_least("rate", 0, h.ratios(runs, rate)), h.at_most("rate", 9, h.ratios(runs, rate))):
            self.assertEqual((check.passed, check.value), (False, "not judged: 10 of 10 pairs moved"))
        most = h.at_least("rate", 0, h.ratios(alternated(11, [*[MOVED] * 17, *[CALM] * 5]), rate))
        self.assertFalse(most.passed)
        self.assertEqual(most.value, "not judged: 2.000 (2.000 to 2.000, 6 of 11 pairs moved)")

    def test_runs_around_which_nobody_looked_are_not_steady(self):
        runs = alternated(5, [[]] * 10)
        self.assertEqual(len(h.ratios(runs, rate).steady), 0)

    def test_the_median_is_of_the_pairs_that_did_not_move(self):
        runs = alternated(7, [*[MOVED] * 9, *[CALM] * 5])
        for fast, _ in runs[:2]:
            fast.bytes_per_second = 100e9
        check = h.at_most("rate", 2, h.ratios(runs, rate))
        self.assertEqual((check.passed, check.value), (True, "2.000 (2.000 to 2.000, 2 of 7 pairs moved)"))

    def test_too_few_pairs_pass_nothing(self):
        found = h.ratios(alternated(5, [CALM] * 5), rate)
        check = h.at_least("rate", 1, found, 10)
        self.assertFalse(check.passed)
        self.assertTrue(check.value.startswith("not judged: 5 of at least 10 steady pairs"), check.value)
        self.assertTrue(h.at_least("rate", 1, found).passed)
        self.assertFalse(h.at_least("rate", 1, h.ratios(alternated(4, [CALM] * 4), rate)).passed)

    def test_pairs_that_moved_do_not_make_up_the_least(self):
        found = h.ratios(alternated(10, [*[MOVED] * 15, *[CALM] * 5]), rate)
        self.assertEqual((found.pairs, len(found.steady)), (10, 5))
        self.assertFalse(h.at_least("rate", 1, found, 10).passed)
        self.assertTrue(h.at_least("rate", 1, found, 5).passed)

    def test_the_page_says_which_pairs_moved(self):
        runs = alternated(5, [*[MOVED] * 6, *[CALM] * 4])
        result = {"row": "row", "title": "title", "measured_at": "now", "checks": [], "set_aside": [], "machine": {},
                  "versions": {}, "settings": {}}
        page = h.markdown(result, [run for pair in runs for run in pair])
        self.assertEqual(page.count("| 50 500 moved |"), 2)


def second(off=0, gap=0.0, caught_up=0, length=1.0):
    """One of a run at 1 MB/s with records of 1000 bytes."""
    return {"seconds": length, "bytes_produced": 1_000_000 + off, "loop_gap_max_seconds": gap,
            "catch_up_records": caught_up}


class Seconds(unittest.TestCase):
    def judged(self, *intervals):
        off, share = rows_throughput.seconds_checks("null", 1_000_000, 1000, {"intervals": list(intervals)})
        return off.passed, off.value, share.value

    def test_the_worst_calm_second_is_told_with_its_sign(self):
        self.assertEqual(self.judged(second(), second(-5000)), (True, "worst off by -5000 bytes in a second", "100 %"))
        self.assertEqual(self.judged(second(3000), second(5001)),
                         (False, "worst off by +5001 bytes in a second", "100 %"))

    def test_a_second_that_was_not_calm_is_not_judged(self):
        self.assertEqual(self.judged(second(), second(-90_000, gap=0.09)),
                         (True, "worst off by +0 bytes in a second", "50 %"))
        self.assertEqual(self.judged(second(-90_000, gap=0.09)),
                         (False, "not judged: no second was calm", "0 %"))
        # Nor is what was left of one at the end.
        self.assertEqual(self.judged(second(), second(-900_000, length=0.1))[1:],
                         ("worst off by +0 bytes in a second", "100 %"))

    def test_what_a_stall_left_behind_is_caught_up_in_calm_seconds(self):
        stalled = second(-100_000, gap=0.1, caught_up=20)
        self.assertEqual(self.judged(stalled, second(80_000, caught_up=400), second(20_000, caught_up=20), second()),
                         (True, "worst off by +0 bytes in a second", "75 %"))
        # More than was late is too much, and what comes after the catch-up is as any other.
        self.assertFalse(self.judged(stalled, second(80_000, caught_up=70))[0])
        self.assertFalse(self.judged(stalled, second(80_000, caught_up=80), second(), second(20_000, caught_up=20))[0])
        # Too little is too little.
        self.assertEqual(self.judged(stalled, second(-6000, caught_up=400))[1], "worst off by -6000 bytes in a second")

    def test_a_run_without_a_stall_has_nothing_to_catch_up(self):
        self.assertFalse(self.judged(second(), second(20_000, caught_up=20))[0])


def series(folder, name, day, checks, hops=(CALM,) * 5, mark=None, **of_runs):
    """A result as it is kept, of a comparison with so many pairs; the first ones have no mark."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = [{"pair": pair, "hop_ns": hop, **of_runs} for pair, hop in enumerate(hops) for _ in range(2)]
    checks = [{"bar": bar, "value": value, "passed": passed} for bar, value, passed in checks]
    result = {"row": "tcp", "measured_at": f"{day}T01:02:03+00:00", "checks": checks, "runs": runs}
    if mark:
        result["defined_at"] = mark
    (folder / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")


def lines_of(runs, *rows):
    _, table = results.page(rows or ["tcp"], runs).split("\n|---", 1)
    return table.splitlines()[1:]


class Results(unittest.TestCase):
    def test_the_page_is_that_of_the_results_that_are_kept(self):
        self.assertEqual(results.PAGE.read_text(encoding="utf-8"), results.page(list(run.ROWS)),
                         f"it is older than perf/runs or the rows: {results.COMMAND}")

    def test_the_newest_series_of_each_class_of_machine_is_told(self):
        runs = scratch_folder(self)
        series(runs / "2026-01-02-2cpu-one", "tcp-early", "2026-01-03", [("bar", "0.9 (0.8 to 1, 5 pairs)", False)])
        series(runs / "2026-01-02-2cpu-one", "tcp", "2026-01-02", [("bar", "1.1 (1 to 1.2, 5 pairs)", True)])
        series(runs / "2026-01-01-2cpu-two", "tcp", "2026-01-01", [("bar", "1.2 (1 to 1.3, 5 pairs)", True)])
        self.assertEqual(lines_of(runs, "tcp", "http-tcp"), [
            "| `tcp` | bar | **missed**: 0.9 (0.8 to 1, 5 pairs), [2026-01-03](runs/2026-01-02-2cpu-one/tcp-early.md) "
            "| met: 1.2 (1 to 1.3, 5 pairs), [2026-01-01](runs/2026-01-01-2cpu-two/tcp.md) |",
            "| `http-tcp` | not measured yet | – | – |"])

    def cell(self, value, passed, bar="bar", day="2026-01-01", **facts):
        runs = scratch_folder(self)
        series(runs / "2026-01-01-2cpu-one", "tcp", day, [(bar, value, passed)], **facts)
        return lines_of(runs)[0].split(" | ")[2].rsplit(", [", 1)[0]

    def test_series_from_before_the_rules_are_judged_by_them(self):
        few = "1.100 (1.000 to 1.200, 3 pairs)"
        self.assertEqual(self.cell(few, True, hops=[CALM] * 3), f"not judged: 3 of at least 5 steady pairs; {few}")
        self.assertEqual(self.cell(few, True, hops=[[]] * 9), f"not judged: 0 of at least 5 steady pairs; {few}")
        moved = [*[MOVED] * 6, *[CALM] * 5]
        self.assertEqual(self.cell(few, True, hops=moved), f"not judged: 6 of 11 pairs moved; {few}")
        self.assertEqual(self.cell(few, False, hops=moved[1:]), f"**missed**: {few}")
        # Those since were judged by them when they were made, and what is no comparison of pairs has no rule.
        self.assertEqual(self.cell(few, True, hops=[CALM] * 3, moved=False), f"met: {few}")
        self.assertEqual(self.cell("not judged: 3 pairs", False, moved=False), "not judged: 3 pairs")
        self.assertEqual(self.cell("796 KiB", True, hops=[]), "met: 796 KiB")

    def test_a_series_of_another_row_is_not_judged(self):
        moment, bar = "2026-01-02T00:00:00+00:00", "engine / peer: bar"
        another = "not judged: the row was another one (it slept); 1.1"
        with mock.patch.object(results, "CHANGED", {"/ peer": (moment, "it slept")}):
            self.assertEqual(self.cell("1.1", True, bar), another)
            self.assertEqual(self.cell("not judged: 1.1", False, bar), another)
            self.assertEqual(self.cell("1.1", True), "met: 1.1")
            self.assertEqual(self.cell("1.1", True, bar, day="2026-01-02"), "met: 1.1")
            # Made later, by what had not heard of the change; and by what had, before the clock was put right.
            self.assertEqual(self.cell("1.1", True, bar, day="2026-01-03", mark="2026-01-01T00:00:00+00:00"), another)
            self.assertEqual(self.cell("1.1", True, bar, mark=moment), "met: 1.1")

    def test_seconds_are_judged_by_the_rule_that_knows_of_catching_up(self):
        runs = scratch_folder(self)
        checks = [(f"null at {rate} B/s: calm seconds within 0.5 % or one record", "worst off by 0 bytes in a second",
                   True) for rate in (10, 20)]
        checks.append(("null at 10 B/s: at least 90 % of seconds calm", "0 %", False))
        series(runs / "2026-01-01-2cpu-one", "tcp", "2026-01-01", checks)
        seconds, share = (line.split(" | ")[2] for line in lines_of(runs))
        self.assertRegex(seconds, r"^not judged: the row was another one \(catching up .*\), \[2026-01-01\]")
        self.assertTrue(share.startswith("**missed**: 0 %, "), share)

    def test_what_has_changed_is_what_a_bar_speaks_of(self):
        bars = {check["bar"] for one in results.kept(results.RUNS) for check in one.result["checks"]}
        for what in results.CHANGED:
            self.assertTrue(any(what in bar for bar in bars), f"no bar of any series speaks of it: {what}")

    def test_each_comparison_of_a_series_has_its_own_pairs(self):
        runs = [{"pair": pair, "hop_ns": hop} for hop in (CALM, MOVED) for pair in range(5) for _ in range(2)]
        self.assertEqual(results.comparisons(runs), [(5, 5), (0, 5)])
        checks = [{"bar": bar, "value": "1 (1 to 1, 5 pairs)"} for bar in "abc"]
        each = results.pairs_of_checks({"runs": runs, "checks": checks[:2]})
        self.assertEqual(each, {"a": (5, 5), "b": (0, 5)})
        # Which of three rests on which of two is not known.
        self.assertEqual(results.pairs_of_checks({"runs": runs, "checks": checks})["c"], (0, 5))

    def test_steps_of_one_bar_are_counted(self):
        runs = scratch_folder(self)
        steps = [("null at 10 B/s: bar", "1", True), ("null at 20 B/s: bar", "2", False),
                 ("tmpfs at 10 B/s: bar", "not judged: 3", False), ("without (no bar; for the record)", "4", True)]
        series(runs / "2026-01-01-2cpu-one", "tcp", "2026-01-01", steps)
        self.assertEqual(lines_of(runs), ["| `tcp` | bar | **missed**: 1 of 3 met, 1 missed, 1 not judged, "
                                          "[2026-01-01](runs/2026-01-01-2cpu-one/tcp.md) |"])

    def test_a_bar_that_is_not_always_asked_is_that_of_the_series_that_asked(self):
        runs = scratch_folder(self)
        fast = f"{results.FAST_BARS}, bar"
        folder = runs / "2026-01-01-2cpu-one"
        series(folder, "tcp-3", "2026-01-03", [("bar", "3", True)])
        series(folder, "tcp-2", "2026-01-02", [("bar", "2", True), ("gone", "2", True), (fast, "2", True)])
        series(folder, "tcp", "2026-01-01", [(fast, "1", True), (f"{fast}, gone", "1", True)])
        self.assertEqual([line.rsplit(", [", 1)[0] for line in lines_of(runs)],
                         ["| `tcp` | bar | met: 3", f"| `tcp` | {fast} | met: 2"])


class Keeping(unittest.TestCase):
    def test_a_series_never_overwrites_another(self):
        folder = scratch_folder(self)
        facts = {"machine": {}, "versions": {}}
        kept = [h.write_result(folder, "row", f"series {n}", {}, [], [], facts) for n in (1, 2, 3)]
        self.assertEqual([page.name for page in kept], ["row.md", "row-2.md", "row-3.md"])
        titles = [json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["title"] for page in kept]
        self.assertEqual(titles, ["series 1", "series 2", "series 3"])

    def test_a_result_names_the_commit_of_its_binary(self):
        root = scratch_folder(self)
        (root / "engine").write_bytes(b"\x7fELF")
        note = {"commit": "A", "uncommitted_changes": False, "sha256": hashlib.sha256(b"\x7fELF").hexdigest()}
        (root / "engine.commit").write_text(json.dumps(note), encoding="utf-8")
        with mock.patch.object(h, "ROOT", root), mock.patch.object(h, "first_line", lambda _: "B"):
            found = h.origin("./engine")
            self.assertEqual((found["built_from"], found["commit"]), (note, "B"))
            # Another one in its place, which the note says nothing of.
            (root / "engine").write_bytes(b"\x7fELF, newer")
            self.assertIsNone(h.origin("./engine")["built_from"])

    def test_a_result_is_marked_with_the_latest_change_of_a_row(self):
        folder = scratch_folder(self)

        def row(_):
            """Measures nothing."""
            return [], []

        ctx = run.Context("./engine", 1, 1, 1, 1, folder, 1, folder, 1, False)
        known = {"origin": lambda _: {}, "tool_versions": dict, "machine": lambda _: {}}
        with mock.patch.dict(run.ROWS, {"row": row}), mock.patch.multiple(h, **known), redirect_stdout(StringIO()):
            run.measure_row("row", ctx, folder / "out")
        kept = json.loads((folder / "out" / "row.json").read_text(encoding="utf-8"))
        self.assertEqual(kept["defined_at"], max(moment for moment, _ in results.CHANGED.values()))

    def test_results_are_no_uncommitted_changes(self):
        root = scratch_folder(self)
        (root / "engine").touch()
        (root / ".gitignore").write_text("/engine\n/.gitignore\n", encoding="utf-8")
        # A hook of git has variables that name another repository.
        own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        with mock.patch.object(h, "ROOT", root), mock.patch.dict(os.environ, own, clear=True):
            subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
            (root / "perf" / "runs").mkdir(parents=True)
            (root / "perf" / "runs" / "row.json").touch()
            self.assertFalse(h.origin("./engine")["uncommitted_changes"])
            (root / "perf" / "harness.py").touch()
            self.assertTrue(h.origin("./engine")["uncommitted_changes"])

    def test_each_row_has_folders_of_its_own(self):
        parent = scratch_folder(self)
        (parent / "engine-perf").mkdir()
        (parent / "engine-perf" / "mine").touch()
        ctx = run.Context("./engine", 1, 1, 1, 1, parent, 1, parent, 1, True)
        with run.own_folders(ctx) as one, run.own_folders(ctx) as other:
            folders = {one.disk, one.tmpfs, other.disk, other.tmpfs}
            self.assertEqual(len(folders), 4)
            command = h.Run("peer", f"cp {one.disk}/a {one.tmpfs}/b")
            run.name_folders(one, [[command]])
            self.assertEqual(command.command, "cp $DISK/a $TMPFS/b")
        self.assertEqual([path.name for path in parent.iterdir()], ["engine-perf"])
        self.assertTrue((parent / "engine-perf" / "mine").exists())


class Peers(unittest.TestCase):
    def words_of(self, output, measured):
        """The command that a peer is measured with; `output` is what it prints."""
        commands = []

        def measure(peer, command):
            commands.append(h.words(command))
            return h.Run(peer, commands[-1]), json.dumps(output)

        with mock.patch.multiple(h, measure=measure, peer=lambda name: name):
            measured(SimpleNamespace(seconds=1))
        return commands[0].split()

    def test_librdkafka_sends_at_once_as_the_engine_does(self):
        done = {"bytes": 1, "seconds": 1, "records": 1, "p50": 0, "p99": 0, "p999": 0}
        tuning = rows_kafka.Tuning(["message.copy.max.bytes=0"], 5)
        words = self.words_of(done, lambda ctx: rows_kafka.librdkafka(ctx, "broker:9092", 4096, tuning, "more=1"))
        self.assertEqual(words[words.index("acks=1") - 1], "5")
        for each in ("socket.nagle.disable=true", "linger.ms=5", "message.copy.max.bytes=0", "more=1"):
            self.assertIn(each, words)

    def test_fio_pays_for_nothing_that_is_not_asked_of_it(self):
        done = {"jobs": [{"write": {"io_bytes": 1, "runtime": 1}}]}
        words = self.words_of(done, lambda ctx: rows_throughput.fio(ctx, "fio", "--bs=1M"))
        for each in ("--scramble_buffers=0", "--gtod_reduce=1", "--bs=1M"):
            self.assertIn(each, words)

    def test_nginx_may_have_a_folder_with_a_space(self):
        conf = servers.NGINX.format(folder="/my engine/nginx", port=80)
        self.assertGreater(conf.count("/my engine/nginx"), 0)
        self.assertEqual(conf.count("/my engine/nginx"), conf.count('"/my engine/nginx'))


class Plan(unittest.TestCase):
    def test_each_path_is_fitted_by_what_the_plan_scales_it_by(self):
        costs = (h.ROOT / "src" / "host" / "capacity" / "costs.rs").read_text(encoding="utf-8")
        fields = dict(re.findall(r"Probe::(\w+) => self\.(\w+)", costs))
        rows = re.findall(r"route: Route::(\w+), .*record_probe: Probe::(\w+), byte_probe: Probe::(\w+)", costs)
        # Of both tables: where they differ, one path is here twice.
        found = {(route.lower(), fields[record], fields[byte]) for route, record, byte in rows}
        measured = {each for each in found if each[0] in rows_plan.PATHS}
        self.assertEqual(measured, {(path, *probes) for path, probes in rows_plan.PROBES.items()})

    def test_heads_of_each_point_are_fitted_in_units_of_the_reference(self):
        """A machine whose records cost as long as the probe of their own size, and whose blocks go with arithmetic."""
        head_ns, core_ns, record_ns, byte_ns = {512: 7.0, 4096: 10.0, 65536: 31.0}, 2.0, 9.0, 0.0004
        runs = {}
        for size, head in head_ns.items():
            ns = record_ns * head / head_ns[4096] + byte_ns * size * core_ns / 1.6
            facts = {"calibration": {"head_ns": head, "core_ns": core_ns}}
            runs[size, 1] = [mock.Mock(bytes_per_second=1e9 * size / ns, facts=facts)]
        found = rows_plan.fitted("null", runs, {"head_ns": head_ns[4096], "core_ns": 1.6})
        self.assertAlmostEqual(found[0], record_ns, places=6)
        self.assertAlmostEqual(found[1], byte_ns, places=9)


class Ending(unittest.TestCase):
    def ended(self, wanted, measured):
        """What was started by a measurement that SIGTERM, which `timeout` sends, ends once so many are there."""
        started, start = [], h.start

        def ended(*_):
            raise SystemExit(128 + signal.SIGTERM)

        def noted(*words, **options):
            started.append(start(*words, **options))
            if len(started) == wanted:
                timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
                self.addCleanup(timer.join)
                timer.start()
            return started[-1]

        self.addCleanup(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, ended))
        with mock.patch.multiple(h, start=noted, hop_ns=lambda: None), self.assertRaises(SystemExit):
            measured()
        for process in started:
            for stream in filter(None, (process.stdout, process.stderr)):
                stream.close()
        return [process.returncode for process in started]

    def test_a_command_that_is_measured_ends_too(self):
        self.assertEqual(self.ended(1, lambda: h.measure("peer", ["sleep", 60])), [-signal.SIGKILL])

    def test_both_ends_of_a_pipe_end_too(self):
        codes = self.ended(2, lambda: h.measure_pipe("peer", ["sleep", 60], ["sleep", 61]))
        self.assertEqual(codes, [-signal.SIGKILL, -signal.SIGKILL])


if __name__ == "__main__":
    unittest.main()
