//! The schema of a job as a Markdown reference: a table for each object, every field with its type, default and text.

use std::fmt::Write;

use serde_json::Value;
use streamjob_crds::duration::DURATION_PATTERN;

const INTRODUCTION: &str = "\
# The job file

<!-- Generated from the types in crds/src by `make generated`. Change it there. -->

A job is one YAML document. Unknown fields are errors, and so are unknown values. Field names, column names and values
are case-sensitive. The same file runs in a cluster and, with `streamjob-worker run`, on a laptop.

```yaml
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata:
  name: my-job          # lower-case letters, digits and `-`, at most 52 characters
  namespace: default    # optional, as are labels and annotations
spec:                   # all of the fields below
```

A *duration* is one to four numbers with the units `h`, `m`, `s` or `ms`, such as `10s`, `250ms` or `1h30m`.
*Names* of sources, steps, sinks and connections are letters, digits, `_` and `-`, at most 63, and begin with a letter or `_`; names of
columns have no `-`. A stream has the name of the source or step that emits it, so these differ from each other. Side
streams are `<source>.malformed`, `<step>.late` and `<step>.failed`.
A *secret reference* is read from the mounted Secret in a pod, on a laptop from `<secrets dir>/<name>/<key>`.
";

/// The order in which a reader meets the fields of `spec`; the others follow by name.
const READING_ORDER: [&str; 6] = [
    "sources",
    "steps",
    "sinks",
    "connections",
    "guarantee",
    "checkpoint",
];

const SNAPSHOTS: &str = "
# Snapshots

In a cluster, a snapshot of a job is an object too. Another job goes on from it by `restoreFrom`.

```yaml
apiVersion: streamjob.dev/v1alpha1
kind: StreamSnapshot
metadata:
  name: before-the-change
spec:
  jobRef: {name: my-job}
```
";

/// The references of a job's `spec` and a snapshot's.
pub fn markdown(job: &Value, snapshot: &Value) -> String {
    let mut out = String::from(INTRODUCTION);
    section(&mut out, "spec", job);
    out.push_str(SNAPSHOTS);
    section(&mut out, "StreamSnapshot.spec", snapshot);
    out
}

/// The table of the object at `path`, then those of the objects in it.
fn section(out: &mut String, path: &str, schema: &Value) {
    // Writing to a string cannot fail.
    let _ = write!(out, "\n## {path}\n\n");
    if let Some(text) = schema["description"].as_str() {
        let _ = write!(out, "{text}\n\n");
    }
    out.push_str("| field | type | default | |\n| --- | --- | --- | --- |\n");
    let fields = ordered(schema);
    for (name, field) in &fields {
        let text = field["description"]
            .as_str()
            .unwrap_or_default()
            .replace('\n', " ")
            .replace('|', "\\|");
        let default = if is_required(schema, name) {
            "*required*".into()
        } else {
            default(field)
        };
        let _ = writeln!(
            out,
            "| `{name}` | {} | {default} | {text} |",
            kind(&child(path, name, field), field)
        );
    }
    let rules = schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten();
    let rules: Vec<&str> = rules.filter_map(|rule| rule["message"].as_str()).collect();
    if !rules.is_empty() {
        let _ = write!(out, "\nRules:\n- {}\n", rules.join("\n- "));
    }
    for (name, field) in &fields {
        if let Some(object) = object(field) {
            section(out, &child(path, name, field), object);
        }
    }
}

/// Required fields come first, in `spec` those that most jobs have.
fn ordered(schema: &Value) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .collect();
    let is_spec = schema["properties"]["sources"].is_object();
    fields.sort_by_key(
        |(name, _)| match READING_ORDER.iter().position(|first| first == name) {
            Some(place) if is_spec => place,
            _ if is_required(schema, name) => usize::from(*name != "name"),
            _ => READING_ORDER.len(),
        },
    );
    fields
}

fn is_required(schema: &Value, field: &str) -> bool {
    schema["required"]
        .as_array()
        .is_some_and(|names| names.iter().any(|name| name == field))
}

fn child(path: &str, name: &str, field: &Value) -> String {
    format!(
        "{path}.{name}{}",
        if field["type"] == "array" { "[]" } else { "" }
    )
}

/// The object that a field or the elements of a list are, where it has a table of its own.
fn object(field: &Value) -> Option<&Value> {
    let field = if field["type"] == "array" {
        &field["items"]
    } else {
        field
    };
    (field["properties"].is_object() && !is_reference(field)).then_some(field)
}

fn is_reference(field: &Value) -> bool {
    let names: Vec<&String> = field["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .collect();
    names == ["name"] || names == ["key", "name"]
}

fn kind(path: &str, field: &Value) -> String {
    let link = |text: &str| format!("[{text}](#{})", anchor(path));
    match field["type"].as_str() {
        Some("array") if object(field).is_some() => link("list of objects"),
        Some("array") => format!("list of {}s", kind(path, &field["items"])),
        Some("object") if object(field).is_some() => link("object"),
        Some("object") if is_reference(field) && field["properties"]["key"].is_object() => {
            "secret reference, `{name, key}`".into()
        }
        Some("object") if is_reference(field) && path.ends_with("SecretRef") => {
            "secret reference, `{name}`".into()
        }
        Some("object") if is_reference(field) => "reference, `{name}`".into(),
        Some("object") if field["additionalProperties"].is_object() => "map of strings".into(),
        Some("object") if field["x-kubernetes-preserve-unknown-fields"] == true => "object".into(),
        Some("object") => "`{}`".into(),
        Some("string") if field["pattern"] == DURATION_PATTERN => "duration".into(),
        Some("string") => match field["enum"].as_array() {
            Some(words) => words
                .iter()
                .filter_map(Value::as_str)
                .map(|word| format!("`{word}`"))
                .collect::<Vec<_>>()
                .join(" \\| "),
            None => "string".into(),
        },
        Some(number @ ("integer" | "number")) => {
            match (field["minimum"].as_f64(), field["maximum"].as_f64()) {
                (Some(least), Some(most)) => format!("{number}, {least} to {most}"),
                (Some(least), None) => format!("{number}, at least {least}"),
                _ => number.into(),
            }
        }
        Some(other) => other.into(),
        None => "value".into(),
    }
}

/// As GitHub makes it from a heading.
fn anchor(path: &str) -> String {
    path.to_lowercase().replace(['.', '[', ']'], "")
}

fn default(field: &Value) -> String {
    match &field["default"] {
        Value::Null if field["type"] == "boolean" => "`false`".into(),
        Value::Null | Value::Object(_) => String::new(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}
