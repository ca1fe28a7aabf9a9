"""Asks a Prometheus that scrapes two engines by the shipped configuration.

ask_prometheus.py URL wait EXPRESSION SECONDS     until the expression has a sample; prints its value
ask_prometheus.py URL dashboard FILE              runs every query of a Grafana dashboard; each must return data
ask_prometheus.py URL total REPORT…               the last scraped sums are those of the reports
"""

import json
import sys
import time
import urllib.parse
import urllib.request

url = sys.argv[1]


def get(path, **parameters):
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
        return json.load(answer)["data"]


def samples(expression):
    try:
        return [float(sample["value"][1]) for sample in get("query", query=expression)["result"]]
    except urllib.error.HTTPError as error:
        sys.exit(f"{expression}\n{error.read().decode()}")


def wait(expression, seconds):
    end = time.monotonic() + float(seconds)
    while True:
        try:
            found = samples(expression)
        except urllib.error.URLError:
            found = []
        if found or time.monotonic() > end:
            break
        time.sleep(0.1)
    if not found:
        sys.exit(f"no sample of {expression} within {seconds} s")
    print(*(f"{value:.12g}" for value in found))


def dashboard(path):
    """As Grafana does: variables filled in, graphs asked for a stretch of time, figures for a moment."""
    shown = json.load(open(path))
    now, asked = time.time(), 0
    for variable in shown["templating"]["list"]:
        if variable["type"] == "query":
            query = variable["definition"].replace("$job", ".+")
            metric, label = query.removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
            found = get(f"label/{label}/values", **{"match[]": metric})
            if not found:
                sys.exit(f"variable {variable['name']}: {query} finds nothing")
    for panel in shown["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in (("$__rate_interval", "10s"), ("$__range", "20s"), ("$job", ".+"), ("$instance", ".+")):
                expression = expression.replace(name, value)
            if "$" in expression:
                sys.exit(f"{panel['title']}: what is {expression}")
            if target.get("instant"):
                found = [value for value in samples(expression) if value == value]
            else:
                series = get("query_range", query=expression, start=now - 10, end=now, step=1)["result"]
                found = [value for one in series for _, value in one["values"] if value != "NaN"]
            if not found:
                sys.exit(f"{panel['title']}: no data for {expression}")
            asked += 1
    print(f"{asked} queries of the dashboard return data")


def total(paths):
    """Series that have ended are looked back for; their last value is that of the scrape that the engine waited for."""
    reports = [json.load(open(path)) for path in paths]
    for metric, key in (
        ("generator_bytes_produced_total", "bytes_produced"),
        ("generator_logical_bytes_produced_total", "logical_bytes_produced"),
        ("generator_records_produced_total", "records_produced"),
        ("generator_records_offered_total", "records_offered"),
        ("generator_wire_bytes_total", "wire_bytes"),
    ):
        [scraped] = samples(f"sum(last_over_time({metric}[5m]))")
        reported = sum(report["totals"][key] for report in reports)
        if reported == 0 or scraped != reported:
            sys.exit(f"{metric}: {scraped:.0f} scraped, {reported} reported")
        print(f"{metric}: {reported}, scraped and reported")


{"wait": wait, "dashboard": dashboard, "total": lambda *paths: total(paths)}[sys.argv[2]](*sys.argv[3:])
