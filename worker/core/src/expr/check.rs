//! What an expression may not contain, found in its syntax, where positions are known: unknown columns and functions,
//! subqueries, window functions, functions of the clock or of chance.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArguments, Ident, ObjectNamePart, Query, Spanned,
    Value, Visit, Visitor,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use super::functions::{AGGREGATES, Functions, is_deterministic};
use super::parse::Text;
use crate::problem::{Problem, did_you_mean, list};

/// What the names in an expression may refer to.
pub(super) struct Scope<'a> {
    pub columns: Vec<&'a str>,
    /// Columns that exist but may not be used here, and why.
    pub barred: Vec<&'a str>,
    pub barred_because: &'a str,
    /// Whether aggregate functions may be called here, so that a misspelt one is taken for one.
    pub aggregates: bool,
}

impl<'a> Scope<'a> {
    pub fn of(schema: &'a arrow::datatypes::Schema) -> Self {
        let columns = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        Scope {
            columns,
            barred: Vec::new(),
            barred_because: "",
            aggregates: false,
        }
    }
}

/// All problems of an expression that gives one value a row.
pub(super) fn check(expr: &Expr, text: Text<'_>, scope: &Scope<'_>) -> Vec<Problem> {
    let mut checker = Checker {
        text,
        scope,
        problems: Vec::new(),
        unknown_calls: 0,
    };
    let _ = expr.visit(&mut checker);
    checker.problems
}

/// The function's name as it is looked up, and where it stands; `None` for `a.b(c)`.
pub(super) fn function_name(function: &Function) -> Option<(String, Span)> {
    let [ObjectNamePart::Identifier(ident)] = function.name.0.as_slice() else {
        return None;
    };
    Some((lookup_name(ident), ident.span))
}

fn lookup_name(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// Whether it is a call of one of the aggregate functions.
pub(super) fn is_aggregate(function: &Function) -> bool {
    function_name(function).is_some_and(|(name, _)| AGGREGATES.contains(&name.as_str()))
}

struct Checker<'a> {
    text: Text<'a>,
    scope: &'a Scope<'a>,
    problems: Vec<Problem>,
    /// Calls of unknown functions that the walk is in: what may stand in them is not known either.
    unknown_calls: usize,
}

impl Visitor for Checker<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.problems
            .push(self.text.problem(
                "subqueries are not available: an expression sees the columns of one row",
            ));
        ControlFlow::Break(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => self.column(ident),
            Expr::CompoundIdentifier(parts) => self.qualified(parts),
            Expr::Function(function) => {
                self.function(function);
                self.unknown_calls += usize::from(is_unknown(function));
            }
            Expr::BinaryOp {
                op: BinaryOperator::PGOverlap,
                ..
            } => self.problems.push(
                self.text
                    .problem("`&&` is not an operator here")
                    .hint("write AND"),
            ),
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => {
                self.problems
                    .push(self.text.problem_at(expr.span(), "`*` is not a value"));
            }
            Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
                self.problems.push(self.text.problem_at(
                    value.span,
                    format!("`{value}`: expressions have no parameters"),
                ));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            self.unknown_calls -= usize::from(is_unknown(function));
        }
        ControlFlow::Continue(())
    }
}

/// Whether it is a call of a function that there is not.
fn is_unknown(function: &Function) -> bool {
    function_name(function).is_none_or(|(name, _)| {
        !AGGREGATES.contains(&name.as_str()) && Functions::get().find(&name).is_none()
    })
}

