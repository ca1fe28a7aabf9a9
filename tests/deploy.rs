//! What `deploy/` says agrees with the code: no rule, panel or autoscaler names a metric that does not exist.

use engine::observe::metrics::METRICS;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const WORDS: &[&str] = &["and", "or", "unless", "offset", "bool", "inf", "nan", "by", "on", "without", "ignoring"];
/// Words that a list of labels follows.
const GROUPING: &[&str] = &["by", "on", "without", "ignoring", "group_left", "group_right"];

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> Value {
    let text = std::fs::read_to_string(deploy(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    if path.ends_with(".json") {
        return serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every string below a key of this name.
fn strings_of<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| strings_of(item, key, found)),
        Value::Object(map) => {
            for (name, inner) in map {
                match inner.as_str() {
                    Some(text) if name == key => found.push(text),
                    _ => strings_of(inner, key, found),
                }
            }
        }
        _ => {}
    }
}

/// The text without strings, label matchers, ranges and Grafana's variables.
fn without_details(query: &str) -> String {
    let mut out = String::new();
    let (mut quote, mut depth) = (None, 0);
    for c in query.chars() {
        match (quote, c) {
            (Some(open), _) => quote = (c != open).then_some(open),
            (None, '"' | '\'') => quote = Some(c),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => (depth, _) = (depth - 1, out.push(' ')),
            (None, _) if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

/// The names in a query that must be metrics.
fn metrics_in(query: &str) -> BTreeSet<String> {
    let text = without_details(query);
    let mut found = BTreeSet::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric() || "_:".contains(c)) {
        let tail = &rest[start..];
        let end = tail.find(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c))).unwrap_or(tail.len());
        let (word, after) = tail.split_at(end);
        rest = after;
        // `sum by (job) (…)` calls as much as `sum(…)`.
        let next = after.trim_start();
        let called =
            next.starts_with('(') || ["by ", "by(", "without ", "without("].iter().any(|w| next.starts_with(w));
        if GROUPING.contains(&word) && called {
            rest = &after[after.find(')').expect("a list of labels ends")..];
        } else if !called && !WORDS.contains(&word) && !word.starts_with(|c: char| c.is_ascii_digit()) {
            found.insert(word.to_owned());
        }
    }
    found
}

fn recorded() -> BTreeSet<String> {
    let rules = read("prometheus/rules/fleet.yml");
    let mut names = Vec::new();
    strings_of(&rules, "record", &mut names);
    names.into_iter().map(str::to_owned).collect()
}

/// Whether a scraper sees this name.
fn exposed(name: &str) -> bool {
    METRICS.iter().any(|metric| match metric.kind() {
        "histogram" => ["_bucket", "_sum", "_count"].iter().any(|part| name.strip_suffix(part) == Some(metric.name)),
        _ => metric.name == name,
    })
}

/// Names in the queries of a file that nothing serves or records.
fn unknown(queries: &[&str]) -> Vec<String> {
    let recorded = recorded();
    let names = queries.iter().flat_map(|query| metrics_in(query));
    names.filter(|name| name != "up" && !exposed(name) && !recorded.contains(name)).collect()
}

fn queries(path: &str, keys: &[&str]) -> (Value, Vec<String>) {
    let value = read(path);
    let mut found = Vec::new();
    keys.iter().for_each(|key| strings_of(&value, key, &mut found));
    let found = found.into_iter().map(str::to_owned).collect();
    (value, found)
}

#[test]
fn every_metric_in_rules_and_dashboards_exists() {
    for (path, keys, least) in
        [("prometheus/rules/fleet.yml", ["expr"].as_slice(), 14), ("grafana/dashboards/generator.json", &["expr"], 25)]
    {
        let (_, found) = queries(path, keys);
        assert!(found.len() >= least, "{path} has lost its queries: {found:?}");
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(unknown(&found), Vec::<String>::new(), "{path}");
    }
    // The variables of the dashboard ask for the labels of a metric.
    let (_, variables) = queries("grafana/dashboards/generator.json", &["definition"]);
    assert!(!variables.is_empty());
    for variable in variables {
        let inner = variable.strip_prefix("label_values(").and_then(|rest| rest.split(['{', ',']).next());
        assert!(inner.is_some_and(exposed), "{variable}");
    }
}

#[test]
fn the_dashboard_shows_every_metric() {
    let (_, found) = queries("grafana/dashboards/generator.json", &["expr"]);
    let shown: BTreeSet<String> = found.iter().flat_map(|query| metrics_in(query)).collect();
    for metric in METRICS {
        let parts = ["", "_bucket"].map(|part| format!("{}{part}", metric.name));
        assert!(parts.iter().any(|name| shown.contains(name)), "no panel shows {}", metric.name);
    }
}

/// What was offered is one of the others.
#[test]
fn the_panel_of_the_records_adds_up() {
    let dashboard = read("grafana/dashboards/generator.json");
    let panels = dashboard["panels"].as_array().unwrap();
    let panel = panels.iter().find(|panel| panel["title"] == "Records: offered and what became of them").unwrap();
    let lines = panel["targets"].as_array().unwrap().iter();
    let mut lines: Vec<_> = lines.filter_map(|line| line["legendFormat"].as_str()).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["failed", "not sent", "offered", "produced", "uncertain"]);
}

