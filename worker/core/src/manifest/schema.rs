//! A tree against a schema, told in words: all the differences, not the first.
//!
//! It knows the part of OpenAPI v3 that Kubernetes' structural schemas use: types, properties, required,
//! additionalProperties, items, enum, minimum and maximum, lengths, patterns. Objects are closed. The rules in CEL are
//! left to the cluster; the planner finds the same faults.

use serde_json::{Map, Value};
use streamjob_crds::Duration;
use streamjob_crds::duration::DURATION_PATTERN;
use streamjob_crds::rules::{IDENTIFIER_PATTERN, NAME_PATTERN};

use super::child;
use crate::problem::{Problem, did_you_mean, list, lower_first};

/// A DNS label (RFC 1123), as names of Kubernetes objects are.
pub const LABEL_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// A problem, and whether it is about the field's name rather than its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub problem: Problem,
    pub at_key: bool,
}

#[derive(Default)]
pub struct Walker {
    pub findings: Vec<Finding>,
}

impl Walker {
    /// Holds the value at `path` against `schema`.
    pub fn walk(&mut self, path: &str, schema: &Value, value: &Value) {
        match (schema["type"].as_str(), value) {
            (Some("object"), Value::Object(fields)) => self.object(path, schema, fields),
            (Some("array"), Value::Array(elements)) => self.array(path, schema, elements),
            (Some("string"), Value::String(text)) => self.string(path, schema, text),
            (Some("integer"), Value::Number(number)) if !number.is_f64() => {
                self.range(path, schema, value)
            }
            (Some("number"), Value::Number(_)) => self.range(path, schema, value),
            (Some("boolean"), Value::Bool(_)) | (None, _) => {}
            (Some(_), _) => self.wrong_type(path, schema, value),
        }
    }

