//! One call of an aggregate function: its arguments, and the type of its result.
//!
//! | function | arguments | result |
//! |---|---|---|
//! | `count(*)`, `count(x)` | any | Int64 |
//! | `sum(x)` | Int64, Double, Decimal(p, s) | Int64, Double, Decimal(38, s) |
//! | `avg(x)`, `stddev(x)` | number | Double |
//! | `min(x)`, `max(x)` | all but Bytes and lists | as x |
//! | `approx_distinct(x)` | all but lists | Int64 |
//! | `approx_percentile_cont(x, q)`, or `(q) WITHIN GROUP (ORDER BY x)` | number, literal in 0..=1 | Double |
//! | `first_value(x)`, `last_value(x)` | all but lists | as x |
//! | `array_agg(x)`, `array_agg(x, limit)` | all but lists, literal in 1..=100,000 | list of x |

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Schema};
use datafusion_sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, UnaryOperator, Value,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use super::is_plain;
use crate::expr::Compiled;
use crate::expr::check::{Scope, function_name, is_aggregate};
use crate::expr::items::{boolean, checked};
use crate::expr::parse::Text;
use crate::expr::types::{list_of, type_name};
use crate::plan::{AggregateCall, AggregateFunction};
use crate::problem::Problem;

/// Values that `array_agg(x)` keeps of a group.
const DEFAULT_LIMIT: usize = 1000;
/// The most that `array_agg(x, limit)` may keep: it all is state.
const MAX_LIMIT: usize = 100_000;

/// Plans a call of an aggregate function over rows of `input`.
pub(in crate::expr) fn plan(
    function: &Function,
    text: Text<'_>,
    input: &Schema,
) -> Result<AggregateCall, Vec<Problem>> {
    let (name, span) =
        function_name(function).unwrap_or_else(|| (function.name.to_string(), Span::empty()));
    let call = Call {
        name: &name,
        span,
        text,
        input,
    };
    let arguments = call.arguments(function).map_err(|problem| vec![problem])?;
    let filter = match &function.filter {
        Some(filter) => Some(call.condition(filter)?),
        None => None,
    };
    let (function, argument) = call.function(arguments)?;
    let (data_type, nullable) = call
        .result(&function, argument.as_ref())
        .map_err(|problem| vec![problem])?;
    Ok(AggregateCall {
        function,
        argument,
        filter,
        data_type,
        nullable,
    })
}

struct Call<'a> {
    name: &'a str,
    span: Span,
    text: Text<'a>,
    input: &'a Schema,
}

/// `None`: the `*` of `count(*)`.
type Argument = Option<Expr>;

