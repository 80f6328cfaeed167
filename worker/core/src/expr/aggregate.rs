//! Expressions over aggregate functions: `sum(amount) / count(*) AS mean`.
//!
//! Every call is cut out of the syntax and a column takes its place; equal calls share one. What is left is a scalar
//! expression over a row per group: the group columns, `window_start` and `window_end` where there are windows, and the
//! calls' results.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_sql::sqlparser::ast::{Expr, Function, Ident, VisitMut, VisitorMut};

use super::Compiled;
use super::check::{Scope, function_name, is_aggregate};
use super::items::{Item, boolean, checked, collect, item_name};
use super::parse::{self, Text};
use crate::plan::AggregateCall;
use crate::problem::Problem;

pub(super) mod call;

/// What a windowed step computes, planned.
#[derive(Clone, Debug)]
pub struct Aggregation {
    pub calls: Vec<AggregateCall>,
    /// Group columns, `window_start`, `window_end` (where there are windows), then a column for each call (`#0`, `#1`, …).
    pub aggregated: SchemaRef,
    /// The aggregate items, over `aggregated`.
    pub items: Vec<Item>,
    /// Over `having_schema`.
    pub having: Option<Compiled>,
    /// `aggregated` and the items.
    pub having_schema: SchemaRef,
}

/// `aggregate` and `having` of a step, as far as the groups need not be known: the calls are planned and cut out.
pub struct Aggregates<'a> {
    input: &'a Schema,
    path: &'a str,
    calls: Vec<(String, AggregateCall)>,
    items: Vec<CutItem<'a>>,
    having: Option<Cut<'a>>,
}

/// An expression in which columns have taken the place of calls.
struct Cut<'a> {
    sql: &'a str,
    path: String,
    expr: Expr,
}

struct CutItem<'a> {
    name: String,
    cut: Cut<'a>,
}

/// Reads `aggregate` and `having` of the step at `path` (such as `spec.steps[1]`). `input`: the rows that are aggregated.
pub fn aggregates<'a>(
    items: &'a [String],
    having: Option<&'a str>,
    input: &'a Schema,
    path: &'a str,
) -> Result<Aggregates<'a>, Vec<Problem>> {
    let mut calls = Calls {
        input,
        found: Vec::new(),
    };
    let items = collect(items.iter().enumerate().map(|(at, sql)| {
        let item = calls.item(sql, format!("{path}.aggregate[{at}]"))?;
        Ok(vec![item])
    }));
    let having = having
        .map(|sql| calls.expression(sql, format!("{path}.having")))
        .transpose();
    match (items, having) {
        (Ok(items), Ok(having)) => Ok(Aggregates {
            input,
            path,
            calls: calls.found,
            items,
            having,
        }),
        (items, having) => {
            let problems = items.err().into_iter().chain(having.err());
            Err(problems.flatten().collect())
        }
    }
}

impl Aggregates<'_> {
    /// Plans them for groups whose columns are emitted as `groups`: the group columns, then those of the window.
    pub fn over(self, groups: &[Field]) -> Result<Aggregation, Vec<Problem>> {
        let Aggregates {
            input,
            path,
            calls,
            items,
            having,
        } = self;
        let aggregated = aggregated_schema(groups, &calls);
        let items = collect(items.into_iter().map(|CutItem { name, cut }| {
            let compiled = cut.compile(&aggregated, input)?;
            Ok(vec![Item { name, compiled }])
        }))?;
        let items = distinct_from(items, &aggregated, path)?;
        let having_schema = followed_by(&aggregated, &items);
        let having = having
            .map(|cut| {
                let path = cut.path.clone();
                let compiled = cut.compile(&having_schema, input)?;
                boolean(compiled, &path).map_err(|problem| vec![problem])
            })
            .transpose()?;
        Ok(Aggregation {
            calls: calls.into_iter().map(|(_, call)| call).collect(),
            aggregated,
            items,
            having,
            having_schema,
        })
    }
}

impl Cut<'_> {
    fn compile(self, schema: &Schema, input: &Schema) -> Result<Compiled, Vec<Problem>> {
        let Cut { sql, path, expr } = self;
        let text = Text { sql, path: &path };
        checked(expr, text, schema, &scope(schema, input))
    }
}

/// `schema` and the columns that items make.
fn followed_by(schema: &Schema, items: &[Item]) -> SchemaRef {
    let made = items.iter().map(|item| {
        let compiled = &item.compiled;
        Arc::new(Field::new(
            &item.name,
            compiled.data_type.clone(),
            compiled.nullable,
        ))
    });
    let fields = schema.fields().iter().cloned().chain(made);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Rows of a group, before the items are computed.
fn aggregated_schema(groups: &[Field], calls: &[(String, AggregateCall)]) -> SchemaRef {
    let calls = calls
        .iter()
        .enumerate()
        .map(|(at, (_, call))| Field::new(call_column(at), call.data_type.clone(), call.nullable));
    Arc::new(Schema::new(
        groups.iter().cloned().chain(calls).collect::<Vec<_>>(),
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
            problems.push(
                Problem::new(
                    path,
                    format!(
                        "`{}` is the name of a group or window column, which is emitted anyway",
                        item.name
                    ),
                )
                .hint("leave it out, or choose another name"),
            );
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
    fn item<'a>(&mut self, sql: &'a str, path: String) -> Result<CutItem<'a>, Vec<Problem>> {
        let one = |problem| vec![problem];
        let text = Text { sql, path: &path };
        let mut item = parse::item(text).map_err(one)?;
        let name = item_name(&item, text).map_err(one);
        let cut = self.cut(&mut item.expr, text);
        match (name, cut) {
            (Ok(name), Ok(())) => {
                let expr = item.expr;
                let cut = Cut { sql, path, expr };
                Ok(CutItem { name, cut })
            }
            (name, cut) => Err(name.err().into_iter().chain(cut.err()).flatten().collect()),
        }
    }

    fn expression<'a>(&mut self, sql: &'a str, path: String) -> Result<Cut<'a>, Vec<Problem>> {
        let text = Text { sql, path: &path };
        let mut expr = parse::expression(text).map_err(|problem| vec![problem])?;
        self.cut(&mut expr, text)?;
        Ok(Cut { sql, path, expr })
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
