//! SQL expressions: planned once by DataFusion, evaluated per batch. The only room that speaks DataFusion's planner.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;

/// A scalar expression, ready to be evaluated over batches of the schema it was planned for.
#[derive(Clone)]
pub struct Compiled {
    pub physical: Arc<dyn PhysicalExpr>,
    pub data_type: DataType,
    pub nullable: bool,
    /// The SQL it came from.
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
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compiled({})", self.sql)
    }
}
