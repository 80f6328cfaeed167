//! Expressions over the events of a match: `price < last(DOWN.price, 1)`, `sum(A.amount) / count(*) AS mean`.
//!
//! What looks at a variable's events is cut out of the syntax and a column takes its place, as with aggregates. What is
//! left is a scalar expression over the event in hand (`define`) or over a row per match (`measures`).
//!
//! | written | is | of no events |
//! |---|---|---|
//! | `X.c` | the last | null |
//! | `first(X.c)`, `last(X.c)` | the first, the last | null |
//! | `last(X.c, n)` | the `n`th before the last | null |
//! | `count(X.c)`, `sum`, `min`, `max`, `avg` | as in `aggregate`, over X's events | null, `count`: 0 |
//! | `count(X.*)`, `count(*)` | the number of X's events, of all events | 0 |

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    ObjectName, Spanned, Value, VisitMut, VisitorMut, visit_expressions, visit_expressions_mut,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use super::Compiled;
use super::aggregate::call;
use super::check::{Scope, function_name, is_aggregate};
use super::items::{Item, boolean, checked, collect, item_name};
use super::parse::{self, ParsedItem, Text};
use crate::plan::{Look, Pick, Tried};
use crate::problem::{Problem, did_you_mean, list};

/// Functions over a variable's events that the window step has too.
const FOLDS: [&str; 5] = ["count", "sum", "min", "max", "avg"];
/// As far back as `last(X.c, n)` may look.
const FARTHEST: usize = 10_000;

/// What the expressions of a `match` may name.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    pub variables: &'a [&'a str],
    pub input: &'a Schema,
}

/// A condition of `define`.
#[derive(Clone, Debug)]
pub struct Define {
    /// The part that needs the event only, over input rows; `None`: always true.
    pub row: Option<Compiled>,
    /// The part that looks back.
    pub tried: Option<Tried>,
}

/// `measures`, planned.
#[derive(Clone, Debug)]
pub struct Measures {
    pub looks: Vec<Look>,
    /// The fields given, then a column for each look (`#0`, `#1`, …).
    pub matched: SchemaRef,
    /// Over `matched`.
    pub items: Vec<Item>,
}

/// Plans a condition of `define`, which stands at `path`.
pub fn define(sql: &str, names: Names<'_>, path: &str) -> Result<Define, Vec<Problem>> {
    let text = Text { sql, path };
    let expr = parse::expression(text).map_err(|problem| vec![problem])?;
    let mut conjuncts = Vec::new();
    split(expr, &mut conjuncts);
    // The right side of AND counts only where the left one leaves it open: only what stands before the first look back
    // can be computed for all rows at once.
    let looks_back = |expr: &Expr| looks_of(expr, names.input);
    let at = conjuncts.iter().position(looks_back);
    let rest = conjuncts.split_off(at.unwrap_or(conjuncts.len()));
    let input = names.input;
    let row = join(conjuncts)
        .map(|expr| condition(expr, text, input, &Scope::of(input)))
        .transpose();
    let tried = join(rest)
        .map(|mut expr| {
            let looks = cut(&mut expr, text, names)?;
            let schema = followed_by(input.fields().iter().cloned().collect(), &looks);
            let condition = condition(expr, text, &schema, &Scope::of(&schema))?;
            Ok::<_, Vec<Problem>>(Tried {
                looks,
                condition,
                schema,
            })
        })
        .transpose();
    match (row, tried) {
        (Ok(row), Ok(tried)) => Ok(Define { row, tried }),
        (row, tried) => Err(row.err().into_iter().chain(tried.err()).flatten().collect()),
    }
}

/// Plans `measures` of the match at `path` (such as `spec.steps[1].match`), behind the columns `fields`, which are emitted
/// anyway.
pub fn measures(
    items: &[String],
    fields: &[Field],
    names: Names<'_>,
    path: &str,
) -> Result<Measures, Vec<Problem>> {
    let mut looks = Looks {
        names,
        found: Vec::new(),
    };
    let cut = collect(items.iter().enumerate().map(|(at, sql)| {
        let path = format!("{path}.measures[{at}]");
        let text = Text { sql, path: &path };
        let mut item = parse::item(text).map_err(|problem| vec![problem])?;
        let name = name(&item, text).map_err(|problem| vec![problem]);
        match (name, looks.cut(&mut item.expr, text)) {
            (Ok(name), Ok(())) => Ok(vec![(name, item.expr, sql, path)]),
            (name, cut) => Err(name.err().into_iter().chain(cut.err()).flatten().collect()),
        }
    }))?;
    let looks: Vec<Look> = looks.found.into_iter().map(|(_, look)| look).collect();
    let fields = fields.iter().cloned().map(Arc::new).collect();
    let matched = followed_by(fields, &looks);
    let scope = scope(&matched, names.input);
    let items = collect(cut.into_iter().map(|(name, expr, sql, path)| {
        let text = Text { sql, path: &path };
        let compiled = checked(expr, text, &matched, &scope)?;
        Ok(vec![Item { name, compiled }])
    }))?;
    distinct(&items, &matched, path)?;
    Ok(Measures {
        looks,
        matched,
        items,
    })
}

