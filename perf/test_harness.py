"""How rows are judged and kept, how peers are run, and that a row that is ended leaves nothing running."""

import hashlib
import json
import os
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
import rows_kafka
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
