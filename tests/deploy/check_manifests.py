"""Rendered manifests against the schemas of Kubernetes, against what this project promises, and against the engine.

check_manifests.py ENGINE FOLDER OPERATOR    objects of the Prometheus Operator go to the file OPERATOR, as JSON
"""

import datetime
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import kubernetes_validate
import yaml

engine, folder, operator = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
# The newest schemas at hand, and those of the oldest version that has all that is used.
VERSIONS = ["1.31", "1.37"]
DEFINED_ELSEWHERE = "monitoring.coreos.com/"


def check(holds, what):
    if not holds:
        sys.exit(what)


def pod_is_safe(name, pod):
    """What the README promises of every pod."""
    security = pod["securityContext"]
    check(security["runAsNonRoot"] is True and security["runAsUser"] > 0, f"{name}: root")
    check(security["seccompProfile"]["type"] in ("RuntimeDefault", "Localhost"), f"{name}: no seccomp profile")
    check(pod["enableServiceLinks"] is False, f"{name}: service links")
    check(pod["automountServiceAccountToken"] is False, f"{name}: a token that nobody needs")
    check(pod["terminationGracePeriodSeconds"] >= 30, f"{name}: killed before it has drained")
    for container in pod["containers"]:
        inner = container["securityContext"]
        check(inner["readOnlyRootFilesystem"] is True, f"{name}: a root file system to write to")
        check(inner["allowPrivilegeEscalation"] is False, f"{name}: may gain privileges")
        check(inner["capabilities"] == {"drop": ["ALL"]}, f"{name}: capabilities")
        resources = container["resources"]
        check(resources["requests"] == resources["limits"], f"{name}: requests are not limits")
        check(str(resources["limits"]["cpu"]).isdigit(), f"{name}: no whole processors for the static CPU manager")
        probes = [container[probe] for probe in container if probe.endswith("Probe")]
        check(probes and all(probe["httpGet"]["port"] == "metrics" for probe in probes), f"{name}: no probes")


def has_every_component(name, pod):
    """What io-uring, credentials, huge-pages and whole-node promise: a patch that finds nothing says nothing."""
    [container] = pod["containers"]
    variables = [variable["name"] for variable in container.get("env", [])]
    check(pod["securityContext"]["seccompProfile"]["type"] == "Localhost", f"{name}: no io-uring")
    check("ENGINE_SASL_PASSWORD_FILE" in variables, f"{name}: no credentials")
    check("hugepages-2Mi" in container["resources"]["limits"], f"{name}: no huge-pages")
    check(container["resources"]["limits"]["cpu"] == "30" and "nodeSelector" in pod, f"{name}: no whole-node")


def job_is_sound(job, budget):
    spec = job["spec"]
    shards = spec["completions"]
    [shard] = [arg for arg in spec["template"]["spec"]["containers"][0]["args"] if arg.startswith("--shard=")]
    check(spec["completionMode"] == "Indexed" and spec["backoffLimit"] == 0, "the Job would run a shard again")
    check(shard == f"--shard=$(JOB_COMPLETION_INDEX)/{shards}", f"{shard} of {shards} completions")
    check(spec["parallelism"] == shards == budget["spec"]["minAvailable"], "parallelism, completions and budget differ")
    rules = [rule["onExitCodes"] for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    codes = [code for rule in rules if rule["operator"] == "In" for code in rule["values"]]
    table = re.findall(r"^\| ([1-9]) \|", pathlib.Path("README.md").read_text().split("## Exit codes")[1], re.MULTILINE)
    check(sorted(codes) == sorted(map(int, table)), f"exit codes {codes} in the Job, {table} in the README")
    # Killed or crashed: a code that the engine does not give.
    others = [rule["values"] for rule in rules if rule["operator"] == "NotIn"]
    check([sorted(values) for values in others] == [sorted(codes)], f"codes other than {others} end the Job by no rule")


def budget_fits(name, budget, kind):
    """Broken pods of a fleet hold up no drain of a node; a Job's, not ready while they wait or hold figures, do."""
    policy = budget["spec"].get("unhealthyPodEvictionPolicy")
    wanted = "AlwaysAllow" if kind == "Deployment" else None
    check(policy == wanted, f"{name}: pods that are not ready are evicted by {policy}, not {wanted}")


def fleet_has_no_common_start(name, container, settings):
    """A pod that comes later than the engine is willing to be late would end again and again."""
    ours = environment(container, settings)
    check("ENGINE_START_AT" not in ours, f"{name}: pods join at any time")
    long_ago = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=11)
    late = ours | {"ENGINE_START_AT": f"{long_ago:%Y-%m-%dT%H:%M:%SZ}"}
    ended = subprocess.run([engine, *container["args"], "--dry-run"], env=late, capture_output=True, text=True)
    check(ended.returncode == 2 and "--start-at" in ended.stderr, f"{name}: {ended.returncode}\n{ended.stderr}")


