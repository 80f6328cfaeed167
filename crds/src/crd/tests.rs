//! The definition has what a cluster needs to check a job by itself.

use serde_json::Value;

use super::*;

fn schema() -> Value {
    schema_of(&stream_job_crd())
}

fn schema_of(crd: &CustomResourceDefinition) -> Value {
    let crd = serde_json::to_value(crd).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// The schema of a field, such as `spec.sources[].kafka`.
fn at<'a>(schema: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(schema, |schema, segment| {
        let field = segment.trim_end_matches("[]");
        let property = &schema["properties"][field];
        assert!(property.is_object(), "no {segment} in {path}");
        if segment.ends_with("[]") {
            &property["items"]
        } else {
            property
        }
    })
}

fn rules(schema: &Value) -> Vec<&str> {
    schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|rule| rule["rule"].as_str())
        .collect()
}

#[test]
fn unions_are_exactly_one_of() {
    let schema = schema();
    for (path, fields) in [
        ("spec.connections[]", vec!["kafka", "s3"]),
        ("spec.sources[]", vec!["kafka", "file", "generate"]),
        (
            "spec.steps[].window",
            vec!["tumbling", "sliding", "cumulating", "session"],
        ),
        ("spec.sinks[]", vec!["kafka", "file", "stdout"]),
        ("spec.checkpoint.storage", vec!["s3", "local"]),
    ] {
        let object = at(&schema, path);
        let rules = rules(object);
        let rule = rules
            .iter()
            .find(|rule| rule.contains("exists_one"))
            .unwrap_or_else(|| panic!("{path}: {rules:?}"));
        for field in &fields {
            assert!(
                object["properties"][field].is_object(),
                "{path} has no {field}"
            );
            assert!(
                rule.contains(&format!("has(self.{field})")),
                "{path}: {rule}"
            );
        }
        assert_eq!(rule.matches("has(").count(), fields.len(), "{path}: {rule}");
    }
}

/// CEL does not know fields whose type the schema leaves open, nor lists of such values.
#[test]
fn rules_name_typed_fields_only() {
    fn walk(path: &str, schema: &Value) {
        for rule in rules(schema) {
            for field in rule.split("self.").skip(1) {
                let name = field
                    .split(|char: char| !char.is_alphanumeric())
                    .next()
                    .unwrap();
                let typed = |schema: &Value| schema["type"].is_string();
                let property = &schema["properties"][name];
                assert!(typed(property), "{path}.{name} is not typed: {rule}");
                assert!(
                    property["items"].is_null() || typed(&property["items"]),
                    "{path}.{name}: {rule}"
                );
            }
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), property);
            walk(&format!("{path}.{name}[]"), &property["items"]);
        }
    }
    walk("spec", at(&schema(), "spec"));
}

#[test]
fn names_are_unique_and_what_state_hangs_on_is_immutable() {
    let schema = schema();
    for path in [
        "spec.connections",
        "spec.sources",
        "spec.steps",
        "spec.sinks",
        "spec.sources[].columns",
    ] {
        let list = at(&schema, path);
        assert_eq!(list["x-kubernetes-list-type"], "map", "{path}");
        assert_eq!(list["x-kubernetes-list-map-keys"][0], "name", "{path}");
        assert!(
            list["maxItems"].is_number(),
            "{path}: rules over lists without an end cost too much"
        );
    }
    for field in ["maxParallelism", "restoreFrom"] {
        let old = format!("oldSelf.{field}");
        let mut rules = rules(at(&schema, "spec")).into_iter();
        assert!(rules.any(|rule| rule.contains(&old)), "{field}");
    }
    let snapshot = schema_of(&stream_snapshot_crd());
    assert_eq!(rules(at(&snapshot, "spec.jobRef")), ["self == oldSelf"]);
}

/// What a structural schema may not have, or a cluster warns about, and that every field says what it is.
#[test]
fn structural_documented_and_small() {
    fn walk(path: &str, schema: &Value) {
        let known = ["int32", "int64", "double", "float", "date-time"];
        assert!(schema["nullable"].is_null(), "{path}");
        assert_ne!(schema["additionalProperties"], false, "{path}");
        assert!(
            schema["format"]
                .as_str()
                .is_none_or(|format| known.contains(&format)),
            "{path}: {}",
            schema["format"]
        );
        assert!(
            schema["type"].is_string() || schema["x-kubernetes-preserve-unknown-fields"] == true,
            "{path} has no type"
        );
        for keyword in ["oneOf", "anyOf", "allOf", "not", "$ref"] {
            assert!(schema[keyword].is_null(), "{path} has {keyword}");
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            assert!(
                property["description"].is_string(),
                "{path}.{name} is not documented"
            );
            walk(&format!("{path}.{name}"), property);
        }
        if schema["items"].is_object() {
            walk(&format!("{path}[]"), &schema["items"]);
        }
    }
    for crd in [stream_job_crd(), stream_snapshot_crd()] {
        walk("", &schema_of(&crd));
        assert!(serde_json::to_vec(&crd).unwrap().len() < 250_000);
    }
}