impl Checker<'_> {
    fn column(&mut self, ident: &Ident) {
        let name = ident.value.as_str();
        if self.scope.columns.contains(&name)
            || (self.unknown_calls > 0 && self.scope.barred.contains(&name))
        {
            return;
        }
        let problem = if self.scope.barred.contains(&name) {
            self.text
                .problem_at(ident.span, format!("column `{name}` cannot be used here"))
                .hint(self.scope.barred_because)
        } else {
            let problem = self
                .text
                .problem_at(ident.span, format!("there is no column `{name}`"));
            match did_you_mean(name, self.scope.columns.iter().copied()) {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None if ident.quote_style == Some('"') => {
                    problem.hint("double quotes are for columns, single quotes for strings")
                }
                None => problem.hint(format!("columns here: {}", listed(&self.scope.columns))),
            }
        };
        self.problems.push(problem);
    }

    fn qualified(&mut self, parts: &[Ident]) {
        let whole = parts
            .iter()
            .map(|part| part.value.as_str())
            .collect::<Vec<_>>()
            .join(".");
        let prefix = format!("{}.", parts[0].value);
        let joined = self
            .scope
            .columns
            .iter()
            .filter(|name| name.starts_with(&prefix));
        let joined: Vec<&str> = joined.copied().collect();
        if !joined.is_empty() {
            let problem = self
                .text
                .problem_at(parts[0].span, format!("there is no column `{whole}`"));
            return self
                .problems
                .push(match did_you_mean(&whole, joined.iter().copied()) {
                    Some(near) => problem.hint(format!("did you mean `{near}`?")),
                    None => problem.hint(format!("columns of that side: {}", listed(&joined))),
                });
        }
        let problem = self.text.problem_at(
            parts[0].span,
            format!("`{whole}`: columns are named without a prefix"),
        );
        let last = parts
            .last()
            .map(|part| part.value.as_str())
            .filter(|last| self.scope.columns.contains(last));
        self.problems.push(match last {
            Some(last) => problem.hint(format!("write `{last}`")),
            None => problem.hint("a nested field is declared as a column, with `path`"),
        });
    }

    fn function(&mut self, function: &Function) {
        let Some((name, span)) = function_name(function) else {
            return self.problems.push(
                self.text
                    .problem(format!("there is no function `{}`", function.name)),
            );
        };
        if function.over.is_some() {
            let message = format!("`{name}(…) OVER …`: window functions of SQL are not available");
            return self.problems.push(
                self.text
                    .problem_at(span, message)
                    .hint("use a step with `window`"),
            );
        }
        if AGGREGATES.contains(&name.as_str()) {
            let message = format!(
                "`{name}` is an aggregate function, and this expression is computed row by row"
            );
            return self.problems.push(
                self.text
                    .problem_at(span, message)
                    .hint("use it in `aggregate` of a step with `window`"),
            );
        }
        match Functions::get().find(&name) {
            None => self.unknown_function(&name, span),
            Some(known) if !is_deterministic(known) => {
                let message =
                    format!("`{name}` is refused: equal input would not give equal output");
                let hint = "use a column of the event, such as its time";
                self.problems
                    .push(self.text.problem_at(span, message).hint(hint));
            }
            Some(_) => self.decorations(function, &name, span),
        }
    }

    fn unknown_function(&mut self, name: &str, span: Span) {
        let problem = self
            .text
            .problem_at(span, format!("there is no function `{name}`"));
        let aggregate = if self.scope.aggregates {
            did_you_mean(name, AGGREGATES)
        } else {
            None
        };
        let near = aggregate.or_else(|| did_you_mean(name, Functions::get().names()));
        self.problems.push(match near {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None if self.scope.aggregates => {
                problem.hint(format!("aggregate functions: {}", list(&AGGREGATES, "and")))
            }
            None => problem,
        });
    }

    /// DISTINCT, FILTER and the like, which DataFusion would drop without a word.
    fn decorations(&mut self, function: &Function, name: &str, span: Span) {
        let plain_list = match &function.args {
            FunctionArguments::List(list) => {
                list.duplicate_treatment.is_none() && list.clauses.is_empty()
            }
            FunctionArguments::None => true,
            FunctionArguments::Subquery(_) => return,
        };
        let plain = plain_list
            && function.filter.is_none()
            && function.within_group.is_empty()
            && function.null_treatment.is_none();
        if !plain {
            let message = format!("`{name}` is not an aggregate function: it takes arguments only");
            self.problems.push(self.text.problem_at(span, message));
        }
    }
}

fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    let shown = names
        .iter()
        .filter(|name| !name.starts_with('#'))
        .take(SHOWN)
        .map(|name| format!("`{name}`"));
    let more = if names.len() > SHOWN { ", …" } else { "" };
    shown.collect::<Vec<_>>().join(", ") + more
}
