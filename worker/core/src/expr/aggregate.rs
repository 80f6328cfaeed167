//! Expressions over aggregate functions: `sum(amount) / count(*) AS mean`.
//!
//! Every call is cut out of the syntax and a column takes its place; equal calls share one. What is left is a scalar
//! expression over a row per group: the group columns, `window_start`, `window_end` and the calls' results.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_sql::sqlparser::ast::{Expr, Function, Ident, VisitMut, VisitorMut};

use super::Compiled;
use super::check::{Scope, function_name, is_aggregate};
use super::items::{Item, boolean, checked, collect, item_name};
use super::parse::{self, Text};
use super::types::TIMESTAMP;
use crate::plan::AggregateCall;
use crate::problem::Problem;

mod call;

/// What a windowed step computes, planned.
#[derive(Clone, Debug)]
pub struct Aggregation {
    pub calls: Vec<AggregateCall>,
    /// Group columns, `window_start`, `window_end`, then a column for each call (`#0`, `#1`, …).
    pub aggregated: SchemaRef,
    /// The aggregate items, over `aggregated`.
    pub items: Vec<Item>,
    /// Over `having_schema`.
    pub having: Option<Compiled>,
    /// `aggregated` and the items.
    pub having_schema: SchemaRef,
}

/// Plans `aggregate` and `having` of the step at `path` (such as `spec.steps[1]`). `groups`: the group columns as they
/// are emitted; `input`: the rows that are aggregated.
pub fn aggregation(
    items: &[String],
    having: Option<&str>,
    groups: &[Field],
    input: &Schema,
    path: &str,
) -> Result<Aggregation, Vec<Problem>> {
    let mut calls = Calls {
        input,
        found: Vec::new(),
    };
    let parsed = collect(items.iter().enumerate().map(|(at, sql)| {
        let path = format!("{path}.aggregate[{at}]");
        let (name, expr) = calls.item(Text { sql, path: &path })?;
        Ok(vec![(name, expr, path, sql)])
    }));
    let having_path = format!("{path}.having");
    let having = having.map(|sql| Text {
        sql,
        path: &having_path,
    });
    let having_expr = having.map(|text| calls.expression(text)).transpose();
    let (parsed, having_expr) = match (parsed, having_expr) {
        (Ok(parsed), Ok(having)) => (parsed, having),
        (parsed, having) => {
            return Err(parsed
                .err()
                .into_iter()
                .chain(having.err())
                .flatten()
                .collect());
        }
    };

    let aggregated = aggregated_schema(groups, &calls.found);
    let planned = collect(parsed.into_iter().map(|(name, expr, path, sql)| {
        let compiled = checked(
            expr,
            Text { sql, path: &path },
            &aggregated,
            &scope(&aggregated, input),
        )?;
        Ok(vec![Item { name, compiled }])
    }))?;
    let planned = distinct_from(planned, &aggregated, path)?;
    let fields = planned.iter().map(|item| {
        Arc::new(Field::new(
            &item.name,
            item.compiled.data_type.clone(),
            item.compiled.nullable,
        ))
    });
    let having_schema = Arc::new(Schema::new(
        aggregated
            .fields()
            .iter()
            .cloned()
            .chain(fields)
            .collect::<Vec<_>>(),
    ));
    let having = match having.zip(having_expr) {
        None => None,
        Some((text, expr)) => {
            let compiled = checked(expr, text, &having_schema, &scope(&having_schema, input))?;
            Some(boolean(compiled, text.path).map_err(|problem| vec![problem])?)
        }
    };
    let calls = calls.found.into_iter().map(|(_, call)| call).collect();
    Ok(Aggregation {
        calls,
        aggregated,
        items: planned,
        having,
        having_schema,
    })
}

/// Rows of a group, before the items are computed.
fn aggregated_schema(groups: &[Field], calls: &[(String, AggregateCall)]) -> SchemaRef {
    let windows = ["window_start", "window_end"].map(|name| Field::new(name, TIMESTAMP, false));
    let calls = calls
        .iter()
        .enumerate()
        .map(|(at, (_, call))| Field::new(call_column(at), call.data_type.clone(), call.nullable));
    Arc::new(Schema::new(
        groups
            .iter()
            .cloned()
            .chain(windows)
            .chain(calls)
            .collect::<Vec<_>>(),
    ))
}

