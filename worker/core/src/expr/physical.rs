//! Guards on DataFusion's physical expressions: arithmetic that fails instead of wrapping, AND and OR whose right side
//! counts only where the left one leaves it open.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{and_kleene, or_kleene};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Schema};
use arrow::error::ArrowError;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion_expr::{ColumnarValue, Operator};
use datafusion_physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal, NegativeExpr};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};

/// Puts the guards into an expression over `schema`.
pub(super) fn guard(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let guarded = expr.transform_up(|expr| {
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            return Ok(match binary.op() {
                Operator::And | Operator::Or if may_fail(binary.right()) => {
                    Transformed::yes(lazy(binary))
                }
                Operator::Plus
                | Operator::Minus
                | Operator::Multiply
                | Operator::Divide
                | Operator::Modulo => Transformed::yes(checked(binary, schema)?),
                _ => Transformed::no(expr),
            });
        }
        if let Some(negative) = expr.downcast_ref::<NegativeExpr>() {
            let data_type = negative.arg().data_type(schema)?;
            if data_type.is_integer() {
                let zero = Arc::new(Literal::new(ScalarValue::new_zero(&data_type)?));
                let minus = BinaryExpr::new(zero, Operator::Minus, negative.arg().clone());
                return Ok(Transformed::yes(Arc::new(
                    minus.with_fail_on_overflow(true),
                )));
            }
        }
        Ok(Transformed::no(expr))
    })?;
    Ok(guarded.data)
}

/// A computed Double must be a number: JSON could not say otherwise, and null would be a lie.
pub(super) fn finite_result(
    expr: Arc<dyn PhysicalExpr>,
    data_type: &DataType,
) -> Arc<dyn PhysicalExpr> {
    let plain = expr.is::<Column>() || expr.is::<InRange>();
    match data_type {
        DataType::Float64 if !plain => Arc::new(InRange { inner: expr }),
        _ => expr,
    }
}

fn lazy(binary: &BinaryExpr) -> Arc<dyn PhysicalExpr> {
    let decided_by = *binary.op() == Operator::Or;
    Arc::new(Lazy {
        left: binary.left().clone(),
        right: binary.right().clone(),
        decided_by,
    })
}

fn checked(binary: &BinaryExpr, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let inner = Arc::new(binary.clone().with_fail_on_overflow(true));
    Ok(match inner.data_type(schema)? {
        DataType::Float64 if divides(binary) => Arc::new(InRange { inner }),
        DataType::Decimal128(..) => Arc::new(InRange { inner }),
        _ => inner,
    })
}

fn divides(binary: &BinaryExpr) -> bool {
    matches!(binary.op(), Operator::Divide | Operator::Modulo)
}

/// Whether an evaluation can fail on some row, as far as this is easy to see.
fn may_fail(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let own = match expr.downcast_ref::<BinaryExpr>() {
        Some(binary) => !binary.op().supports_propagation() && !binary.op().is_logic_operator(),
        None => expr.is::<InRange>() || expr.is::<ScalarFunctionExpr>() || expr.is::<CastExpr>(),
    };
    own || expr.children().into_iter().any(may_fail)
}

/// AND (`decided_by` false) or OR (`decided_by` true): rows that `left` decides never see `right`.
#[derive(Debug, Clone, Eq)]
struct Lazy {
    left: Arc<dyn PhysicalExpr>,
    right: Arc<dyn PhysicalExpr>,
    decided_by: bool,
}

// By hand: the derived one would move the trait objects (rust-lang/rust#78808).
impl PartialEq for Lazy {
    fn eq(&self, other: &Self) -> bool {
        self.left.eq(&other.left)
            && self.right.eq(&other.right)
            && self.decided_by == other.decided_by
    }
}

impl Hash for Lazy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.left, &self.right, self.decided_by).hash(state);
    }
}

impl Lazy {
    /// Rows whose result `left` leaves open; null does.
    fn open(&self, left: &BooleanArray) -> BooleanArray {
        let decided = if self.decided_by {
            left.values().clone()
        } else {
            !left.values()
        };
        let decided = match left.nulls() {
            Some(nulls) => &decided & nulls.inner(),
            None => decided,
        };
        BooleanArray::new(!&decided, None)
    }

