//! Checked syntax to `Compiled`: DataFusion's planner, type coercion, simplifier and physical planner in a row, then
//! our own guards.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError, Result, ScalarValue, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr as Logical, Operator};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::expressions::CastExpr;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::Expr;

use super::Compiled;
use super::functions::Functions;
use super::parse::{Text, lower_first};
use super::physical;
use super::types::{canonical, in_our_words, type_name};
use crate::problem::Problem;

/// Plans a checked expression over `schema`.
pub(super) fn compile(expr: Expr, text: Text<'_>, schema: &Schema) -> Result<Compiled, Problem> {
    let sql = expr.to_string();
    let planned = plan(expr, schema).map_err(|error| text.problem(describe(&error)))?;
    let inner = planned
        .data_type(schema)
        .map_err(|error| text.problem(describe(&error)))?;
    let Some(data_type) = canonical(&inner) else {
        return Err(no_column_type(&inner, text));
    };
    let physical = normalise(planned, &inner, &data_type);
    let physical = physical::finite_result(physical, &data_type);
    let nullable = physical
        .nullable(schema)
        .map_err(|error| text.problem(describe(&error)))?;
    Ok(Compiled {
        physical,
        data_type,
        nullable,
        sql,
    })
}

fn no_column_type(inner: &DataType, text: Text<'_>) -> Problem {
    match inner {
        DataType::Null => text
            .problem("NULL by itself has no type")
            .hint("write for example `CAST(NULL AS BIGINT)`"),
        other => text
            .problem(format!(
                "the result has the type {}, which a column cannot have",
                type_name(other)
            ))
            .hint("cast it, for example `CAST(… AS VARCHAR)`"),
    }
}

fn plan(expr: Expr, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let schema_ref = Arc::new(DFSchema::try_from(schema.clone())?);
    let options = ParserOptions::default()
        .with_enable_ident_normalization(false)
        .with_map_string_types_to_utf8view(false);
    let logical = SqlToRel::new_with_options(Functions::get(), options).sql_to_expr(
        expr,
        &schema_ref,
        &mut PlannerContext::new(),
    )?;
    let simplifier = ExprSimplifier::new(
        SimplifyContext::builder()
            .with_schema(schema_ref.clone())
            .build(),
    );
    let logical = simplifier.coerce(logical, &schema_ref)?;
    let logical = simplifier.simplify(fold_checked(logical)?)?;
    let props = ExecutionProps::new();
    let physical = create_physical_expr(
        &logical,
        &schema_ref,
        &props,
        &PhysicalPlanningContext::default(),
    )?;
    physical::guard(physical, schema)
}

/// Integer arithmetic between literals, computed here: the simplifier would let it wrap.
fn fold_checked(expr: Logical) -> Result<Logical> {
    let folded = expr.transform_up(|expr| {
        let Logical::BinaryExpr(binary) = &expr else {
            return Ok(Transformed::no(expr));
        };
        let (
            Logical::Literal(ScalarValue::Int64(Some(left)), _),
            Logical::Literal(ScalarValue::Int64(Some(right)), _),
        ) = (binary.left.as_ref(), binary.right.as_ref())
        else {
            return Ok(Transformed::no(expr));
        };
        let result = match binary.op {
            Operator::Plus => left.checked_add(*right),
            Operator::Minus => left.checked_sub(*right),
            Operator::Multiply => left.checked_mul(*right),
            Operator::Divide if *right != 0 => left.checked_div(*right),
            _ => return Ok(Transformed::no(expr)),
        };
        match result {
            Some(value) => Ok(Transformed::yes(Logical::Literal(
                ScalarValue::Int64(Some(value)),
                None,
            ))),
            None => plan_err!("`{expr}` is out of the range of Int64"),
        }
    })?;
    Ok(folded.data)
}

/// Casts the result to the engine's type.
fn normalise(expr: Arc<dyn PhysicalExpr>, from: &DataType, to: &DataType) -> Arc<dyn PhysicalExpr> {
    let cast = |expr, to: &DataType| -> Arc<dyn PhysicalExpr> {
        Arc::new(CastExpr::new(expr, to.clone(), None))
    };
    match from {
        same if same == to => expr,
        DataType::Duration(unit) if *unit != TimeUnit::Millisecond => {
            cast(cast(expr, &DataType::Duration(TimeUnit::Millisecond)), to)
        }
        _ => cast(expr, to),
    }
}

/// The heart of a planning error, in one line.
pub(super) fn describe(error: &DataFusionError) -> String {
    let root = match error {
        DataFusionError::Diagnostic(_, inner) => inner.as_ref(),
        other => other,
    };
    let text = root.find_root().message().into_owned();
    let text = text
        .split(DataFusionError::BACK_TRACE_SEP)
        .next()
        .unwrap_or_default();
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("the expression cannot be planned");
    lower_first(in_our_words(line).trim_end_matches('.'))
}
