"""What the black-box tests of Kafka ask of reports, offsets, logs and metrics.

    judge.py report REPORT EXPRESSION…      each must hold; r is the report, t its totals
    judge.py offsets COUNTS                 reads GetOffsetShell's topic:partition:offset; COUNTS has `topic records` lines
    judge.py batches RULES                  reads DumpLogSegments; RULES has `topic EXPRESSION` lines over `batches`
    judge.py metrics LOG REPORT             scrapes during the run and after it, and compares with the report
"""
import ast
import json
import os
import re
import sys
import time
import urllib.request


def fail(what):
    sys.exit(f"judge.py: {what}")


def holds(expression, names):
    if not eval(compile(ast.parse(expression, mode="eval"), "<rule>", "eval"), {}, names):
        shown = {name: value for name, value in names.items() if name != "r"}
        fail(f"does not hold: {expression}\n  {shown}"[:3000])


def report(path, *expressions):
    with open(path, encoding="utf-8") as file:
        r = json.load(file)
    t = r["totals"]
    ends = t["records_produced"] + t["records_failed"] + t["records_uncertain"] + t["records_not_sent"]
    if t["records_offered"] != ends:
        fail(f"{path}: the books do not add up: {t}")
    for expression in expressions:
        holds(expression, {"r": r, "t": t, "errors": r["errors"], "response": {**r["latency_seconds"]["response"], "histogram": ""}})


def offsets(counts_path):
    found = {}
    for line in sys.stdin:
        topic, _, offset = line.strip().split(":")
        found[topic] = found.get(topic, 0) + int(offset)
    checked = 0
    with open(counts_path, encoding="utf-8") as file:
        for line in file:
            topic, wanted = line.split()
            if found.get(topic) != int(wanted):
                fail(f"topic {topic}: {found.get(topic)} records by offset, {wanted} by our books")
            checked += 1
    if not checked:
        fail("no topic to check")


def batches(rules_path):
    logs, topic = {}, None
    for line in sys.stdin:
        if match := re.match(r"Dumping .*/([^/]+)-\d+/\d+\.log$", line.strip()):
            topic = match[1]
            logs.setdefault(topic, [])
        elif match := re.match(r"baseOffset: \d+ .*\bcount: (\d+) .*\bisvalid: (\w+)", line):
            if match[2] != "true":
                fail(f"{topic}: {line}")
            codec = re.search(r"compresscodec: (\w+)", line)[1]
            producer = int(re.search(r"producerId: (-?\d+)", line)[1])
            logs[topic].append({"count": int(match[1]), "codec": codec.lower(), "producer": producer})
        elif "invalid" in line.lower() or "mismatch" in line.lower() or "exception" in line.lower():
            fail(f"{topic}: {line}")
    with open(rules_path, encoding="utf-8") as file:
        for line in file:
            topic, expression = line.strip().split(" ", 1)
            log = logs.get(topic)
            if not log:
                fail(f"topic {topic}: no batch in the log")
            holds(expression, {"batches": log, "topic": topic, "len": len, "sum": sum, "all": all, "any": any, "max": max})


def scrape(address):
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    sums = {}
    for line in text.splitlines():
        if match := re.match(r"(\w+)(?:\{.*\})? (\S+)$", line):
            sums[match[1]] = sums.get(match[1], 0) + float(match[2])
    return sums


def event(log, name, until):
    while time.monotonic() < until:
        with open(log, encoding="utf-8") as file:
            for line in file:
                if line.startswith("{") and json.loads(line).get("event") == name:
                    return json.loads(line)
        time.sleep(0.05)
    fail(f"{log}: no event {name}")


def metrics(log, report_path):
    until = time.monotonic() + 60
    address = event(log, "metrics", until)["address"]
    event(log, "start", until)
    during = 0
    while not during and time.monotonic() < until:
        during = scrape(address)["generator_records_produced_total"]
    event(log, "summary", until)
    after = scrape(address)
    # It is put there whole once it is on the disk, which may be a while after the summary.
    while not os.path.exists(report_path):
        if time.monotonic() > until:
            fail(f"{report_path} is not there")
        time.sleep(0.05)
    with open(report_path, encoding="utf-8") as file:
        totals = json.load(file)["totals"]
    for metric, key in (("records_produced", "records_produced"), ("bytes_produced", "bytes_produced"), ("wire_bytes", "wire_bytes"), ("records_offered", "records_offered")):
        if after[f"generator_{metric}_total"] != totals[key]:
            fail(f"generator_{metric}_total is {after[f'generator_{metric}_total']}, the report says {totals[key]}")
    if not 0 < during < totals["records_produced"]:
        fail(f"during the run {during} records were counted, at its end {totals['records_produced']}")
    if after["generator_produce_errors_total"] != 0:
        fail("errors were counted")


if __name__ == "__main__":
    {"report": report, "offsets": offsets, "batches": batches, "metrics": metrics}[sys.argv[1]](*sys.argv[2:])