def environment(container, settings):
    """What Kubernetes would put there, with a stand-in for what comes from the pod itself."""
    variables = {}
    for source in container.get("envFrom", []):
        variables |= settings[source["configMapRef"]["name"]]
    for variable in container.get("env", []):
        variables[variable["name"]] = variable.get("value", "0b5e7a3c-uid-of-the-job")
    return variables


def dry_run(name, args, variables, mounts):
    """The engine understands what the container is started with; its plan."""
    for mount, stand_in in mounts.items():
        args = [arg.replace(mount, stand_in) for arg in args]
        variables = {key: value.replace(mount, stand_in) for key, value in variables.items()}
    ended = subprocess.run([engine, *args, "--dry-run"], env=variables, capture_output=True, text=True)
    check(ended.returncode == 0, f"{name}: {args} {variables}\n{ended.stderr}")
    return json.loads(ended.stdout)


def workload_runs(name, workload, settings):
    pod = workload["spec"]["template"]["spec"]
    [container] = pod["containers"]
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy("tests/tls/ca.pem", scratch)
        (pathlib.Path(scratch) / "sasl-password").write_text("secret")
        mounts = {mount["mountPath"]: scratch for mount in container.get("volumeMounts", [])}
        producers, rate = [], 0
        for index in range(workload["spec"].get("completions", 1)):
            variables = environment(container, settings) | {"JOB_COMPLETION_INDEX": str(index)}
            args = [re.sub(r"\$\((\w+)\)", lambda use: variables[use[1]], arg) for arg in container["args"]]
            ours = {key: value for key, value in variables.items() if key.startswith("ENGINE_")}
            plan = dry_run(name, args, ours, mounts)
            producers += [producer["id"] for producer in plan["producers"]]
            rate += plan["phases"][0]["rate_bytes_per_second"]
        check(len(producers) == len(set(producers)), f"{name}: shards share producer ids")
        wanted = 8 * 10**9 if workload["kind"] == "Job" else 10**9
        check(rate == wanted, f"{name}: {rate} B/s, not {wanted}")


found_at_the_operator = []
rendered = sorted(folder.glob("*.yaml"))
check(len(rendered) >= 6, f"only {len(rendered)} kustomizations")
kinds = set()
for file in rendered:
    objects = list(yaml.safe_load_all(file.read_text()))
    for thing in objects:
        kinds.add(thing["kind"])
        if thing["apiVersion"].startswith(DEFINED_ELSEWHERE):
            found_at_the_operator.append(thing)
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(thing, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                sys.exit(f"{file.name}: {thing['kind']} {thing['metadata']['name']}, Kubernetes {version}: {error}")
    named = {(thing["kind"], thing["metadata"]["name"]): thing for thing in objects}
    settings = {name: thing["data"] for (kind, name), thing in named.items() if kind == "ConfigMap"}
    for (kind, name), thing in named.items():
        if kind in ("Deployment", "Job"):
            pod_is_safe(f"{file.name}: {name}", thing["spec"]["template"]["spec"])
            if file.name.startswith("tuned-"):
                has_every_component(f"{file.name}: {name}", thing["spec"]["template"]["spec"])
            workload_runs(f"{file.name}: {name}", thing, settings)
            budget_fits(f"{file.name}: {name}", named["PodDisruptionBudget", name], kind)
        if kind == "Deployment" and not file.name.startswith("tuned-"):
            [container] = thing["spec"]["template"]["spec"]["containers"]
            fleet_has_no_common_start(f"{file.name}: {name}", container, settings)
        if kind == "Job":
            job_is_sound(thing, named["PodDisruptionBudget", name])
        if kind == "HorizontalPodAutoscaler":
            check(("Deployment", thing["spec"]["scaleTargetRef"]["name"]) in named, f"{file.name}: scales nothing")
            check("replicas" not in named["Deployment", name]["spec"], f"{file.name}: replicas belong to the autoscaler")
        if kind == "RoleBinding":
            # The accounts of others are not moved into the namespace of the pods.
            whose = [one["namespace"] for one in thing["subjects"]]
            check(whose == ["monitoring"], f"{file.name}: accounts of {whose}")
    check(not any(kind == "Secret" for kind, _ in named), f"{file.name}: ships a secret")
wanted = "Deployment HorizontalPodAutoscaler Job NetworkPolicy PodDisruptionBudget PrometheusRule Role RoleBinding"
for kind in wanted.split():
    check(kind in kinds, f"no {kind}")
operator.write_text(json.dumps(found_at_the_operator))
print(f"{len(rendered)} kustomizations fit Kubernetes {' and '.join(VERSIONS)}; the engine takes their flags")
