//! What the schemas demand beyond types: the forms of names, and unions.

use kube::core::Rule;

/// Names of sources, steps, sinks and connections: no dots, which separate a side stream from its step.
pub const NAME_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_-]*$";

/// Names of columns.
pub const IDENTIFIER_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

/// One of these optional fields must be given, and no second one.
pub(crate) fn exactly_one_of(fields: &[&str]) -> Rule {
    let (given, names) = given(fields);
    Rule::new(format!("[{given}].exists_one(given, given)"))
        .message(format!("exactly one of {names} must be given").as_str())
}

/// No two of these optional fields may be given.
pub(crate) fn at_most_one_of(fields: &[&str]) -> Rule {
    let (given, names) = given(fields);
    Rule::new(format!("[{given}].filter(given, given).size() <= 1"))
        .message(format!("at most one of {names} may be given").as_str())
}

/// Whether each field is given, in CEL; the fields, in words.
fn given(fields: &[&str]) -> (String, String) {
    let given: Vec<String> = fields
        .iter()
        .map(|field| format!("has(self.{field})"))
        .collect();
    let names: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
    (given.join(", "), names.join(", "))
}