    fn object(&mut self, path: &str, schema: &Value, fields: &Map<String, Value>) {
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            return;
        }
        let values = &schema["additionalProperties"];
        if values.is_object() {
            return fields
                .iter()
                .for_each(|(name, value)| self.walk(&child(path, name), values, value));
        }
        let no_fields = Map::new();
        let known = schema["properties"].as_object().unwrap_or(&no_fields);
        let mut meant = Vec::new();
        for (name, value) in fields {
            match known.get(name) {
                Some(schema) => self.walk(&child(path, name), schema, value),
                None => meant.extend(self.unknown_field(path, name, known, fields)),
            }
        }
        for name in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            // A misspelt field is one problem, not two.
            if !fields.contains_key(name) && !meant.contains(&name) {
                let mut problem = Problem::new(child(path, name), "required field is missing");
                problem.hint = known
                    .get(name)
                    .and_then(first_sentence)
                    .map(|what| format!("`{name}`: {}", lower_first(&what)));
                self.tell(problem);
            }
        }
    }

    /// Gives the name of the field that was probably meant.
    fn unknown_field<'a>(
        &mut self,
        path: &str,
        name: &str,
        known: &'a Map<String, Value>,
        given: &Map<String, Value>,
    ) -> Option<&'a str> {
        let problem = Problem::new(child(path, name), format!("unknown field `{name}`"));
        let missing = known
            .keys()
            .map(String::as_str)
            .filter(|known| !given.contains_key(*known));
        let meant = did_you_mean(name, missing);
        let owners: Vec<&str> = known
            .iter()
            .filter(|(_, schema)| schema["properties"][name].is_object())
            .map(|(owner, _)| owner.as_str())
            .collect();
        let hint = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if !owners.is_empty() => format!("`{name}` belongs under {}", list(&owners, "or")),
            None if known.is_empty() => "it takes no fields: write `{}`".into(),
            None => format!("known fields: {}", list(&names(known), "and")),
        };
        self.findings.push(Finding {
            problem: problem.hint(hint),
            at_key: true,
        });
        meant
    }

    fn array(&mut self, path: &str, schema: &Value, elements: &[Value]) {
        let least = schema["minItems"].as_u64().unwrap_or(0);
        let most = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
        let count = elements.len() as u64;
        if count == 0 && least > 0 {
            self.tell(Problem::new(
                path,
                "the list is empty, it needs at least one element",
            ));
        }
        if count > most {
            self.tell(Problem::new(
                path,
                format!("must have at most {most} elements, has {count}"),
            ));
        }
        for (index, element) in elements.iter().enumerate() {
            self.walk(&format!("{path}[{index}]"), &schema["items"], element);
        }
    }

    fn string(&mut self, path: &str, schema: &Value, text: &str) {
        let words: Vec<&str> = schema["enum"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !words.is_empty() {
            if !words.contains(&text) {
                let hint = match did_you_mean(text, words.iter().copied()) {
                    Some(word) => format!("did you mean `{word}`?"),
                    None => one_of(&words),
                };
                self.tell(Problem::new(path, format!("unknown value `{text}`")).hint(hint));
            }
            return;
        }
        let length = text.chars().count() as u64;
        if length < schema["minLength"].as_u64().unwrap_or(0) {
            return self.tell(Problem::new(path, "must not be empty"));
        }
        if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
            self.tell(Problem::new(
                path,
                format!("must have at most {most} characters, has {length}"),
            ));
        }
        if let Some(problem) = schema["pattern"]
            .as_str()
            .and_then(|pattern| misfit(path, pattern, text))
        {
            self.tell(problem);
        }
    }

    fn range(&mut self, path: &str, schema: &Value, value: &Value) {
        let number = value.as_f64().unwrap_or(f64::NAN);
        let message = match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
            (Some(least), Some(most)) if number < least || number > most => {
                format!("must be between {least} and {most}, found {value}")
            }
            (Some(least), None) if number < least => {
                format!("must be at least {least}, found {value}")
            }
            (None, Some(most)) if number > most => format!("must be at most {most}, found {value}"),
            _ => return,
        };
        self.tell(Problem::new(path, message));
    }

    fn wrong_type(&mut self, path: &str, schema: &Value, value: &Value) {
        let mut problem = Problem::new(
            path,
            format!("expected {}, found {}", expected(schema), found(value)),
        );
        problem.hint = type_hint(path, schema, value);
        self.tell(problem);
    }

    fn tell(&mut self, problem: Problem) {
        self.findings.push(Finding {
            problem,
            at_key: false,
        });
    }
}

/// What is wrong with a text that should have a form.
fn misfit(path: &str, pattern: &str, text: &str) -> Option<Problem> {
    let starts_well = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let word = |also: &str| {
        text.chars()
            .all(|char| char.is_ascii_alphanumeric() || also.contains(char))
    };
    match pattern {
        DURATION_PATTERN => {
            let mut problem = Problem::new(path, Duration::parse(text).err()?);
            problem.hint = duration_hint(text);
            Some(problem)
        }
        NAME_PATTERN if starts_well && word("_-") => None,
        NAME_PATTERN => Some(Problem::new(
            path,
            format!(
                "`{text}` is not a name: use letters, digits, `_` and `-`, and begin with a letter"
            ),
        )),
        IDENTIFIER_PATTERN if starts_well && word("_") => None,
        IDENTIFIER_PATTERN => {
            let problem = Problem::new(
                path,
                format!(
                    "`{text}` is not a column name: use letters, digits and `_`, and begin with a letter"
                ),
            );
            Some(
                problem.hint(
                    "`path` says where the value is in the event, where that has another name",
                ),
            )
        }
        LABEL_PATTERN => {
            let fits = text
                .chars()
                .all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-');
            let ends = !text.is_empty() && !text.starts_with('-') && !text.ends_with('-');
            let message = format!(
                "`{text}` is not a name that Kubernetes takes: use lower-case letters, digits and `-`, the latter not at an end"
            );
            (!fits || !ends).then(|| Problem::new(path, message))
        }
        _ => None,
    }
}

