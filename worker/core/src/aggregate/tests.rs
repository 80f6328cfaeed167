//! Accumulators by themselves: values, nulls, state, and merging as if all rows had come in one log.

use super::*;
use crate::expr::Compiled;
use arrow::array::{
    BinaryArray, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{Field, Schema};

fn call(function: AggregateFunction, argument: &DataType, result: DataType) -> AggregateCall {
    let schema = Schema::new(vec![Field::new("x", argument.clone(), true)]);
    let argument = Some(Compiled::column(&schema, 0));
    AggregateCall {
        function,
        argument,
        filter: None,
        data_type: result,
        nullable: true,
    }
}

/// An accumulator that has seen `values` in slot 0.
fn seen(call: &AggregateCall, values: ArrayRef) -> Box<dyn Accumulator> {
    let mut accumulator = accumulator(call).expect("an accumulator");
    accumulator.grow(4);
    feed(accumulator.as_mut(), call, values, |_| 0);
    accumulator
}

fn feed(
    accumulator: &mut dyn Accumulator,
    call: &AggregateCall,
    values: ArrayRef,
    slot: impl Fn(usize) -> Slot,
) {
    let rows: Vec<u32> = (0..values.len() as u32).collect();
    let slots: Vec<Slot> = (0..values.len()).map(slot).collect();
    // Event times go back and forth.
    let times: Vec<Millis> = (0..values.len() as i64).map(|at| at * 7 % 5).collect();
    let sequences: Vec<u64> = (0..values.len() as u64).collect();
    let wanted = argument_type(call).expect("an argument");
    let input = Input {
        values: Some(to_argument(values, &wanted).expect("fits")),
        filter: None,
    };
    let pairs = Pairs {
        rows: &rows,
        slots: &slots,
        times: &times,
        sequences: &sequences,
    };
    accumulator.update(&input, pairs).expect("updates");
}

fn result(accumulator: &dyn Accumulator) -> ArrayRef {
    accumulator.finish(&[0]).expect("finishes").values
}

fn double(accumulator: &dyn Accumulator) -> f64 {
    result(accumulator).as_primitive::<Float64Type>().value(0)
}

fn doubles(values: impl IntoIterator<Item = f64>) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(values))
}

/// Every function over every type it takes, with some values.
fn everything() -> Vec<(AggregateCall, ArrayRef)> {
    use AggregateFunction::*;
    let ints: ArrayRef = Arc::new(Int64Array::from(vec![
        Some(3),
        None,
        Some(-5),
        Some(3),
        Some(9),
        Some(i64::MAX),
        Some(8),
    ]));
    let numbers = doubles([2.5, -0.0, 0.0, f64::NAN, -1e300, 7.25, f64::INFINITY]);
    let texts: ArrayRef = Arc::new(StringArray::from(vec![
        Some("b"),
        Some(""),
        None,
        Some("ä"),
        Some("a"),
        Some("b"),
        Some("zz"),
    ]));
    let bytes: ArrayRef = Arc::new(BinaryArray::from_opt_vec(vec![
        Some(&[0][..]),
        Some(&[]),
        None,
        Some(&[255]),
        None,
        None,
        None,
    ]));
    let truths: ArrayRef = Arc::new(BooleanArray::from(vec![
        Some(true),
        None,
        Some(false),
        Some(true),
        None,
        None,
        None,
    ]));
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![5, -5, 0, 1, 2, 3, 4]));
    let decimals = Decimal128Array::from(vec![
        Some(125),
        None,
        Some(-300),
        Some(5),
        Some(7),
        Some(1),
        Some(2),
    ]);
    let decimals: ArrayRef = Arc::new(decimals.with_precision_and_scale(10, 2).expect("fits"));
    let mut all = Vec::new();
    for values in [ints, numbers, texts, bytes, truths, times, decimals] {
        let given = values.data_type().clone();
        let list = DataType::List(Arc::new(Field::new_list_field(given.clone(), true)));
        all.push((call(Count, &given, DataType::Int64), values.clone()));
        all.push((
            call(ApproxDistinct, &given, DataType::Int64),
            values.clone(),
        ));
        all.push((call(ArrayAgg { limit: 3 }, &given, list), values.clone()));
        for function in [FirstValue, LastValue, Min, Max] {
            all.push((call(function, &given, given.clone()), values.clone()));
        }
        if given.is_numeric() {
            for function in [Avg, Stddev, ApproxPercentile(0.5)] {
                all.push((call(function, &given, DataType::Float64), values.clone()));
            }
            let sum = if let DataType::Decimal128(..) = given {
                DataType::Decimal128(38, 2)
            } else {
                given.clone()
            };
            all.push((call(Sum, &given, sum), values.clone()));
        }
    }
    all
}

