//! Good files give the job; bad files, what a user sees.

use super::*;

const GOOD: &str = r#"
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {name: clicks}
spec:
  sources:
    - name: clicks
      file: {path: "in/*.ndjson"}
      columns:
        - {name: user, type: String}
        - {name: ts, type: Timestamp}
      eventTime: {column: ts, maxOutOfOrderness: 5s}
  steps:
    - name: per_user
      from: clicks
      groupBy: [user]
      window: {tumbling: {size: 1m}}
      aggregate: [count(*) AS clicks]
  sinks:
    - {name: out, from: per_user, stdout: {}}
"#;

fn shown(text: &str) -> String {
    match load(text) {
        Ok(_) => "fine".into(),
        Err(bad) => render(&bad.problems, &bad.source_map, "job.yaml", text),
    }
}

#[test]
fn a_good_file() {
    let manifest = load(GOOD).unwrap();
    assert_eq!(manifest.job.metadata.name.as_deref(), Some("clicks"));
    assert_eq!(manifest.job.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(
        manifest.job.spec.sources[0]
            .event_time
            .max_out_of_orderness
            .to_string(),
        "5s"
    );
    assert_eq!(
        manifest.job.spec.steps[0].aggregate.as_deref().unwrap(),
        ["count(*) AS clicks"]
    );
    let also = GOOD.replace(
        "{name: clicks}",
        "{name: clicks, namespace: a, labels: {x: y}, uid: 1-2, creationTimestamp: null}",
    );
    let also = format!("\u{feff}# a comment\n---{also}status: {{anything: [1]}}\n---\n");
    assert_eq!(load(&also).unwrap().job.spec, manifest.job.spec);
}

#[test]
fn an_object_from_a_cluster() {
    let job = serde_json::to_value(load(GOOD).unwrap().job).unwrap();
    assert_eq!(check(&job), []);
    let mut job = job;
    job["spec"]["steps"][0]["form"] = "clicks".into();
    assert_eq!(
        check(&job)[0].to_string(),
        "spec.steps[0].form: unknown field `form` (known fields: `aggregate`, `deduplicate`, `from`, `groupBy`, `having`, `match`, `name`, `running`, `select`, `topN`, `where` and `window`)"
    );
}

/// A change to the good file, and what a user sees of it.
#[test]
fn bad_files() {
    for (from, to, expected) in include!("tests/bad.rs") {
        assert!(GOOD.contains(from), "{from}");
        let shown = shown(&GOOD.trim_start().replacen(from, to, 1));
        assert_eq!(shown.trim_end(), expected.trim(), "\n--- {to}\n{shown}");
    }
}

#[test]
fn samples() {
    for text in [
        include_str!("../../../../manifests/samples/clicks.yaml"),
        include_str!("../../../../manifests/samples/sessions.yaml"),
        include_str!("../../../../manifests/samples/kafka-revenue.yaml"),
        include_str!("../../../../manifests/samples/filter.yaml"),
        include_str!("../../../../manifests/samples/deduplicate.yaml"),
        include_str!("../../../../manifests/samples/running-totals.yaml"),
        include_str!("../../../../manifests/samples/top-pages.yaml"),
        include_str!("../../../../manifests/samples/cluster-revenue.yaml"),
    ] {
        assert_eq!(shown(text), "fine");
    }
}

/// A file that is cut off anywhere, or not YAML at all, is refused without a panic, at a place that it has.
#[test]
fn any_text() {
    let mut texts: Vec<String> = (0..GOOD.len())
        .filter_map(|end| GOOD.get(..end))
        .map(String::from)
        .collect();
    texts.extend(
        [
            "",
            "\u{feff}",
            "null",
            "[]",
            "5",
            "{",
            "}",
            "\0",
            "a: \u{7}",
            "? a",
            "- - -\n  - a: [",
            "- 'é",
            "%YAML 1.2\n---\n",
        ]
        .map(String::from),
    );
    texts.push("[".repeat(10_000));
    texts.push("- ".repeat(10_000));
    texts.push("{a: ".repeat(200));
    for text in texts {
        if let Err(bad) = load(&text) {
            assert!(!bad.problems.is_empty(), "{text:?}");
            let shown = render(&bad.problems, &bad.source_map, "job.yaml", &text);
            for problem in &bad.problems {
                let location = bad.source_map.locate(problem);
                assert!(
                    location.line <= text.lines().count().max(1) + 1
                        && location.column < location.end,
                    "{text:?} {location:?}\n{shown}"
                );
            }
        }
    }
}

/// Every form that the schema asks of a text is one that the checker can tell about.
#[test]
fn patterns_are_known() {
    fn patterns<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
        match schema {
            Value::Object(fields) => {
                found.extend(fields.get("pattern").and_then(Value::as_str));
                fields.values().for_each(|value| patterns(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| patterns(value, found)),
            _ => {}
        }
    }
    let crd = serde_json::to_value(streamjob_crds::stream_job_crd()).unwrap();
    let mut found = Vec::new();
    patterns(&crd["spec"]["versions"], &mut found);
    assert!(found.len() > 10);
    for pattern in found {
        let mut walker = schema::Walker::default();
        walker.walk(
            "x",
            &serde_json::json!({"type": "string", "pattern": pattern}),
            &"§".into(),
        );
        assert_eq!(walker.findings.len(), 1, "{pattern}");
    }
}