/// How to write what a text probably means as a duration.
fn duration_hint(text: &str) -> Option<String> {
    if text.starts_with('-') {
        return Some("a duration cannot be negative".into());
    }
    let unit = text.trim_start_matches(|char: char| char.is_ascii_digit() || char == '.');
    let number = &text[..text.len() - unit.len()];
    let millis = match unit.trim() {
        "" => return Some(format!("write the unit: `{text}s` or `{text}ms`")),
        "ms" => 1,
        "s" | "sec" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => return None,
    };
    let millis = (number.parse::<f64>().ok()? * f64::from(millis)).round();
    let meant = Duration::from_millis(millis as i64).to_string();
    // Not where it is too long to be written.
    Duration::parse(&meant)
        .is_ok()
        .then(|| format!("write `{meant}`"))
}

fn expected(schema: &Value) -> String {
    let words: Vec<&str> = schema["enum"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match schema["type"].as_str() {
        Some("string") if !words.is_empty() => one_of(&words),
        Some("string") if schema["pattern"] == DURATION_PATTERN => {
            "a duration such as `10s`".into()
        }
        Some("string") => "a string".into(),
        Some("integer") => "an integer".into(),
        Some("number") => "a number".into(),
        Some("boolean") => "`true` or `false`".into(),
        Some("array") => "a list".into(),
        _ => "an object".into(),
    }
}

fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(_) => format!("`{value}`"),
        Value::Number(_) => format!("the number {value}"),
        Value::String(text) if text.chars().count() <= 40 => format!("the string `{text}`"),
        Value::String(_) => "a string".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

fn type_hint(path: &str, schema: &Value, value: &Value) -> Option<String> {
    let name = path.rsplit('.').next().unwrap_or(path);
    let duration = schema["pattern"] == DURATION_PATTERN;
    let no_fields = schema["properties"].as_object().is_none_or(Map::is_empty);
    let hint = match (schema["type"].as_str()?, value) {
        ("object", Value::Null) if no_fields && !name.ends_with(']') => {
            format!("write `{name}: {{}}`, or leave the field out")
        }
        (_, Value::Null) => "give it a value, or leave it out".into(),
        ("string", Value::Number(number)) if duration => {
            format!("write the unit: `{number}s` or `{number}ms`")
        }
        ("string", Value::Number(_) | Value::Bool(_)) if schema["enum"].is_null() => {
            format!("put it in quotes: `\"{value}\"`")
        }
        ("array", Value::String(text)) if !text.contains(',') => {
            format!("write a list: `[{text}]`")
        }
        ("array", Value::Object(_)) => "begin each element with `- `".into(),
        ("integer", Value::Number(number)) => format!(
            "write `{}`",
            number.as_f64().filter(|number| number.fract() == 0.0)?
        ),
        ("integer" | "number", Value::String(text)) => {
            let digits = text.replace(['_', ' ', ','], "");
            digits
                .parse::<i64>()
                .ok()
                .map(|number| format!("write `{number}`"))?
        }
        ("boolean", Value::String(text)) => match text.to_lowercase().as_str() {
            "yes" | "on" | "true" => "write `true`".into(),
            "no" | "off" | "false" => "write `false`".into(),
            _ => return None,
        },
        ("object", _) if !no_fields => {
            format!(
                "its fields: {}",
                list(&names(schema["properties"].as_object()?), "and")
            )
        }
        _ => return None,
    };
    Some(hint)
}

/// The fields that a user writes: what a cluster adds has neither type nor text.
fn names(known: &Map<String, Value>) -> Vec<&str> {
    let written = known
        .iter()
        .filter(|(_, schema)| schema["type"].is_string() || schema["description"].is_string());
    written.map(|(name, _)| name.as_str()).collect()
}

/// What a field is, from its description.
fn first_sentence(schema: &Value) -> Option<String> {
    let text = schema["description"].as_str()?;
    let end = text
        .find(". ")
        .or_else(|| text.find(".\n"))
        .unwrap_or(text.trim_end_matches('.').len());
    Some(text[..end].replace('\n', " "))
}

fn one_of(words: &[&str]) -> String {
    format!("one of {}", list(words, "or"))
}
