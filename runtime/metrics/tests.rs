//! The list of metrics against its documentation, its dashboard, and the rules of Prometheus.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

const DOCS: &str = include_str!("../../docs/metrics.md");
const DASHBOARD: &str = include_str!("../../contrib/grafana/cri-wasm.json");

/// Metrics and their text, with a child in each family.
fn full() -> String {
    let metrics = metrics();
    metrics.rpcs.get_or_create(&Rpc { method: "Version", code: "OK" }).inc();
    metrics.rpc_duration.get_or_create(&Method { method: "Version" }).observe(0.001);
    metrics.sandboxes.get_or_create_owned(&State { state: "ready" });
    metrics.containers.get_or_create_owned(&State { state: "running" });
    metrics.guests_exited.get_or_create_owned(&Metrics::reason("Trap"));
    for family in [&metrics.pulls, &metrics.compiles, &metrics.code_lookups, &metrics.mirror_commits] {
        family.get_or_create_owned(&Outcome { result: "ok" });
    }
    for family in [&metrics.execs, &metrics.sessions] {
        family.get_or_create_owned(&Kind { kind: "exec" });
    }
    for family in [&metrics.execs_running, &metrics.sessions_open] {
        family.get_or_create_owned(&Kind { kind: "exec" });
    }
    metrics.cni_calls.get_or_create_owned(&CniCall { command: "ADD", result: "ok" });
    metrics.cni_duration.get_or_create(&Cni { command: "ADD" }).observe(0.01);
    metrics.spans_dropped.get_or_create_owned(&Reason { reason: "queue" });
    text(&registry()).unwrap()
}

/// Name as it is asked for, type, words.
fn described(text: &str) -> Vec<(String, String, String)> {
    let words = |line: &str| line.split_once(' ').map(|(name, rest)| (name.to_owned(), rest.to_owned()));
    let help: Vec<_> = text.lines().filter_map(|line| words(line.strip_prefix("# HELP ")?)).collect();
    let kinds: Vec<_> = text.lines().filter_map(|line| words(line.strip_prefix("# TYPE ")?)).collect();
    assert_eq!(help.len(), kinds.len());
    let name = |name: String, kind: &str| match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name,
    };
    help.into_iter().zip(kinds).map(|((base, help), (_, kind))| (name(base, &kind), kind, help)).collect()
}

#[test]
fn each_metric_stands_in_the_documentation_in_these_words() {
    let rows: Vec<String> =
        described(&full()).into_iter().map(|(name, kind, help)| format!("| `{name}` | {kind} | {help} |")).collect();
    let missing: Vec<&String> = rows.iter().filter(|row| !DOCS.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/metrics.md lacks these, all rows being:\n{}\n\nlacking: {missing:#?}", rows.join("\n"));
    let served: BTreeSet<String> = described(&full()).into_iter().map(|(name, ..)| name).collect();
    let invented: Vec<&str> = names_in(DOCS).into_iter().filter(|name| !served.contains(*name)).collect();
    assert!(invented.is_empty(), "docs/metrics.md names what is not served: {invented:?}");
}

#[test]
fn the_dashboard_asks_for_metrics_that_are_served() {
    let mut served = BTreeSet::new();
    for (name, kind, _) in described(&full()) {
        if kind == "histogram" {
            served.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        } else {
            served.insert(name);
        }
    }
    serde_json::from_str::<serde_json::Value>(DASHBOARD).unwrap();
    let asked = names_in(DASHBOARD);
    assert!(asked.len() > 20, "the dashboard shows {asked:?}");
    let unknown: Vec<&str> = asked.into_iter().filter(|name| !served.contains(*name)).collect();
    assert!(unknown.is_empty(), "the dashboard asks for what is not served: {unknown:?}");
}

#[test]
fn names_follow_the_rules_of_prometheus_and_each_has_words() {
    for (name, kind, help) in described(&full()) {
        let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(plain && (name.starts_with("cri_wasm_") || name.starts_with("process_")), "{name}");
        assert!(help.len() > 10 && help.ends_with('.') && !help.ends_with(".."), "{name}: {help}");
        if kind == "histogram" {
            assert!(name.ends_with("_seconds") || name.ends_with("_bytes"), "{name} has no unit");
        }
    }
}

#[test]
fn a_counted_thing_is_counted_as_long_as_it_is_there() {
    let gauge = prometheus_client::metrics::gauge::Gauge::default();
    let (one, two) = (Counted::new(&gauge), Counted::new(&gauge));
    assert_eq!(gauge.get(), 2);
    drop(one);
    assert_eq!(gauge.get(), 1);
    drop(two);
    assert_eq!(gauge.get(), 0);
}

#[test]
fn work_that_is_given_up_is_told_too() {
    let mut told = Vec::new();
    drop(Timed::new("canceled", |result, _: Duration| told.push(result)));
    assert_eq!(told, ["canceled"]);
    let mut told = Vec::new();
    Timed::new("canceled", |result, _: Duration| told.push(result)).end("ok");
    assert_eq!(told, ["ok"]);
}

#[test]
fn an_age_begins_once_and_ends() {
    let lag = lag::Lag::default();
    assert!(lag.seconds() < f64::EPSILON);
    lag.begin();
    std::thread::sleep(Duration::from_millis(2));
    lag.begin();
    assert!(lag.seconds() >= 0.002);
    lag.restart(None);
    assert!(lag.seconds() < f64::EPSILON);
}

#[test]
fn a_reason_that_is_none_of_ours_makes_no_new_series() {
    assert_eq!(Metrics::reason("OOMKilled").reason, "OOMKilled");
    assert_eq!(Metrics::reason("whatever a record says").reason, "Other");
}

fn names_in(text: &str) -> BTreeSet<&str> {
    text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
        .filter(|word| (word.starts_with("cri_wasm_") || word.starts_with("process_")) && !word.ends_with('_'))
        .collect()
}
