//! What the schemas demand beyond types: the forms of names, and unions.

use kube::core::Rule;

/// Names of sources, steps, sinks and connections: no dots, which separate a side stream from its step.
pub const NAME_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_-]*$";

/// Names of columns.
pub const IDENTIFIER_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

/// One of these optional fields must be given, and no second one.
pub(crate) fn exactly_one_of(fields: &[&str]) -> Rule {
    let given: Vec<String> = fields
        .iter()
        .map(|field| format!("has(self.{field})"))
        .collect();
    let names: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
    Rule::new(format!("[{}].exists_one(given, given)", given.join(", ")))
        .message(format!("exactly one of {} must be given", names.join(", ")).as_str())
}
