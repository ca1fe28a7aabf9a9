"""How rows are judged, and that a row that is ended leaves nothing running."""

import os
import signal
import threading
import unittest
from contextlib import redirect_stdout
from io import StringIO
from unittest import mock

import harness as h

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


def end_soon(test):
    """Sends this process what `timeout` sends, 0.2 s from now, and has it answered as run.py does."""
    def ended(*_):
        raise SystemExit(128 + signal.SIGTERM)

    test.addCleanup(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, ended))
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    test.addCleanup(timer.join)
    timer.start()


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
        most = h.at_least("rate", 0, h.ratios(alternated(5, [*[MOVED] * 8, CALM, CALM]), rate))
        self.assertFalse(most.passed)
        self.assertEqual(most.value, "not judged: 2.000 (2.000 to 2.000, 3 of 5 pairs moved)")

    def test_the_median_is_of_the_pairs_that_did_not_move(self):
        runs = alternated(5, [*[MOVED] * 7, CALM, CALM, CALM])
        for fast, _ in runs[:2]:
            fast.bytes_per_second = 100e9
        check = h.at_most("rate", 2, h.ratios(runs, rate))
        self.assertEqual((check.passed, check.value), (True, "2.000 (2.000 to 2.000, 2 of 5 pairs moved)"))

    def test_too_few_pairs_pass_nothing(self):
        found = h.ratios(alternated(5, [CALM] * 5), rate)
        check = h.at_least("rate", 1, found, 10)
        self.assertFalse(check.passed)
        self.assertTrue(check.value.startswith("not judged: 5 of 10 pairs"), check.value)
        self.assertTrue(h.at_least("rate", 1, found).passed)
        self.assertFalse(h.at_least("rate", 1, h.ratios(alternated(4, [CALM] * 4), rate)).passed)

    def test_the_page_says_which_pairs_moved(self):
        runs = alternated(5, [*[MOVED] * 6, *[CALM] * 4])
        result = {"row": "row", "title": "title", "measured_at": "now", "checks": [], "set_aside": [], "machine": {},
                  "versions": {}, "settings": {}}
        page = h.markdown(result, [run for pair in runs for run in pair])
        self.assertEqual(page.count("| 50 500 moved |"), 2)


class Ending(unittest.TestCase):
    def ended(self, measured):
        """What was started by a measurement that SIGTERM ended."""
        started, start = [], h.start

        def noted(*words, **options):
            started.append(start(*words, **options))
            return started[-1]

        end_soon(self)
        with mock.patch.multiple(h, start=noted, hop_ns=lambda: None), self.assertRaises(SystemExit):
            measured()
        for process in started:
            for stream in filter(None, (process.stdout, process.stderr)):
                stream.close()
        return [process.returncode for process in started]

    def test_a_command_that_is_measured_ends_too(self):
        self.assertEqual(self.ended(lambda: h.measure("peer", ["sleep", 60])), [-signal.SIGKILL])

    def test_both_ends_of_a_pipe_end_too(self):
        codes = self.ended(lambda: h.measure_pipe("peer", ["sleep", 60], ["sleep", 61]))
        self.assertEqual(codes, [-signal.SIGKILL, -signal.SIGKILL])


if __name__ == "__main__":
    unittest.main()