#[test]
fn state_comes_back_and_merging_is_as_one_log() {
    for (call, values) in everything() {
        let whole = seen(&call, values.clone());
        let expected = result(whole.as_ref());

        let mut restored = accumulator(&call).expect("an accumulator");
        restored.grow(4);
        let saved = whole.save(&[0, 1]).expect("saves");
        let types: Vec<DataType> = saved
            .iter()
            .map(|column| column.data_type().clone())
            .collect();
        assert_eq!(types, whole.state_types(), "{call:?}");
        restored.load(&[0, 3], &saved).expect("loads");
        assert_eq!(
            format!("{:?}", result(restored.as_ref())),
            format!("{expected:?}"),
            "{call:?}"
        );
        assert!(
            restored.load(&[0], &saved).is_err(),
            "{call:?}: state of another length"
        );
        assert!(restored.load(&[0, 1], &[]).is_err(), "{call:?}: no state");

        let mut merged = accumulator(&call).expect("an accumulator");
        merged.grow(4);
        feed(merged.as_mut(), &call, values.clone(), |row| {
            [2, 0, 1][row % 3]
        });
        merged.merge(2, 0);
        merged.merge(3, 0);
        merged.merge(1, 0);
        assert_eq!(
            format!("{:?}", result(merged.as_ref())),
            format!("{expected:?}"),
            "{call:?}"
        );

        merged.reset(&[0, 1, 2]);
        feed(merged.as_mut(), &call, values.slice(0, 0), |_| 0);
        let empty = accumulator(&call).map(|mut fresh| {
            fresh.grow(1);
            result(fresh.as_ref())
        });
        assert_eq!(
            format!("{:?}", result(merged.as_ref())),
            format!("{:?}", empty.expect("an accumulator"))
        );
    }
}

#[test]
fn sums_of_doubles_are_compensated() {
    let sum = call(
        AggregateFunction::Sum,
        &DataType::Float64,
        DataType::Float64,
    );
    let values = [1.0, 1e100, 1.0, -1e100];
    assert_eq!(double(seen(&sum, doubles(values)).as_ref()), 2.0);
    assert_eq!(
        double(seen(&sum, doubles(std::iter::repeat_n(0.1, 100_000))).as_ref()),
        10_000.0
    );
    assert_eq!(
        double(seen(&sum, doubles([f64::INFINITY, 1.0])).as_ref()),
        f64::INFINITY
    );
    assert!(double(seen(&sum, doubles([f64::INFINITY, f64::NEG_INFINITY])).as_ref()).is_nan());
}

#[test]
fn exact_sums_fail_rather_than_wrap_and_come_back_into_range() {
    let sum = call(AggregateFunction::Sum, &DataType::Int64, DataType::Int64);
    let over = seen(&sum, Arc::new(Int64Array::from(vec![i64::MAX, 1])));
    let finished = over.finish(&[0, 1]).expect("finishes");
    assert_eq!(
        finished.failed,
        [(0, "Overflow: sum does not fit Int64".to_string())]
    );
    let back = seen(&sum, Arc::new(Int64Array::from(vec![i64::MAX, 1, -2])));
    assert_eq!(
        result(back.as_ref()).as_primitive::<Int64Type>().value(0),
        i64::MAX - 1
    );

    let largest = 10i128.pow(38) - 1;
    let decimal = DataType::Decimal128(38, 0);
    let sum = call(AggregateFunction::Sum, &decimal, decimal.clone());
    let column = |values: Vec<i128>| -> ArrayRef {
        Arc::new(
            Decimal128Array::from(values)
                .with_precision_and_scale(38, 0)
                .expect("a decimal"),
        )
    };
    assert_eq!(
        seen(&sum, column(vec![largest, 1]))
            .finish(&[0])
            .expect("finishes")
            .failed
            .len(),
        1
    );
    // Beyond 128 bits and back.
    let back = seen(
        &sum,
        column(vec![largest, largest, largest, -largest, -largest]),
    );
    assert_eq!(
        result(back.as_ref())
            .as_primitive::<Decimal128Type>()
            .value(0),
        largest
    );
}

#[test]
fn averages_of_decimals_are_doubles() {
    let given = DataType::Decimal128(10, 1);
    let avg = call(AggregateFunction::Avg, &given, DataType::Float64);
    let values = Decimal128Array::from(vec![-5, 10, 25])
        .with_precision_and_scale(10, 1)
        .expect("a decimal");
    assert_eq!(double(seen(&avg, Arc::new(values)).as_ref()), 1.0);
}

#[test]
fn nan_is_above_every_number_and_minus_zero_below_zero() {
    let (min, max) = (
        call(
            AggregateFunction::Min,
            &DataType::Float64,
            DataType::Float64,
        ),
        call(
            AggregateFunction::Max,
            &DataType::Float64,
            DataType::Float64,
        ),
    );
    assert_eq!(double(seen(&min, doubles([-f64::NAN, 1.0])).as_ref()), 1.0);
    assert!(double(seen(&max, doubles([-f64::NAN, f64::INFINITY])).as_ref()).is_nan());
    assert!(double(seen(&min, doubles([0.0, -0.0])).as_ref()).is_sign_negative());
    assert!(double(seen(&max, doubles([0.0, -0.0])).as_ref()).is_sign_positive());
}