/// The conditions that AND joins, from left to right.
fn split(expr: Expr, out: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => {
            split(*left, out);
            split(*right, out);
        }
        Expr::Nested(inner)
            if matches!(
                *inner,
                Expr::BinaryOp {
                    op: BinaryOperator::And,
                    ..
                }
            ) =>
        {
            split(*inner, out);
        }
        other => out.push(other),
    }
}

fn join(conjuncts: Vec<Expr>) -> Option<Expr> {
    conjuncts.into_iter().reduce(|left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: BinaryOperator::And,
        right: Box::new(right),
    })
}

fn condition(
    expr: Expr,
    text: Text<'_>,
    schema: &Schema,
    scope: &Scope<'_>,
) -> Result<Compiled, Vec<Problem>> {
    boolean(checked(expr, text, schema, scope)?, text.path).map_err(|problem| vec![problem])
}

/// Whether it looks at events of variables (or tries to).
fn looks_of(expr: &Expr, input: &Schema) -> bool {
    let found = visit_expressions(expr, |expr| match expr {
        Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        Expr::Function(function) if is_look(function) && !is_column(function, input) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// A word that SQL takes for a function without parentheses, where a column has this name.
fn is_column(function: &Function, input: &Schema) -> bool {
    function.args == FunctionArguments::None
        && function_name(function).is_some_and(|(name, _)| input.index_of(&name).is_ok())
}

fn is_look(function: &Function) -> bool {
    let name = function_name(function).map(|(name, _)| name);
    is_aggregate(function) || matches!(name.as_deref(), Some("first" | "last"))
}

/// The name of a measure; that of `X.c` is `c`.
fn name(item: &ParsedItem, text: Text<'_>) -> Result<String, Problem> {
    match (&item.alias, &item.expr) {
        (None, Expr::CompoundIdentifier(parts)) if parts.len() == 2 => Ok(parts[1].value.clone()),
        _ => item_name(item, text),
    }
}

fn followed_by(mut fields: Vec<Arc<Field>>, looks: &[Look]) -> SchemaRef {
    fields.extend(looks.iter().enumerate().map(|(at, look)| {
        let (data_type, nullable) = look.result();
        Arc::new(Field::new(column(at), data_type, nullable))
    }));
    Arc::new(Schema::new(fields))
}

/// No column of a user's can have this name.
fn column(at: usize) -> String {
    format!("#{at}")
}

/// Bounds and looks; of the others, a match has several values.
fn scope<'a>(matched: &'a Schema, input: &'a Schema) -> Scope<'a> {
    let names = |schema: &'a Schema| schema.fields().iter().map(|field| field.name().as_str());
    let usable = |name: &&str| name.starts_with('#') || ["match_start", "match_end"].contains(name);
    Scope {
        columns: names(matched).filter(usable).collect(),
        barred: names(matched)
            .filter(|name| !usable(name))
            .chain(names(input))
            .collect(),
        barred_because: "a match has several events: say of which variable, as in `X.column`; columns of `partitionBy` are emitted anyway",
        aggregates: false,
    }
}

/// No measure may be named like a column that is emitted anyway, or like another measure.
fn distinct(items: &[Item], matched: &Schema, path: &str) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let path = format!("{path}.measures[{at}]");
        if matched.index_of(&item.name).is_ok() {
            let message = format!(
                "`{}` is the name of a column that is emitted anyway",
                item.name
            );
            problems.push(Problem::new(path, message).hint("choose another name"));
        } else if items[..at].iter().any(|other| other.name == item.name) {
            let message = format!("two columns are named `{}`", item.name);
            problems.push(Problem::new(path, message).hint("rename one with AS"));
        }
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems),
    }
}

fn cut(expr: &mut Expr, text: Text<'_>, names: Names<'_>) -> Result<Vec<Look>, Vec<Problem>> {
    let mut looks = Looks {
        names,
        found: Vec::new(),
    };
    looks.cut(expr, text)?;
    Ok(looks.found.into_iter().map(|(_, look)| look).collect())
}

/// The looks found so far, each with its text, which tells equal ones.
struct Looks<'a> {
    names: Names<'a>,
    found: Vec<(String, Look)>,
}