/// No column of a user's can have this name.
fn call_column(at: usize) -> String {
    format!("#{at}")
}

fn scope<'a>(schema: &'a Schema, input: &'a Schema) -> Scope<'a> {
    Scope {
        barred: input
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect(),
        barred_because: "a group has many values of it: put it into `groupBy` or into an aggregate function",
        aggregates: true,
        ..Scope::of(schema)
    }
}

/// No item may be named like a group or window column, or like another item.
fn distinct_from(
    items: Vec<Item>,
    aggregated: &Schema,
    path: &str,
) -> Result<Vec<Item>, Vec<Problem>> {
    let mut problems = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let path = format!("{path}.aggregate[{at}]");
        if aggregated.index_of(&item.name).is_ok() {
            problems.push(Problem::new(
                path,
                format!(
                    "`{}` is the name of a group or window column, which is emitted anyway",
                    item.name
                ),
            ));
        } else if items[..at].iter().any(|other| other.name == item.name) {
            problems.push(
                Problem::new(path, format!("two columns are named `{}`", item.name))
                    .hint("rename one with AS"),
            );
        }
    }
    if problems.is_empty() {
        Ok(items)
    } else {
        Err(problems)
    }
}

/// The calls found so far, each with its text, which tells equal ones.
struct Calls<'a> {
    input: &'a Schema,
    found: Vec<(String, AggregateCall)>,
}

impl Calls<'_> {
    fn item(&mut self, text: Text<'_>) -> Result<(String, Expr), Vec<Problem>> {
        let one = |problem| vec![problem];
        let mut item = parse::item(text).map_err(one)?;
        let name = item_name(&item, text).map_err(one);
        let cut = self.cut(&mut item.expr, text);
        match (name, cut) {
            (Ok(name), Ok(())) => Ok((name, item.expr)),
            (name, cut) => Err(name.err().into_iter().chain(cut.err()).flatten().collect()),
        }
    }

    fn expression(&mut self, text: Text<'_>) -> Result<Expr, Vec<Problem>> {
        let mut expr = parse::expression(text).map_err(|problem| vec![problem])?;
        self.cut(&mut expr, text)?;
        Ok(expr)
    }

    /// Puts columns in the place of calls.
    fn cut(&mut self, expr: &mut Expr, text: Text<'_>) -> Result<(), Vec<Problem>> {
        let mut cutter = Cutter {
            calls: self,
            text,
            problems: Vec::new(),
        };
        let _ = expr.visit(&mut cutter);
        let problems = cutter.problems;
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    fn column_of(&mut self, function: &Function, text: Text<'_>) -> Result<String, Vec<Problem>> {
        let call = call::plan(function, text, self.input)?;
        let written = format!("{call:?}");
        let known = self.found.iter().position(|(other, _)| *other == written);
        let at = known.unwrap_or_else(|| {
            self.found.push((written, call));
            self.found.len() - 1
        });
        Ok(call_column(at))
    }
}

struct Cutter<'a, 'b> {
    calls: &'a mut Calls<'b>,
    text: Text<'a>,
    problems: Vec<Problem>,
}

impl VisitorMut for Cutter<'_, '_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        // A call with OVER is left in, for `check` to refuse.
        if !is_aggregate(function) || function.over.is_some() {
            return ControlFlow::Continue(());
        }
        let span = function_name(function).map(|(_, span)| span);
        match self.calls.column_of(function, self.text) {
            Ok(column) => {
                let mut ident = Ident::with_quote('"', column);
                ident.span = span.unwrap_or(ident.span);
                *expr = Expr::Identifier(ident);
            }
            Err(problems) => {
                self.problems.extend(problems);
                // What is inside has been looked at: the walk must not come upon it again.
                *expr = Expr::Identifier(Ident::new(""));
            }
        }
        ControlFlow::Continue(())
    }
}

/// Whether min, max, first_value and the like can hold it.
fn is_plain(data_type: &DataType) -> bool {
    !matches!(data_type, DataType::List(_))
}