#[test]
fn stddev_is_that_of_a_sample() {
    let stddev = call(
        AggregateFunction::Stddev,
        &DataType::Float64,
        DataType::Float64,
    );
    let deviation =
        |values: &[f64]| double(seen(&stddev, doubles(values.iter().copied())).as_ref());
    assert!(
        (deviation(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) - 2.138_089_935_299_395).abs()
            < 1e-12
    );
    assert!((deviation(&[1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0]) - 1.0).abs() < 1e-9);
    assert!(result(seen(&stddev, doubles([1.0])).as_ref()).is_null(0));
}

#[test]
fn distinct_values_are_counted_exactly_while_few_then_within_two_percent() {
    let distinct = call(
        AggregateFunction::ApproxDistinct,
        &DataType::Int64,
        DataType::Int64,
    );
    let count = |values: i64| {
        let column = Int64Array::from_iter_values((0..values * 3).map(|at| at % values));
        result(seen(&distinct, Arc::new(column)).as_ref())
            .as_primitive::<Int64Type>()
            .value(0)
    };
    for exact in [0, 1, 1000, 1024] {
        assert_eq!(count(exact.max(1)), exact.max(1));
    }
    for many in [1_025, 5_000, 40_000, 200_000] {
        let off = (count(many) - many).abs() as f64 / many as f64;
        assert!(off < 0.02, "{many}: {off}");
    }
    let texts = call(
        AggregateFunction::ApproxDistinct,
        &DataType::Float64,
        DataType::Int64,
    );
    let zeros = seen(&texts, doubles([0.0, -0.0, f64::NAN, -f64::NAN]));
    assert_eq!(
        result(zeros.as_ref()).as_primitive::<Int64Type>().value(0),
        2
    );
}

#[test]
fn dense_sketches_merge_and_come_back() {
    let distinct = call(
        AggregateFunction::ApproxDistinct,
        &DataType::Int64,
        DataType::Int64,
    );
    let column =
        |range: std::ops::Range<i64>| -> ArrayRef { Arc::new(Int64Array::from_iter_values(range)) };
    let whole = seen(&distinct, column(0..9_000));
    // Sparse into dense, dense into sparse, dense into dense.
    for (first, second) in [
        (0..8_900, 8_900..9_000),
        (0..100, 100..9_000),
        (0..5_000, 4_000..9_000),
    ] {
        let mut merged = seen(&distinct, column(first));
        feed(merged.as_mut(), &distinct, column(second), |_| 1);
        merged.merge(1, 0);
        assert_eq!(
            merged.save(&[0]).expect("saves"),
            whole.save(&[0]).expect("saves")
        );
    }
    let mut restored = accumulator(&distinct).expect("an accumulator");
    restored.grow(1);
    restored
        .load(&[0], &whole.save(&[0]).expect("saves"))
        .expect("loads");
    assert_eq!(&result(restored.as_ref()), &result(whole.as_ref()));
}

#[test]
fn percentiles_are_within_one_percent_at_any_scale() {
    let quantile = |q: f64, values: &[f64]| {
        let percentile = call(
            AggregateFunction::ApproxPercentile(q),
            &DataType::Float64,
            DataType::Float64,
        );
        double(seen(&percentile, doubles(values.iter().copied())).as_ref())
    };
    for scale in [1e-310, 1e-9, 1.0, 1e300] {
        let mut values: Vec<f64> = (-500..500).map(|at| f64::from(at) * scale).collect();
        values.sort_by(f64::total_cmp);
        for q in [0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 1.0] {
            let exact = values[(q * 999.0) as usize];
            let got = quantile(q, &values);
            assert!(
                (got - exact).abs() <= exact.abs() * 0.0101,
                "{scale} {q}: {got} {exact}"
            );
        }
    }
    assert_eq!(quantile(0.5, &[0.0, 0.0, 1.0]), 0.0);
    assert_eq!(quantile(1.0, &[1.0, f64::INFINITY]), f64::INFINITY);
    assert_eq!(quantile(0.0, &[1.0, f64::NEG_INFINITY]), f64::NEG_INFINITY);
    assert!((quantile(1.0, &[f64::MAX]) / f64::MAX - 1.0).abs() < 0.0101);
    assert!(quantile(1.0, &[f64::MIN_POSITIVE * f64::EPSILON, f64::NAN]).is_nan());
    assert!((quantile(0.0, &[5e-324]) - 5e-324).abs() <= 5e-324);
}