impl Call<'_> {
    fn problem(&self, message: impl AsRef<str>) -> Problem {
        self.text
            .problem_at(self.span, format!("`{}`: {}", self.name, message.as_ref()))
    }

    /// The arguments; those of `f(q) WITHIN GROUP (ORDER BY x)` as `x, q`.
    fn arguments(&self, function: &Function) -> Result<Vec<Argument>, Problem> {
        let FunctionArguments::List(list) = &function.args else {
            return Err(self.problem("arguments in parentheses are missing"));
        };
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
            return Err(self
                .problem("DISTINCT is not available")
                .hint("approx_distinct(x) counts distinct values"));
        }
        if function.null_treatment.is_some() {
            return Err(self.problem(
                "nulls are always left out; IGNORE NULLS and RESPECT NULLS are not available",
            ));
        }
        if let Some(clause) = list.clauses.first() {
            return Err(match clause {
                FunctionArgumentClause::OrderBy(_) => self
                    .problem("ORDER BY is not available")
                    .hint("first_value and last_value go by event time, array_agg by the order of the log"),
                other => self.problem(format!("`{other}` is not available")),
            });
        }
        let mut arguments = list
            .args
            .iter()
            .map(|argument| self.argument(argument))
            .collect::<Result<Vec<_>, _>>()?;
        match function.within_group.as_slice() {
            [] => {}
            [order]
                if self.name == "approx_percentile_cont" && order.options.asc != Some(false) =>
            {
                arguments.insert(0, Some(order.expr.clone()));
            }
            _ if self.name == "approx_percentile_cont" => {
                return Err(self.problem("WITHIN GROUP takes one expression, ascending"));
            }
            _ => return Err(self.problem("WITHIN GROUP is not available")),
        }
        Ok(arguments)
    }

    fn argument(&self, argument: &FunctionArg) -> Result<Argument, Problem> {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(Some(expr.clone())),
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if self.name == "count" => Ok(None),
            other => Err(self.problem(format!("`{other}` is not an argument it takes"))),
        }
    }

    fn condition(&self, filter: &Expr) -> Result<Compiled, Vec<Problem>> {
        boolean(self.compile(filter.clone())?, self.text.path).map_err(|problem| vec![problem])
    }

    fn compile(&self, expr: Expr) -> Result<Compiled, Vec<Problem>> {
        if contains_aggregate(&expr) {
            return Err(vec![
                self.problem("an aggregate function inside another")
                    .hint("compute the inner one in a step before"),
            ]);
        }
        checked(expr, self.text, self.input, &Scope::of(self.input))
    }

    fn function(
        &self,
        arguments: Vec<Argument>,
    ) -> Result<(AggregateFunction, Option<Compiled>), Vec<Problem>> {
        let mut arguments = arguments.into_iter();
        let (first, second) = (arguments.next(), arguments.next());
        let usage = |usage: &str| vec![self.problem(format!("write `{usage}`"))];
        if arguments.next().is_some() {
            return Err(usage(self.usage()));
        }
        let one = |problem| vec![problem];
        let function = match (self.name, &second) {
            ("count", None) => AggregateFunction::Count,
            ("sum", None) => AggregateFunction::Sum,
            ("avg", None) => AggregateFunction::Avg,
            ("min", None) => AggregateFunction::Min,
            ("max", None) => AggregateFunction::Max,
            ("stddev" | "stddev_samp", None) => AggregateFunction::Stddev,
            ("approx_distinct", None) => AggregateFunction::ApproxDistinct,
            ("first_value", None) => AggregateFunction::FirstValue,
            ("last_value", None) => AggregateFunction::LastValue,
            ("array_agg", None) => AggregateFunction::ArrayAgg {
                limit: DEFAULT_LIMIT,
            },
            ("array_agg", Some(Some(limit))) => AggregateFunction::ArrayAgg {
                limit: self.limit(limit).map_err(one)?,
            },
            ("approx_percentile_cont", Some(Some(quantile))) => {
                AggregateFunction::ApproxPercentile(self.quantile(quantile).map_err(one)?)
            }
            _ => return Err(usage(self.usage())),
        };
        match first {
            Some(None) => Ok((function, None)),
            Some(Some(argument)) => Ok((function, Some(self.compile(argument)?))),
            None => Err(usage(self.usage())),
        }
    }

    fn usage(&self) -> &'static str {
        match self.name {
            "count" => "count(*)` or `count(x)",
            "sum" => "sum(x)",
            "avg" => "avg(x)",
            "min" => "min(x)",
            "max" => "max(x)",
            "stddev" | "stddev_samp" => "stddev(x)",
            "approx_distinct" => "approx_distinct(x)",
            "first_value" => "first_value(x)",
            "last_value" => "last_value(x)",
            "array_agg" => "array_agg(x)` or `array_agg(x, limit)",
            _ => "approx_percentile_cont(x, 0.95)",
        }
    }

    fn limit(&self, expr: &Expr) -> Result<usize, Problem> {
        let limit = number(expr)
            .and_then(|text| text.parse().ok())
            .filter(|limit| (1..=MAX_LIMIT).contains(limit));
        limit.ok_or_else(|| {
            self.problem(format!(
                "the limit is a whole number from 1 to {MAX_LIMIT}, not `{expr}`"
            ))
        })
    }

    fn quantile(&self, expr: &Expr) -> Result<f64, Problem> {
        let quantile = number(expr)
            .and_then(|text| text.parse().ok())
            .filter(|quantile| (0.0..=1.0).contains(quantile));
        quantile.ok_or_else(|| {
            self.problem(format!(
                "the quantile is a number from 0 to 1, such as 0.95, not `{expr}`"
            ))
        })
    }

    /// Type and nullability of the result.
    fn result(
        &self,
        function: &AggregateFunction,
        argument: Option<&Compiled>,
    ) -> Result<(DataType, bool), Problem> {
        use AggregateFunction::*;
        let Some(given) = argument.map(|argument| &argument.data_type) else {
            return Ok((DataType::Int64, false));
        };
        let number = matches!(
            given,
            DataType::Int64 | DataType::Float64 | DataType::Decimal128(..)
        );
        match function {
            Count => Ok((DataType::Int64, false)),
            ApproxDistinct if is_plain(given) => Ok((DataType::Int64, false)),
            Sum if number => Ok(match given {
                DataType::Decimal128(_, scale) => {
                    (DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale), true)
                }
                other => (other.clone(), true),
            }),
            Avg | Stddev | ApproxPercentile(_) if number => Ok((DataType::Float64, true)),
            Min | Max if is_plain(given) && *given != DataType::Binary => Ok((given.clone(), true)),
            FirstValue | LastValue if is_plain(given) => Ok((given.clone(), true)),
            ArrayAgg { .. } if is_plain(given) => Ok((list_of(given.clone()), true)),
            Sum | Avg | Stddev | ApproxPercentile(_) => {
                let message = format!("it takes numbers, and this is of type {}", type_name(given));
                Err(self.problem(message))
            }
            _ => Err(self.problem(format!("it does not take the type {}", type_name(given)))),
        }
    }
}

/// A number literal's text.
fn number(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) => Some(text.to_string()),
            _ => None,
        },
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => number(expr).map(|text| format!("-{text}")),
        _ => None,
    }
}

fn contains_aggregate(expr: &Expr) -> bool {
    use std::ops::ControlFlow;
    let found = datafusion_sql::sqlparser::ast::visit_expressions(expr, |expr| match expr {
        Expr::Function(function) if is_aggregate(function) && function.over.is_none() => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}