impl Looks<'_> {
    /// Puts columns in the place of looks.
    fn cut(&mut self, expr: &mut Expr, text: Text<'_>) -> Result<(), Vec<Problem>> {
        let input = self.names.input;
        parse::prefer_columns(expr, |name| input.index_of(name).is_ok());
        let mut cutter = Cutter {
            looks: self,
            text,
            problems: Vec::new(),
        };
        let _ = expr.visit(&mut cutter);
        match cutter.problems.is_empty() {
            true => Ok(()),
            false => Err(cutter.problems),
        }
    }

    fn column_of(&mut self, look: Look) -> String {
        let written = format!("{look:?}");
        let known = self.found.iter().position(|(other, _)| *other == written);
        column(known.unwrap_or_else(|| {
            self.found.push((written, look));
            self.found.len() - 1
        }))
    }
}

struct Cutter<'a, 'b> {
    looks: &'a mut Looks<'b>,
    text: Text<'a>,
    problems: Vec<Problem>,
}

impl VisitorMut for Cutter<'_, '_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let (look, span) = match expr {
            Expr::CompoundIdentifier(parts) => (self.plain(parts), expr.span()),
            Expr::Function(function) if is_look(function) && function.over.is_none() => {
                let span = function_name(function).map(|(_, span)| span);
                (self.call(function), span.unwrap_or(Span::empty()))
            }
            _ => return ControlFlow::Continue(()),
        };
        match look {
            Ok(look) => {
                let mut ident = Ident::with_quote('"', self.looks.column_of(look));
                ident.span = span;
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

impl Cutter<'_, '_> {
    fn input(&self) -> &Schema {
        self.looks.names.input
    }

    /// `X.c`: the last.
    fn plain(&self, parts: &[Ident]) -> Result<Look, Vec<Problem>> {
        let mut expr = Expr::CompoundIdentifier(parts.to_vec());
        let variable = self.of_one_variable(&mut expr)?;
        let argument = self.argument(expr)?;
        Ok(Look {
            variable,
            pick: Pick::Last(argument, 0),
        })
    }

    fn call(&self, function: &Function) -> Result<Look, Vec<Problem>> {
        let (name, span) =
            function_name(function).unwrap_or_else(|| (function.name.to_string(), Span::empty()));
        let one = |problem: Problem| vec![problem];
        let wrong = |message: &str| self.text.problem_at(span, format!("`{name}`: {message}"));
        if !FOLDS.contains(&name.as_str()) && !["first", "last"].contains(&name.as_str()) {
            let there: Vec<&str> = ["first", "last"].into_iter().chain(FOLDS).collect();
            let hint = format!("there are {}", list(&there, "and"));
            return Err(one(wrong("it is not available in a pattern").hint(hint)));
        }
        let plain = function.filter.is_none()
            && function.within_group.is_empty()
            && function.null_treatment.is_none();
        let FunctionArguments::List(arguments) = &function.args else {
            return Err(one(wrong("arguments in parentheses are missing")));
        };
        if !plain || arguments.duplicate_treatment.is_some() || !arguments.clauses.is_empty() {
            return Err(one(wrong("in a pattern it takes arguments only")));
        }
        let mut function = function.clone();
        let FunctionArguments::List(arguments) = &mut function.args else {
            return Err(one(wrong("arguments in parentheses are missing")));
        };
        let arguments = arguments.args.as_mut_slice();
        match (name.as_str(), arguments) {
            ("count", [FunctionArg::Unnamed(argument)])
                if matches!(argument, FunctionArgExpr::QualifiedWildcard(_)) =>
            {
                let variable = self.wildcard(argument, span).map_err(one)?;
                *argument = FunctionArgExpr::Wildcard;
                self.fold(&function, Some(variable))
            }
            ("count", [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]) => {
                self.fold(&function, None)
            }
            ("first", [FunctionArg::Unnamed(FunctionArgExpr::Expr(of))]) => {
                let variable = self.of_one_variable(of)?;
                let pick = Pick::First(self.argument(of.clone())?);
                Ok(Look { variable, pick })
            }
            ("last", [FunctionArg::Unnamed(FunctionArgExpr::Expr(of)), rest @ ..])
                if rest.len() <= 1 =>
            {
                let back = match rest.first() {
                    None => 0,
                    Some(back) => number(back).ok_or_else(|| {
                        one(wrong(&format!(
                            "how far it looks back is a whole number from 0 to {FARTHEST}, not `{back}`"
                        )))
                    })?,
                };
                let variable = self.of_one_variable(of)?;
                let pick = Pick::Last(self.argument(of.clone())?, back);
                Ok(Look { variable, pick })
            }
            ("first", _) => Err(one(wrong("write `first(X.column)`"))),
            ("last", _) => Err(one(wrong("write `last(X.column)` or `last(X.column, 1)`"))),
            (_, [FunctionArg::Unnamed(FunctionArgExpr::Expr(of))]) => {
                let variable = self.of_one_variable(of)?;
                self.fold(&function, variable)
            }
            _ => Err(one(wrong(&format!("write `{name}(X.column)`")))),
        }
    }

    fn fold(&self, function: &Function, variable: Option<usize>) -> Result<Look, Vec<Problem>> {
        let call = call::plan(function, self.text, self.input())?;
        Ok(Look {
            variable,
            pick: Pick::Fold(call),
        })
    }

    fn argument(&self, expr: Expr) -> Result<Compiled, Vec<Problem>> {
        checked(expr, self.text, self.input(), &Scope::of(self.input()))
    }

    /// The variable of `X.*`.
    fn wildcard(&self, argument: &FunctionArgExpr, span: Span) -> Result<usize, Problem> {
        let name = match argument {
            FunctionArgExpr::QualifiedWildcard(ObjectName(parts)) => match parts.as_slice() {
                [part] => part.as_ident().map(|ident| ident.value.as_str()),
                _ => None,
            },
            _ => None,
        };
        self.variable(name.unwrap_or_default(), span)
    }

    fn variable(&self, name: &str, span: Span) -> Result<usize, Problem> {
        let variables = self.looks.names.variables;
        variables
            .iter()
            .position(|variable| *variable == name)
            .ok_or_else(|| {
                let problem = self
                    .text
                    .problem_at(span, format!("there is no variable `{name}`"));
                match did_you_mean(name, variables.iter().copied()) {
                    Some(near) => problem.hint(format!("did you mean `{near}`?")),
                    None => problem.hint(format!("`define` has {}", list(variables, "and"))),
                }
            })
    }

    /// The variable whose columns an expression is made of, which loses their prefix.
    fn of_one_variable(&self, expr: &mut Expr) -> Result<Option<usize>, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut variable: Option<(usize, String)> = None;
        let _ = visit_expressions_mut(expr, |expr| {
            match expr {
                Expr::CompoundIdentifier(parts) => match self.qualified(parts) {
                    Ok(found) => match &variable {
                        Some((other, name)) if *other != found => {
                            let message = format!(
                                "columns of both `{name}` and `{}` in one look at the events of a variable",
                                parts[0].value
                            );
                            problems.push(self.text.problem_at(parts[0].span, message));
                        }
                        _ => {
                            variable = Some((found, parts[0].value.clone()));
                            *expr = Expr::Identifier(parts.remove(1));
                        }
                    },
                    Err(problem) => problems.push(problem),
                },
                Expr::Identifier(ident) => {
                    let known = self.input().index_of(&ident.value).is_ok();
                    let message = match known {
                        true => format!("say of which variable `{}` is", ident.value),
                        false => format!("there is no column `{}`", ident.value),
                    };
                    let problem = self.text.problem_at(ident.span, message);
                    problems.push(problem.hint(format!("write `X.{}`", ident.value)));
                }
                Expr::Function(function) if is_look(function) => {
                    let message = "a look at the events of a variable inside another".to_string();
                    problems.push(self.text.problem(message));
                    return ControlFlow::Break(());
                }
                _ => {}
            }
            ControlFlow::Continue(())
        });
        match (problems.is_empty(), variable) {
            (true, Some((variable, _))) => Ok(Some(variable)),
            (true, None) => Err(vec![
                self.text
                    .problem("it reads no column of a variable")
                    .hint("write for example `sum(X.column)`"),
            ]),
            (false, _) => Err(problems),
        }
    }

    /// The variable of `X.c`.
    fn qualified(&self, parts: &[Ident]) -> Result<usize, Problem> {
        let [variable, column] = parts else {
            let whole: Vec<&str> = parts.iter().map(|part| part.value.as_str()).collect();
            let message = format!("`{}` is no column of a variable", whole.join("."));
            return Err(self.text.problem_at(parts[0].span, message));
        };
        let found = self.variable(&variable.value, variable.span)?;
        if self.input().index_of(&column.value).is_ok() {
            return Ok(found);
        }
        let names = self
            .input()
            .fields()
            .iter()
            .map(|field| field.name().as_str());
        let problem = self.text.problem_at(
            column.span,
            format!("there is no column `{}`", column.value),
        );
        Err(match did_you_mean(&column.value, names.clone()) {
            Some(near) => problem.hint(format!("did you mean `{}.{near}`?", variable.value)),
            None => problem.hint(format!(
                "columns: {}",
                list(&names.collect::<Vec<_>>(), "and")
            )),
        })
    }
}

/// A whole number as an argument.
fn number(argument: &FunctionArg) -> Option<usize> {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) = argument else {
        return None;
    };
    match &value.value {
        Value::Number(text, _) => text.to_string().parse().ok(),
        _ => None,
    }
    .filter(|back| *back <= FARTHEST)
}
