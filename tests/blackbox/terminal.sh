#!/usr/bin/env bash
# What stands on a terminal: the live line of a run and of verify, on one line that is cleared before what follows it;
# none where a line cannot be cleared.
#
#   tests/blackbox/terminal.sh [ENGINE]
set -euo pipefail
engine=$(realpath "${1:-./engine}")
here=$(realpath "$(dirname "$0")")
# shellcheck source=tests/blackbox/common/scratch.sh
. "$here/common/scratch.sh"
need 'python3' python3
unset "${!ENGINE_@}"

timeout 120 python3 - "$engine" "$work" >"$work/terminal.log" 2>&1 <<'PYTHON' || fail 'the terminal'
import fcntl, os, pty, re, struct, sys, termios

engine, work = sys.argv[1:]
CLEAR = "\r\x1b[2K"
COLUMNS = 80
# Of a run: rates, percentile, errors, time left.
LIVE = re.compile(r"[\d.]+ [kM]?B/s  [^\r\n\x1b]*\d errors?  \d+s left *")


def on_terminal(kind, *words, stdin=None):
    """Starts the engine on a terminal of this kind; its process and the terminal's other end."""
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
            os.environ["TERM"] = kind
            if stdin is not None:
                os.dup2(stdin, 0)
            os.execv(engine, [engine, *words])
        finally:
            os._exit(127)
    return pid, terminal


def written(terminal, until=None):
    """What it writes there: all of it, or up to what is looked for."""
    text = ""
    try:
        while not (until and re.search(until, text)):
            said = os.read(terminal, 4096)
            if not said:
                break
            text += said.decode(errors="replace")
    except OSError:  # all have left the terminal
        pass
    return text


def exit_code(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check(holds, what, text):
    if not holds:
        sys.exit(f"{what}:\n{text!r}")


def run(kind):
    words = "--target null --parallel 1 --rate 1MB/s --duration 3s --stats-interval 200ms".split()
    pid, terminal = on_terminal(kind, *words)
    text = written(terminal)
    check(exit_code(pid) == 0, f"exit code on {kind}", text)
    check("payload ring of each producer" in text and '"event"' not in text, f"{kind}: no text", text)
    return text


text = run("xterm-256color")
drawn = [part for part in text.split(CLEAR) if LIVE.fullmatch(part)]
check(len(drawn) >= 3, "too few live lines, each cleared by the next", text)
check(all(len(line) < COLUMNS for line in drawn), "a live line is too wide", text)
check(any("  of 1 MB/s  " in line and "  p99 " in line for line in drawn), "no rate or no percentile", text)
check(not re.search(r"\d+s left *(\n|\r(?!\x1b\[2K))", text), "a live line is left behind", text)
summary = text[text.rindex(CLEAR) + len(CLEAR) :]
check(re.search(r"^run  +\S", summary, re.M) and re.search(r"^produced  +\S", summary, re.M), "no summary", text)
check(not LIVE.search(summary), "a live line behind the summary", text)

text = run("dumb")
check(CLEAR not in text and "\x1b[2K" not in text, "drawn where it cannot be cleared", text)
check(len(re.findall(r"\d errors?  \d+s left\r?\n", text)) >= 3, "no lines of a log", text)
check(re.search(r"^run  +\S", text, re.M), "no summary on a dumb terminal", text)

# Verify reads a pipe that is not at its end yet.
data = f"{work}/data.bin"
pid, terminal = on_terminal("dumb", "--target", f"file:{data}", "--parallel", "1", "--records", "100", "--direct", "off")
text = written(terminal)
check(exit_code(pid) == 0, "no data", text)
records = open(data, "rb").read()
reader, writer = os.pipe()
pid, terminal = on_terminal("xterm-256color", "verify", "-", stdin=reader)
os.close(reader)
half = len(records) // 2
with open(writer, "wb", buffering=0) as pipe:
    rest = memoryview(records)[:half]
    while rest:
        rest = rest[pipe.write(rest) :]
    text = written(terminal, until=r"\d+s")
    rest = memoryview(records)[half:]
    while rest:
        rest = rest[pipe.write(rest) :]
text += written(terminal)
check(exit_code(pid) == 0, "verify's exit code", text)
check(
    re.fullmatch(rf"([\d.]+ [kM]?B  [\d.]+ [kM]?B/s  \d+s *{re.escape(CLEAR)})+intact: 100 records.*", text, re.S),
    "verify's live line, and its verdict behind it",
    text,
)
PYTHON
