//! Expressions as they stand in a step: conditions, select items, group columns.

use arrow::datatypes::{DataType, Schema};
use datafusion_sql::sqlparser::ast::Expr;

use super::Compiled;
use super::check::{Scope, check};
use super::compile::compile;
use super::parse::{self, ParsedItem, Text};
use super::types::type_name;
use crate::problem::Problem;

/// A named expression.
#[derive(Clone, Debug)]
pub struct Item {
    pub name: String,
    pub compiled: Compiled,
}

/// Plans one expression over `schema`; `path` is the field it stands in.
pub fn scalar(sql: &str, schema: &Schema, path: &str) -> Result<Compiled, Vec<Problem>> {
    let text = Text { sql, path };
    let expr = parse::expression(text).map_err(|problem| vec![problem])?;
    checked(expr, text, schema, &Scope::of(schema))
}

/// Plans a condition: rows on which it is true pass.
pub fn condition(sql: &str, schema: &Schema, path: &str) -> Result<Compiled, Vec<Problem>> {
    boolean(scalar(sql, schema, path)?, path).map_err(|problem| vec![problem])
}

/// A condition has to be one.
pub(super) fn boolean(compiled: Compiled, path: &str) -> Result<Compiled, Problem> {
    match &compiled.data_type {
        DataType::Boolean => Ok(compiled),
        other => Err(Problem::new(
            path,
            format!(
                "a condition is true or false, but this is of type {}",
                type_name(other)
            ),
        )
        .hint("compare it with something")),
    }
}

/// Plans `select`: `expr AS name`, a column, or `*` for all columns of `schema`.
pub fn select_items(
    items: &[String],
    schema: &Schema,
    path: &str,
) -> Result<Vec<Item>, Vec<Problem>> {
    let planned = items.iter().enumerate().map(|(at, sql)| {
        let path = format!("{path}[{at}]");
        match sql.trim() {
            "*" => Ok((0..schema.fields().len())
                .map(|index| bare(schema, index))
                .collect()),
            _ => named(sql, schema, &path).map(|item| vec![item]),
        }
    });
    distinct(collect(planned)?, path)
}

/// Plans `groupBy`: columns or `expr AS name`.
pub fn group_items(
    items: &[String],
    schema: &Schema,
    path: &str,
) -> Result<Vec<Item>, Vec<Problem>> {
    let planned = items.iter().enumerate().map(|(at, sql)| {
        let path = format!("{path}[{at}]");
        let item = named(sql, schema, &path)?;
        match &item.compiled.data_type {
            DataType::List(_) => Err(vec![Problem::new(&path, "a list cannot make groups")]),
            _ => Ok(vec![item]),
        }
    });
    distinct(collect(planned)?, path)
}

fn bare(schema: &Schema, index: usize) -> Item {
    Item {
        name: schema.field(index).name().clone(),
        compiled: Compiled::column(schema, index),
    }
}

fn named(sql: &str, schema: &Schema, path: &str) -> Result<Item, Vec<Problem>> {
    let text = Text { sql, path };
    let one = |problem| vec![problem];
    let mut item = parse::item(text).map_err(one)?;
    parse::prefer_columns(&mut item.expr, |name| schema.index_of(name).is_ok());
    let name = item_name(&item, text);
    let compiled = checked(item.expr, text, schema, &Scope::of(schema));
    match (name, compiled) {
        (Ok(name), Ok(compiled)) => Ok(Item { name, compiled }),
        (Err(problem), Ok(_)) => Err(one(problem)),
        (name, Err(problems)) => Err(name.err().into_iter().chain(problems).collect()),
    }
}

/// The name that an item gives its column.
pub(super) fn item_name(item: &ParsedItem, text: Text<'_>) -> Result<String, Problem> {
    match (&item.alias, &item.expr) {
        (Some(alias), _) => usable_name(&alias.value, text),
        (None, Expr::Identifier(ident)) => Ok(ident.value.clone()),
        (None, _) => Err(text
            .problem("the expression has no name")
            .hint(format!("write `{} AS name`", text.sql.trim()))),
    }
}

fn usable_name(name: &str, text: Text<'_>) -> Result<String, Problem> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.chars().all(fits) && name.starts_with(|c: char| !c.is_ascii_digit()) {
        return Ok(name.to_string());
    }
    Err(text
        .problem(format!("`{name}` is not a name for a column"))
        .hint("letters, digits and `_`, not beginning with a digit"))
}

/// Checks names, then compiles.
pub(super) fn checked(
    mut expr: Expr,
    text: Text<'_>,
    schema: &Schema,
    scope: &Scope<'_>,
) -> Result<Compiled, Vec<Problem>> {
    parse::prefer_columns(&mut expr, |name| schema.index_of(name).is_ok());
    let problems = check(&expr, text, scope);
    if !problems.is_empty() {
        return Err(problems);
    }
    compile(expr, text, schema).map_err(|problem| vec![problem])
}

/// All values, or all problems.
pub(super) fn collect<T>(
    results: impl Iterator<Item = Result<Vec<T>, Vec<Problem>>>,
) -> Result<Vec<T>, Vec<Problem>> {
    let (mut values, mut problems) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(more) => values.extend(more),
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() {
        Ok(values)
    } else {
        Err(problems)
    }
}

/// Two columns of one name would be one key in JSON.
fn distinct(items: Vec<Item>, path: &str) -> Result<Vec<Item>, Vec<Problem>> {
    let twice = items
        .iter()
        .enumerate()
        .filter(|(at, item)| items[..*at].iter().any(|other| other.name == item.name));
    let problems: Vec<Problem> = twice
        .map(|(_, item)| {
            Problem::new(path, format!("two columns are named `{}`", item.name))
                .hint("rename one with AS")
        })
        .collect();
    if problems.is_empty() {
        Ok(items)
    } else {
        Err(problems)
    }
}
