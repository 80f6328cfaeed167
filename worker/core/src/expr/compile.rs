//! Checked syntax to `Compiled`: DataFusion's planner, type coercion, simplifier and physical planner in a row, then
//! our own guards.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use arrow::error::ArrowError;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError, Result, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{ColumnarValue, Expr as Logical};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::expressions::CastExpr;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::Expr;

use super::functions::Functions;
use super::parse::Text;
use super::types::{canonical, type_name};
use super::{Compiled, physical, refusal};
use crate::problem::Problem;

/// Plans a checked expression over `schema`.
pub(super) fn compile(expr: Expr, text: Text<'_>, schema: &Schema) -> Result<Compiled, Problem> {
    let sql = expr.to_string();
    let planned = plan(expr, schema).map_err(|error| refusal::problem(&error, text))?;
    let inner = planned
        .data_type(schema)
        .map_err(|error| refusal::problem(&error, text))?;
    let Some(data_type) = canonical(&inner) else {
        return Err(no_column_type(&inner, text));
    };
    let physical = normalise(planned, &inner, &data_type);
    let physical = physical::finite_result(physical, &data_type);
    let nullable = physical
        .nullable(schema)
        .map_err(|error| refusal::problem(&error, text))?;
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
    refuse_overflow(&logical)?;
    guard(&simplifier.simplify(logical)?, &schema_ref, schema)
}

/// Refuses constants out of range, such as `9223372036854775807 + 1`: the simplifier computes them without our guards,
/// and would let them wrap.
fn refuse_overflow(expr: &Logical) -> Result<()> {
    // The smallest part that is out of range: what is inside first.
    expr.apply_children(|part| {
        refuse_overflow(part)?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !expr.column_refs().is_empty() {
        return Ok(());
    }
    match constant(expr) {
        Err(error) if is_overflow(&error) => {
            plan_err!("`{}` is out of range", expr.human_display())
        }
        // What else is wrong with it shows later.
        _ => Ok(()),
    }
}

/// The value of an expression that reads no columns.
fn constant(expr: &Logical) -> Result<ColumnarValue> {
    let none = Schema::empty();
    let physical = guard(expr, &DFSchema::try_from(none.clone())?, &none)?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    physical.evaluate(&RecordBatch::try_new_with_options(
        Arc::new(none),
        Vec::new(),
        &options,
    )?)
}

fn is_overflow(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ArrowError(error, _) if matches!(error.as_ref(), ArrowError::ArithmeticOverflow(_)))
}

/// The physical expression, with our guards.
fn guard(expr: &Logical, df_schema: &DFSchema, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let props = ExecutionProps::new();
    let physical =
        create_physical_expr(expr, df_schema, &props, &PhysicalPlanningContext::default())?;
    physical::guard(physical, schema)
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