#[test]
fn a_query_is_read_as_prometheus_reads_it() {
    let query = "sum by (job, instance) (rate(a_total{x=\"b_total\", y!~'c'}[5m])) / on (job) (avg(d:e) > 0)\n  \
                 - 0.05 and f offset 1m unless 8e9 * vector(1) or histogram_quantile(0.9, g_bucket)";
    let names: Vec<String> = metrics_in(query).into_iter().collect();
    assert_eq!(names, ["a_total", "d:e", "f", "g_bucket"]);
    assert_eq!(
        unknown(&["rate(generator_bytes_produced[1m])", "up", "generator_produce_latency_seconds"]),
        ["generator_bytes_produced", "generator_produce_latency_seconds"]
    );
    assert_eq!(unknown(&["generator_produce_latency_seconds_bucket", "job:generator_replicas:wanted"]).len(), 0);
}

#[test]
fn the_operator_gets_the_same_rules() {
    let plain = read("prometheus/rules/fleet.yml");
    let operator = read("kubernetes/monitoring/rules.yml");
    assert_eq!(plain["groups"], operator["spec"]["groups"]);
    assert!(plain["groups"].as_array().is_some_and(|groups| groups.len() == 2));
}

#[test]
fn the_autoscaler_the_adapter_and_the_rules_mean_the_same_figure() {
    let adapter = read("kubernetes/monitoring/adapter.yaml");
    let rule = &adapter["externalRules"][0];
    let series = rule["seriesQuery"].as_str().and_then(|query| query.split('"').nth(1)).unwrap();
    assert!(recorded().contains(series), "nothing records {series}");

    let autoscaler = read("kubernetes/fleet/autoscaler.yaml");
    let metric = &autoscaler["spec"]["metrics"][0]["external"]["metric"];
    assert_eq!(metric["name"], rule["name"]["as"]);
    let job = &metric["selector"]["matchLabels"]["job"];
    assert!(job.is_string());
    assert_eq!(
        *job,
        read("kubernetes/fleet/service-monitor.yaml")["spec"]["endpoints"][0]["relabelings"][0]["replacement"]
    );
    assert_eq!(*job, read("prometheus/prometheus.yml")["scrape_configs"][0]["job_name"]);
    let rules = read("prometheus/rules/fleet.yml");
    assert_eq!(*job, rules["groups"][0]["rules"][0]["labels"]["job"]);
}

