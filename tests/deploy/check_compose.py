"""deploy/dev-compose.yml against the compose specification, its own references, and the engine.

check_compose.py ENGINE SCHEMA
"""

import json
import pathlib
import subprocess
import sys

import jsonschema
import yaml

engine, schema = sys.argv[1], json.loads(pathlib.Path(sys.argv[2]).read_text())
path = pathlib.Path("deploy/dev-compose.yml")
compose = yaml.safe_load(path.read_text())
validator = jsonschema.Draft201909Validator(schema)
# `name` is younger than this edition of the schema.
known = {key: value for key, value in compose.items() if key != "name"}
problems = [f"{'/'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(known)]
# The schema at hand finds what is wrong.
assert any(validator.iter_errors({"services": {"a": {"imagee": "b"}}})), "the schema lets everything pass"

services = compose["services"]
for name, service in services.items():
    problems += [f"{name} waits for {other}, which is not there" for other in service.get("depends_on", {}) if other not in services]
    pinned = "build" in service or service["image"].rpartition(":")[2] not in ("", "latest")
    if not pinned:
        problems.append(f"{name}: the image has no version")
    if name != "generator" and "healthcheck" not in service:
        problems.append(f"{name} has no health check")
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        there = (path.parent / source).exists() if source.startswith(".") else source in compose["volumes"]
        if not there:
            problems.append(f"{name}: {source} is not there")
    for option in service.get("security_opt", []):
        kind, _, profile = option.partition("=")
        if kind == "seccomp" and not (path.parent / profile).is_file():
            problems.append(f"{name}: {profile} is not there")
    problems += [f"{name}: {port} is open to the network" for port in service.get("ports", []) if not port.startswith("127.0.0.1:")]
if problems:
    sys.exit("\n".join(f"{path}: {problem}" for problem in problems))

command = [engine, *services["generator"]["command"], "--dry-run"]
ended = subprocess.run(command, env={"ENGINE_METRICS_ADDR": ":9090"}, capture_output=True, text=True)
if ended.returncode != 0:
    sys.exit(f"{path}: {ended.stderr}")
rate = json.loads(ended.stdout)["phases"][0]["rate_bytes_per_second"]
assert rate == 125_000, f"{path}: the smoke rate is {rate} B/s, not 1 Mbit/s"
print(f"{path} fits the compose specification; the engine takes its flags")