    /// `right`, whose values mean nothing where a row is not open. It is tried on all rows first, for rows on which
    /// expressions fail are rare, and picking rows out of a batch costs.
    fn right(&self, batch: &RecordBatch, open: &BooleanArray) -> Result<ArrayRef> {
        const FEW: usize = 8;
        let few = open.true_count() < batch.num_rows() / FEW;
        let all = if few {
            None
        } else {
            self.right.evaluate(batch).ok()
        };
        let value = match all {
            Some(value) => value,
            None => self.right.evaluate_selection(batch, open)?,
        };
        value.into_array(batch.num_rows())
    }
}

impl PhysicalExpr for Lazy {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        Ok(self.left.nullable(schema)? || self.right.nullable(schema)?)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let left = self.left.evaluate(batch)?.into_array(batch.num_rows())?;
        let Some(left) = left.as_boolean_opt() else {
            return internal_err!("the left side of {self} is no condition");
        };
        let open = self.open(left);
        if open.true_count() == 0 {
            return Ok(ColumnarValue::Array(Arc::new(left.clone())));
        }
        let right = self.right(batch, &open)?;
        let Some(right) = right.as_boolean_opt() else {
            return internal_err!("the right side of {self} is no condition");
        };
        let both = if self.decided_by {
            or_kleene(left, right)?
        } else {
            and_kleene(left, right)?
        };
        Ok(ColumnarValue::Array(Arc::new(both)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 2]>::try_from(children) {
            Ok([left, right]) => Ok(Arc::new(Lazy {
                left,
                right,
                decided_by: self.decided_by,
            })),
            Err(_) => internal_err!("{self} has two sides"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Lazy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "({} {} {})",
            self.left,
            if self.decided_by { "OR" } else { "AND" },
            self.right
        )
    }
}

/// Fails where the result is no finite number (Double) or has too many digits (Decimal).
#[derive(Debug, Clone, Eq)]
struct InRange {
    inner: Arc<dyn PhysicalExpr>,
}

impl PartialEq for InRange {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Hash for InRange {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl InRange {
    fn check(&self, values: &ArrayRef, batch: &RecordBatch) -> Result<()> {
        match values.data_type() {
            DataType::Float64 => {
                let values = values.as_primitive::<Float64Type>();
                let bad = |(row, value): (usize, &f64)| !value.is_finite() && values.is_valid(row);
                match values.values().iter().enumerate().any(bad) {
                    true => Err(self.not_finite(batch)),
                    false => Ok(()),
                }
            }
            DataType::Decimal128(precision, _) => {
                let values = values.as_primitive::<Decimal128Type>();
                let overflow = |_| ArrowError::ArithmeticOverflow(format!("{self}"));
                values
                    .validate_decimal_precision(*precision)
                    .map_err(overflow)
                    .map_err(Into::into)
            }
            _ => Ok(()),
        }
    }

    /// A zero divisor, or too large a number.
    fn not_finite(&self, batch: &RecordBatch) -> DataFusionError {
        let division = self
            .inner
            .downcast_ref::<BinaryExpr>()
            .filter(|binary| divides(binary));
        let divisor = division.and_then(|binary| binary.right().evaluate(batch).ok());
        let divisor = divisor.and_then(|value| value.into_array(batch.num_rows()).ok());
        let zero = divisor
            .as_ref()
            .and_then(|array| array.as_primitive_opt::<Float64Type>());
        match zero.is_some_and(|array| array.iter().flatten().any(|value| value == 0.0)) {
            true => ArrowError::DivideByZero.into(),
            false => ArrowError::ArithmeticOverflow(format!("{self}")).into(),
        }
    }
}

impl PhysicalExpr for InRange {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.inner.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.inner.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let value = self.inner.evaluate(batch)?;
        match &value {
            ColumnarValue::Array(array) => self.check(array, batch)?,
            ColumnarValue::Scalar(scalar) => self.check(&scalar.to_array()?, batch)?,
        }
        Ok(value)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([inner]) => Ok(Arc::new(InRange { inner })),
            Err(_) => internal_err!("{self} has one child"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}

impl fmt::Display for InRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}