/// A Prometheus finds nothing in a namespace that it may not read, and kube-prometheus's may read three others.
#[test]
fn kube_prometheus_may_find_the_pods() {
    let text = std::fs::read_to_string(deploy("kubernetes/components/kube-prometheus/discovery.yaml")).unwrap();
    let objects: Vec<Value> = text.split("\n---\n").map(|one| serde_saphyr::from_str(one).unwrap()).collect();
    let [role, binding] = objects.as_slice() else { panic!("a Role and its binding: {objects:?}") };
    let namespace = &read("kubernetes/base/namespace.yaml")["metadata"]["name"];
    for object in [role, binding] {
        assert_eq!(&object["metadata"]["namespace"], namespace);
    }
    assert_eq!((&role["kind"], &binding["roleRef"]["kind"]), (&"Role".into(), &"Role".into()));
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    let rules = role["rules"].as_array().unwrap();
    for (group, resource) in [("", "pods"), ("", "services"), ("", "endpoints"), ("discovery.k8s.io", "endpointslices")]
    {
        let has = |rule: &Value, key: &str, word: &str| rule[key].as_array().unwrap().iter().any(|one| one == word);
        let rule = rules.iter().find(|rule| has(rule, "apiGroups", group) && has(rule, "resources", resource));
        let rule = rule.unwrap_or_else(|| panic!("{resource} may not be read"));
        assert!(["get", "list", "watch"].iter().all(|verb| has(rule, "verbs", verb)), "{resource}: {rule}");
    }
    // The same Prometheus that the network policy lets in.
    let from = &read("kubernetes/base/network-policy.yaml")["spec"]["ingress"][0]["from"][0];
    let subject = &binding["subjects"][0];
    assert_eq!(subject["namespace"], from["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]);
    assert_eq!(subject["name"], "prometheus-k8s");
    for overlay in ["kubernetes/tuned/fleet", "kubernetes/tuned/job"] {
        let all = &read(&format!("{overlay}/kustomization.yaml"))["components"];
        assert!(all.as_array().unwrap().iter().any(|one| one == "../../components/kube-prometheus"), "{overlay}");
    }
}

/// kube-prometheus's adapter has a configuration of this name in the same namespace, which must stay what it is.
#[test]
fn the_adapter_s_own_configuration_is_not_written_over() {
    let monitoring = read("kubernetes/monitoring/kustomization.yaml");
    assert_eq!(monitoring["configMapGenerator"][0]["name"], "generator-adapter-config");
}

/// Pauses between attempts are in it, and those are not the target's.
#[test]
fn the_panel_of_the_service_time_says_what_is_in_it() {
    let dashboard = read("grafana/dashboards/generator.json");
    let mut judged = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        let mut found = Vec::new();
        strings_of(panel, "expr", &mut found);
        if !found.iter().any(|query| query.contains("generator_service_")) {
            continue;
        }
        judged += 1;
        let said = panel["description"].as_str().unwrap();
        assert!(!said.contains("alone") && said.contains("pauses between attempts"), "{said}");
    }
    assert!(judged > 0, "no panel shows the service time");
}

/// Pods of the Deployment join at any time: one that comes long after a common start would end again and again.
#[test]
fn a_common_start_is_for_the_job() {
    let text = std::fs::read_to_string(deploy("README.md")).unwrap();
    let named: Vec<_> = text.split("\n## ").filter(|section| section.contains("ENGINE_START_AT")).collect();
    let [both, job, fleet] = named.as_slice() else { panic!("three sections name it: {named:?}") };
    assert!(both.starts_with("Before the first") && both.contains("for the Job `ENGINE_START_AT`"), "{both}");
    assert!(job.starts_with("A fixed fleet: the Job"), "{job}");
    assert!(fleet.starts_with("A fleet that follows") && fleet.contains("No `ENGINE_START_AT` here"), "{fleet}");
    let settings = read("kubernetes/fleet/kustomization.yaml")["configMapGenerator"][0]["literals"].to_string();
    assert!(settings.contains("ENGINE_RATE") && !settings.contains("ENGINE_START_AT"), "{settings}");
}

/// The labels that a kustomization gives to everything come after its components, whose patches then find nothing.
#[test]
fn components_find_what_they_patch() {
    for (kind, file) in [("Deployment", "fleet/deployment.yaml"), ("Job", "job/job.yaml")] {
        let workload = read(&format!("kubernetes/{file}"));
        assert_eq!(workload["kind"], kind);
        assert_eq!(workload["metadata"]["labels"]["app.kubernetes.io/part-of"], "generator", "{file}");
    }
    for component in ["io-uring", "credentials", "huge-pages", "whole-node"] {
        let text = std::fs::read_to_string(deploy(&format!("kubernetes/components/{component}/kustomization.yaml")));
        let target = "target: { kind: Deployment|Job, labelSelector: app.kubernetes.io/part-of=generator }";
        assert!(text.unwrap().contains(target), "{component}");
    }
}

/// Cargo's configuration may put the binary elsewhere, and an old one lie where it would be by default.
#[test]
fn the_build_takes_the_binary_that_cargo_has_made() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    for path in ["scripts", "bin", "target/release", "elsewhere"] {
        std::fs::create_dir_all(at(path)).unwrap();
    }
    std::fs::copy(deploy("../scripts/build.sh"), at("scripts/build.sh")).unwrap();
    std::fs::write(at("target/release/engine"), "old").unwrap();
    std::fs::write(at("elsewhere/engine"), "new").unwrap();
    let made = at("elsewhere/engine");
    let lines = [
        r#"{"reason":"compiler-artifact","target":{"name":"libc"},"executable":null,"fresh":true}"#.to_owned(),
        format!(r#"{{"reason":"compiler-artifact","executable":"{}","fresh":false}}"#, made.display()),
        r#"{"reason":"build-finished","success":true}"#.to_owned(),
    ];
    std::fs::write(at("bin/cargo"), format!("#!/bin/sh\ncat <<'END'\n{}\nEND\n", lines.join("\n"))).unwrap();
    std::fs::set_permissions(at("bin/cargo"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", at("bin").display(), std::env::var("PATH").unwrap());
    let mut build = std::process::Command::new("bash");
    let built = build.arg(at("scripts/build.sh")).env("PATH", path).env_remove("BUILD_PROFILE").output().unwrap();
    assert!(built.status.success(), "{built:?}");
    assert_eq!(std::fs::read_to_string(at("engine")).unwrap(), "new");
}
