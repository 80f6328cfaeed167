//! SQL expressions: planned once by DataFusion, evaluated per batch. The only room that speaks DataFusion's planner.
//!
//! ```text
//! text ─parse─▶ syntax ─check─▶ syntax without unknown names ─compile─▶ Compiled ─evaluate_each─▶ columns + failed rows
//!                      ├aggregate─▶ calls of aggregate functions, and the syntax around them over their results
//!                      └looks─▶ looks at the events of a match, and the syntax around them over what they see
//! ```
//!
//! What differs from DataFusion's defaults:
//! - Names are case-sensitive and keep their case. There are no tables, subqueries or window functions.
//! - Functions whose result is not a function of their arguments (`now()`, `random()`, …) are refused.
//! - Nothing wraps, and nothing turns into null silently: integer and decimal arithmetic is checked, casts are strict
//!   (`TRY_CAST` gives null), a division by zero fails for Double too, and so does a result that is no finite number.
//! - The right side of AND and OR counts only for rows that the left side does not decide.
//! - Results have one of the engine's types (see `types`): what type a function has inside does not show.

mod aggregate;
mod check;
mod compile;
mod evaluate;
mod functions;
mod items;
mod looks;
mod order;
mod parse;
mod physical;
mod refusal;
#[cfg(test)]
mod tests;
mod types;

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::utils::collect_columns;

pub use aggregate::{Aggregates, Aggregation, aggregates};
pub use evaluate::{Evaluated, evaluate_each};
pub use items::{Item, condition, group_items, scalar, select_items};
pub use looks::{Define, Measures, Names, define, measures};
pub use order::{Order, order};
pub use types::{TIMESTAMP, type_name};

/// A scalar expression, ready to be evaluated over batches of the schema it was planned for.
#[derive(Clone)]
pub struct Compiled {
    pub physical: Arc<dyn PhysicalExpr>,
    pub data_type: DataType,
    pub nullable: bool,
    /// The SQL it came from, in one way of writing it.
    pub sql: String,
}

impl Compiled {
    /// The column at `index`, as it is.
    pub fn column(schema: &Schema, index: usize) -> Self {
        let field = schema.field(index);
        Compiled {
            physical: Arc::new(Column::new(field.name(), index)),
            data_type: field.data_type().clone(),
            nullable: field.is_nullable(),
            sql: field.name().clone(),
        }
    }

    /// The value for every row, or the first failure (then evaluate row by row, see `evaluate_each`).
    pub fn evaluate(&self, batch: &RecordBatch) -> datafusion_common::Result<ArrayRef> {
        self.physical.evaluate(batch)?.into_array(batch.num_rows())
    }

    /// The same expression over another schema that has the columns it reads, of the same types.
    pub fn over(&self, schema: &Schema) -> datafusion_common::Result<Self> {
        let moved =
            self.physical
                .clone()
                .transform_up(|expr| match expr.downcast_ref::<Column>() {
                    Some(column) => Ok(Transformed::yes(Arc::new(Column::new_with_schema(
                        column.name(),
                        schema,
                    )?)
                        as Arc<dyn PhysicalExpr>)),
                    None => Ok(Transformed::no(expr)),
                })?;
        Ok(Compiled {
            physical: moved.data,
            ..self.clone()
        })
    }

    /// The column that it is, if it is nothing else: it cannot fail.
    pub fn as_column(&self) -> Option<&Column> {
        self.physical.downcast_ref::<Column>()
    }

    /// Names of the columns it reads, in order of name.
    pub fn columns(&self) -> Vec<String> {
        let mut names: Vec<String> = collect_columns(&self.physical)
            .iter()
            .map(|column| column.name().to_string())
            .collect();
        names.sort();
        names
    }
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compiled({})", self.sql)
    }
}
