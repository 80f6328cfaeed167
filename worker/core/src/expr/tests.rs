//! Expressions: values, failures of single rows, messages.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{Decimal128Type, Field, Float64Type, Int64Type, Schema};
use arrow::util::display::array_value_to_string;

use super::types::TIMESTAMP;
use super::*;
use crate::plan::AggregateFunction;
use crate::problem::Problem;

/// Four rows: `n` counts, `zero` is 0 in the second row, `word` no number in the third, `big` at Int64's end in the last.
fn rows() -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("zero", DataType::Int64, true),
        Field::new("word", DataType::Utf8, false),
        Field::new("big", DataType::Int64, false),
        Field::new("amount", DataType::Float64, true),
        Field::new("price", DataType::Decimal128(10, 2), false),
        Field::new("flag", DataType::Boolean, true),
        Field::new("ts", TIMESTAMP, false),
        Field::new("user", DataType::Utf8, false),
        Field::new("Amount", DataType::Int64, false),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
        Arc::new(Int64Array::from(vec![Some(1), Some(0), None, Some(2)])),
        Arc::new(StringArray::from(vec!["1", "2", "x", "4"])),
        Arc::new(Int64Array::from(vec![0, 1, 2, i64::MAX])),
        Arc::new(Float64Array::from(vec![
            Some(0.5),
            Some(0.0),
            None,
            Some(4.0),
        ])),
        Arc::new(
            Decimal128Array::from(vec![100, 0, 250, 1])
                .with_precision_and_scale(10, 2)
                .unwrap(),
        ),
        Arc::new(BooleanArray::from(vec![
            Some(true),
            Some(false),
            None,
            Some(true),
        ])),
        Arc::new(TimestampMillisecondArray::from(vec![
            0, 60_000, 61_001, 3_600_000,
        ])),
        Arc::new(StringArray::from(vec!["ann", "bob", "cid", "dan"])),
        Arc::new(Int64Array::from(vec![10, 20, 30, 40])),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn planned(sql: &str) -> Compiled {
    scalar(sql, &rows().schema(), "spec.x").unwrap_or_else(|problems| panic!("{sql}: {problems:?}"))
}

/// Each row's value as text; a failed row's reason in brackets.
fn evaluated(sql: &str) -> Vec<String> {
    shown(&evaluate_each(&[planned(sql)], &rows()))
}

fn shown(evaluated: &Evaluated) -> Vec<String> {
    let column = &evaluated.columns[0];
    let failed = |row: usize| evaluated.failed.iter().find(|(at, _)| *at == row);
    (0..column.len())
        .map(|row| match failed(row) {
            Some((_, reason)) => format!("[{}]", reason.split(':').next().unwrap()),
            None if column.is_null(row) => "null".to_string(),
            None => array_value_to_string(column, row).unwrap(),
        })
        .collect()
}

#[test]
fn a_failing_row_fails_alone() {
    for (sql, expected) in [
        ("10 / zero", ["10", "[DivisionByZero]", "null", "5"]),
        ("10 % zero", ["0", "[DivisionByZero]", "null", "0"]),
        ("1.0 / amount", ["2.0", "[DivisionByZero]", "null", "0.25"]),
        (
            "1 / price",
            ["1.0000", "[DivisionByZero]", "0.4000", "100.0000"],
        ),
        ("CAST(word AS BIGINT)", ["1", "2", "[InvalidCast]", "4"]),
        ("TRY_CAST(word AS BIGINT)", ["1", "2", "null", "4"]),
        ("big + 1", ["1", "2", "3", "[Overflow]"]),
        ("-2 - big", ["-2", "-3", "-4", "[Overflow]"]),
        ("big * 2", ["0", "2", "4", "[Overflow]"]),
        ("amount * 1e308", ["5e307", "0.0", "null", "[Overflow]"]),
        ("-n", ["-1", "-2", "-3", "-4"]),
    ] {
        assert_eq!(evaluated(sql), expected, "{sql}");
    }
}

#[test]
fn the_reason_names_the_expression_and_no_data() {
    let evaluated = evaluate_each(&[planned("10/zero")], &rows());
    assert_eq!(
        evaluated.failed,
        [(1, "DivisionByZero: 10 / zero".to_string())]
    );
}

#[test]
fn a_row_that_fails_in_one_expression_is_null_in_all() {
    let evaluated = evaluate_each(
        &[
            planned("n"),
            planned("10 / zero"),
            planned("CAST(word AS BIGINT)"),
        ],
        &rows(),
    );
    assert_eq!(
        evaluated
            .failed
            .iter()
            .map(|(row, _)| *row)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    for column in &evaluated.columns {
        assert!(column.is_null(1) && column.is_null(2) && column.is_valid(0) && column.is_valid(3));
    }
    assert!(
        evaluated.failed[1].1.starts_with("InvalidCast: "),
        "{:?}",
        evaluated.failed[1]
    );
}

#[test]
fn the_right_side_counts_only_where_the_left_leaves_it_open() {
    for (sql, expected) in [
        (
            "zero <> 0 AND 10 / zero > 5",
            ["true", "false", "null", "false"],
        ),
        (
            "zero = 0 OR 10 / zero > 5",
            ["true", "true", "null", "false"],
        ),
        (
            "CASE WHEN zero = 0 THEN 0 ELSE 10 / zero END",
            ["10", "0", "null", "5"],
        ),
        (
            "word <> 'x' AND CAST(word AS BIGINT) > 1",
            ["false", "true", "false", "true"],
        ),
        (
            "coalesce(amount, 1 / (n - 3))",
            ["0.5", "0.0", "[DivisionByZero]", "4.0"],
        ),
        (
            "zero IS NULL OR (zero <> 0 AND (flag OR 1 / (n - 4) > 0))",
            ["true", "false", "true", "true"],
        ),
    ] {
        assert_eq!(evaluated(sql), expected, "{sql}");
    }
}

#[test]
fn results_do_not_depend_on_how_rows_are_cut() {
    let exprs = [
        "10 / zero",
        "zero <> 0 AND 10 / zero > 5",
        "CAST(word AS BIGINT) + 1",
        "1.0 / amount",
        "n > 0",
        "'a' || word",
    ];
    let exprs: Vec<Compiled> = exprs.iter().map(|sql| planned(sql)).collect();
    let rows = rows();
    for expr in exprs.chunks(1).chain([exprs.as_slice()]) {
        let whole = evaluate_each(expr, &rows);
        for cut in 1..4 {
            let (head, tail) = (
                evaluate_each(expr, &rows.slice(0, cut)),
                evaluate_each(expr, &rows.slice(cut, 4 - cut)),
            );
            let mut failed = head.failed.clone();
            failed.extend(
                tail.failed
                    .iter()
                    .map(|(row, reason)| (row + cut, reason.clone())),
            );
            assert_eq!(failed, whole.failed);
            for (at, column) in whole.columns.iter().enumerate() {
                let joined =
                    arrow::compute::concat(&[head.columns[at].as_ref(), tail.columns[at].as_ref()])
                        .unwrap();
                assert_eq!(&joined, column);
            }
        }
    }
}

#[test]
fn many_failing_rows_among_many_rows() {
    let n = Int64Array::from_iter_values(0..10_000);
    let batch = RecordBatch::try_from_iter([("n", Arc::new(n) as ArrayRef)]).unwrap();
    let expr = scalar("100 / (n % 7)", &batch.schema(), "x").unwrap();
    let evaluated = evaluate_each(&[expr], &batch);
    let expected: Vec<usize> = (0..10_000).step_by(7).collect();
    assert_eq!(
        evaluated
            .failed
            .iter()
            .map(|(row, _)| *row)
            .collect::<Vec<_>>(),
        expected
    );
    let values = evaluated.columns[0].as_primitive::<Int64Type>();
    assert!((0..10_000).all(|row| if row % 7 == 0 {
        values.is_null(row)
    } else {
        values.value(row) == 100 / (row as i64 % 7)
    }));
}

#[test]
fn no_rows_give_empty_columns() {
    let none = rows().slice(0, 0);
    let evaluated = evaluate_each(&[planned("10 / zero"), planned("word")], &none);
    assert_eq!(
        evaluated
            .columns
            .iter()
            .map(|column| column.len())
            .collect::<Vec<_>>(),
        [0, 0]
    );
    assert_eq!(evaluated.columns[1].data_type(), &DataType::Utf8);
    assert!(evaluated.failed.is_empty());
}

#[test]
fn results_have_the_engines_types() {
    for (sql, expected) in [
        ("n", DataType::Int64),
        ("length(word)", DataType::Int64),
        ("CAST(n AS INT)", DataType::Int64),
        ("CAST(amount AS REAL)", DataType::Float64),
        ("upper(word) || '!'", DataType::Utf8),
        ("substr(word, 1, 2)", DataType::Utf8),
        ("CAST(n AS VARCHAR)", DataType::Utf8),
        ("n > 1", DataType::Boolean),
        ("price * 2", DataType::Decimal128(31, 2)),
        ("date_trunc('minute', ts)", TIMESTAMP),
        ("to_timestamp('2026-01-01T00:00:00Z')", TIMESTAMP),
        ("CAST(ts AS DATE)", TIMESTAMP),
        ("ts - ts", DataType::Int64),
        ("extract(hour FROM ts)", DataType::Int64),
        ("encode('a', 'base64')", DataType::Utf8),
        ("'lit'", DataType::Utf8),
        ("1.5", DataType::Float64),
        ("abs(n)", DataType::Int64),
        ("round(amount)", DataType::Float64),
    ] {
        let compiled = planned(sql);
        assert_eq!(compiled.data_type, expected, "{sql}");
        let evaluated = evaluate_each(&[compiled], &rows());
        assert_eq!(
            evaluated.columns[0].data_type(),
            &expected,
            "{sql} evaluated"
        );
        assert_eq!(evaluated.columns[0].len(), 4);
    }
}

#[test]
fn values_are_right() {
    assert_eq!(
        evaluated("date_trunc('minute', ts)")[2],
        "1970-01-01T00:01:00"
    );
    assert_eq!(
        evaluated("ts - TIMESTAMP '1970-01-01T00:00:01'"),
        ["-1000", "59000", "60001", "3599000"]
    );
    assert_eq!(
        evaluated("ts >= '1970-01-01T00:01:00Z'"),
        ["false", "true", "true", "true"]
    );
    assert_eq!(
        evaluated("user"),
        ["ann", "bob", "cid", "dan"],
        "a keyword that is a column"
    );
    assert_eq!(
        evaluated("Amount + 0 * n"),
        ["10", "20", "30", "40"],
        "names keep their case"
    );
    assert_eq!(evaluated("\"Amount\""), ["10", "20", "30", "40"]);
    assert_eq!(
        evaluated("word IN ('1', 'x')"),
        ["true", "false", "true", "false"]
    );
    assert_eq!(
        evaluated("UPPER(word)"),
        ["1", "2", "X", "4"],
        "function names have no case"
    );
    assert_eq!(
        evaluated("n BETWEEN 2 AND 3"),
        ["false", "true", "true", "false"]
    );
}

#[test]
fn bare_columns_are_known_as_such() {
    assert!(planned("n").as_column().is_some());
    assert!(planned("n + 1").as_column().is_none());
    assert_eq!(planned("n + zero * n").columns(), ["n", "zero"]);
}

#[test]
fn messages_say_what_and_where() {
    let cases = [
        (
            "amnt > 1",
            "there is no column `amnt` (did you mean `Amount`?)",
            Some((0, 4)),
        ),
        (
            "n > 1 AND wrd = 'x'",
            "there is no column `wrd` (did you mean `word`?)",
            Some((10, 13)),
        ),
        (
            "N > 1",
            "there is no column `N` (did you mean `n`?)",
            Some((0, 1)),
        ),
        (
            "word = \"x y\"",
            "there is no column `x y` (double quotes are for columns, single quotes for strings)",
            Some((7, 12)),
        ),
        (
            "events.n > 1",
            "`events.n`: columns are named without a prefix (write `n`)",
            Some((0, 6)),
        ),
        (
            "uper(word)",
            "there is no function `uper` (did you mean `upper`?)",
            Some((0, 4)),
        ),
        (
            "n >",
            "not an SQL expression: expected an expression, found its end",
            None,
        ),
        (
            "n > 1 garbage",
            "`garbage` does not belong here: the expression ends before it",
            Some((6, 13)),
        ),
        (
            "n > 1; drop",
            "`;` does not belong here: the expression ends before it",
            Some((5, 6)),
        ),
        ("", "the expression is empty", None),
        (
            "now()",
            "`now` is refused: equal input would not give equal output (use a column of the event, such as its time)",
            Some((0, 3)),
        ),
        (
            "random()",
            "`random` is refused: equal input would not give equal output (use a column of the event, such as its time)",
            Some((0, 6)),
        ),
        (
            "uuid()",
            "`uuid` is refused: equal input would not give equal output (use a column of the event, such as its time)",
            Some((0, 4)),
        ),
        (
            "ts < current_date",
            "`current_date` is refused: equal input would not give equal output (use a column of the event, such as its time)",
            Some((5, 17)),
        ),
        (
            "sum(n)",
            "`sum` is an aggregate function, and this expression is computed row by row (use it in `aggregate` of a step with `window`)",
            Some((0, 3)),
        ),
        (
            "row_number() OVER ()",
            "`row_number(…) OVER …`: window functions of SQL are not available (use a step with `window`)",
            Some((0, 10)),
        ),
        (
            "n IN (SELECT 1)",
            "subqueries are not available: an expression sees the columns of one row",
            None,
        ),
        (
            "EXISTS (SELECT 1)",
            "subqueries are not available: an expression sees the columns of one row",
            None,
        ),
        (
            "n = $1",
            "`$1`: expressions have no parameters",
            Some((4, 6)),
        ),
        (
            "upper(DISTINCT word)",
            "`upper` is not an aggregate function: it takes arguments only",
            Some((0, 5)),
        ),
        (
            "NULL",
            "NULL by itself has no type (write for example `CAST(NULL AS BIGINT)`)",
            None,
        ),
        (
            "INTERVAL '1 minute'",
            "the result has the type Interval(MonthDayNano), which a column cannot have (cast it, for example `CAST(… AS VARCHAR)`)",
            None,
        ),
    ];
    for (sql, message, within) in cases {
        let problems = scalar(sql, &rows().schema(), "spec.x").expect_err(sql);
        assert_eq!(
            problems[0].to_string(),
            format!("spec.x: {message}"),
            "{sql}"
        );
        assert_eq!(problems[0].within, within, "{sql}");
    }
}

#[test]
fn wrong_types_are_told_in_the_job_files_words() {
    for (sql, part) in [
        ("word + flag", "String"),
        ("upper(n, 1)", "upper"),
        ("NOT ts", "Timestamp"),
        ("9223372036854775807 + 1", "is out of range"),
        (
            "n > CAST(9223372036854775807 AS BIGINT) * 2",
            "is out of range",
        ),
    ] {
        let problems = scalar(sql, &rows().schema(), "spec.x").expect_err(sql);
        assert!(problems[0].message.contains(part), "{sql}: {}", problems[0]);
        assert!(
            !problems[0].message.contains('\n') && !problems[0].message.contains("Utf8"),
            "{sql}: {}",
            problems[0]
        );
    }
    let problems = condition("n + 1", &rows().schema(), "spec.x").unwrap_err();
    assert_eq!(
        problems[0].message,
        "a condition is true or false, but this is of type Int64"
    );
}

#[test]
fn all_unknown_names_are_told_at_once() {
    let problems = scalar("aa > 1 AND bb(n) = cc", &rows().schema(), "x").unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
}

#[test]
fn positions_count_characters_over_lines() {
    let problems = scalar("word = 'é€'\n  AND nope > 1", &rows().schema(), "x").unwrap_err();
    assert_eq!(problems[0].within, Some((18, 22)));
}

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| item.to_string()).collect()
}

#[test]
fn select_items_have_names() {
    let schema = rows().schema();
    let items = select_items(
        &strings(&["n", "upper(word) AS kind", "\"user\""]),
        &schema,
        "s",
    )
    .unwrap();
    assert_eq!(
        items
            .iter()
            .map(|item| item.name.as_str())
            .collect::<Vec<_>>(),
        ["n", "kind", "user"]
    );
    let all = select_items(&strings(&["*", "n + 1 AS next"]), &schema, "s").unwrap();
    assert_eq!(all.len(), 11);

    let messages = |items: &[&str]| -> Vec<String> {
        select_items(&strings(items), &schema, "s")
            .unwrap_err()
            .iter()
            .map(Problem::to_string)
            .collect()
    };
    assert_eq!(
        messages(&["n + 1"]),
        ["s[0]: the expression has no name (write `n + 1 AS name`)"]
    );
    assert_eq!(
        messages(&["n", "word AS n"]),
        ["s: two columns are named `n` (rename one with AS)"]
    );
    assert_eq!(
        messages(&["n AS \"a b\""]),
        [
            "s[0]: `a b` is not a name for a column (letters, digits and `_`, not beginning with a digit)"
        ]
    );
    assert_eq!(
        messages(&["n AS m x"]),
        ["s[0]: `x` does not belong here: the expression ends before it"]
    );
    assert_eq!(messages(&["nn AS a", "upper(wort) AS b"]).len(), 2);
}

fn aggregated(items: &[&str], having: Option<&str>) -> Result<Aggregation, Vec<Problem>> {
    let bound = |name: &str| Field::new(name, TIMESTAMP, false);
    let groups = [
        Field::new("user", DataType::Utf8, false),
        bound("window_start"),
        bound("window_end"),
    ];
    aggregates(&strings(items), having, &rows().schema(), "step")?.over(&groups)
}

#[test]
fn calls_are_cut_out_and_shared() {
    let items = [
        "count(*) AS rows",
        "sum(amount) / count(*) AS mean",
        "SUM( amount ) AS total",
        "upper(user) AS name",
        "max(n + 1) AS top",
    ];
    let planned = aggregated(&items, Some("rows > 3 AND min(n) < total")).unwrap();
    let functions: Vec<_> = planned
        .calls
        .iter()
        .map(|call| call.function.clone())
        .collect();
    use AggregateFunction::*;
    assert_eq!(functions, [Count, Sum, Max, Min]);
    let names: Vec<_> = planned
        .having_schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    assert_eq!(
        names,
        [
            "user",
            "window_start",
            "window_end",
            "#0",
            "#1",
            "#2",
            "#3",
            "rows",
            "mean",
            "total",
            "name",
            "top"
        ]
    );
    assert_eq!(planned.aggregated.fields().len(), 7);
    assert!(planned.calls[0].argument.is_none());
    assert_eq!(planned.calls[2].argument.as_ref().unwrap().sql, "n + 1");
}

#[test]
fn types_of_aggregates() {
    for (call, expected) in [
        ("count(word)", DataType::Int64),
        ("sum(n)", DataType::Int64),
        ("sum(amount)", DataType::Float64),
        ("sum(price)", DataType::Decimal128(38, 2)),
        ("avg(price)", DataType::Float64),
        ("avg(n)", DataType::Float64),
        ("min(word)", DataType::Utf8),
        ("max(ts)", TIMESTAMP),
        ("min(flag)", DataType::Boolean),
        ("stddev(n)", DataType::Float64),
        ("approx_distinct(word)", DataType::Int64),
        ("approx_percentile_cont(n, 0.95)", DataType::Float64),
        (
            "approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY n)",
            DataType::Float64,
        ),
        ("first_value(word)", DataType::Utf8),
        ("last_value(price)", DataType::Decimal128(10, 2)),
        (
            "array_agg(n)",
            DataType::List(Arc::new(Field::new("item", DataType::Int64, true))),
        ),
        ("count(*) FILTER (WHERE n > 1)", DataType::Int64),
    ] {
        let planned = aggregated(&[&format!("{call} AS x")], None)
            .unwrap_or_else(|problems| panic!("{call}: {problems:?}"));
        assert_eq!(planned.items[0].compiled.data_type, expected, "{call}");
        assert_eq!(planned.calls[0].data_type, expected, "{call}");
    }
    let both = aggregated(
        &[
            "approx_percentile_cont(n, 0.5) AS a",
            "approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY n) AS b",
        ],
        None,
    )
    .unwrap();
    assert_eq!(both.calls.len(), 1);
    assert_eq!(
        both.calls[0].function,
        AggregateFunction::ApproxPercentile(0.5)
    );
    let limited = aggregated(&["array_agg(n, 5) AS a", "array_agg(n) AS b"], None).unwrap();
    assert_eq!(
        limited.calls[0].function,
        AggregateFunction::ArrayAgg { limit: 5 }
    );
    assert_eq!(
        limited.calls[1].function,
        AggregateFunction::ArrayAgg { limit: 1000 }
    );
}

#[test]
fn messages_about_aggregates() {
    for (item, message) in [
        (
            "count(DISTINCT word) AS x",
            "`count`: DISTINCT is not available (approx_distinct(x) counts distinct values)",
        ),
        (
            "array_agg(n ORDER BY ts) AS x",
            "`array_agg`: ORDER BY is not available (first_value and last_value go by event time, array_agg by the order of the log)",
        ),
        (
            "array_agg(n, 0) AS x",
            "`array_agg`: the limit is a whole number from 1 to 100000, not `0`",
        ),
        (
            "array_agg(n, 100001) AS x",
            "`array_agg`: the limit is a whole number from 1 to 100000, not `100001`",
        ),
        (
            "approx_percentile_cont(n, 1.5) AS x",
            "`approx_percentile_cont`: the quantile is a number from 0 to 1, such as 0.95, not `1.5`",
        ),
        (
            "approx_percentile_cont(n) AS x",
            "`approx_percentile_cont`: write `approx_percentile_cont(x, 0.95)`",
        ),
        (
            "sum(word) AS x",
            "`sum`: it takes numbers, and this is of type String",
        ),
        ("sum(*) AS x", "`sum`: `*` is not an argument it takes"),
        ("sum() AS x", "`sum`: write `sum(x)`"),
        (
            "sum(count(*)) AS x",
            "`sum`: an aggregate function inside another (compute the inner one in a step before)",
        ),
        (
            "n AS x",
            "column `n` cannot be used here (a group has many values of it: put it into `groupBy` or into an aggregate function)",
        ),
        (
            "sum(n) + nope AS x",
            "there is no column `nope` (columns here: `user`, `window_start`, `window_end`)",
        ),
        (
            "sum(nn) AS x",
            "there is no column `nn` (did you mean `n`?)",
        ),
        (
            "count(*)",
            "the expression has no name (write `count(*) AS name`)",
        ),
        (
            "count(*) AS user",
            "`user` is the name of a group or window column, which is emitted anyway (leave it out, or choose another name)",
        ),
        (
            "cout(*) AS x",
            "there is no function `cout` (did you mean `count`?)",
        ),
        (
            "sum(n) OVER () AS x",
            "`sum(…) OVER …`: window functions of SQL are not available (use a step with `window`)",
        ),
        (
            "first_value(n) IGNORE NULLS AS x",
            "`first_value`: nulls are always left out; IGNORE NULLS and RESPECT NULLS are not available",
        ),
        (
            "min(n) FILTER (WHERE n) AS x",
            "a condition is true or false, but this is of type Int64 (compare it with something)",
        ),
    ] {
        let problems = aggregated(&[item], None).expect_err(item);
        assert_eq!(
            problems[0].to_string(),
            format!("step.aggregate[0]: {message}"),
            "{item}"
        );
    }
    let problems = aggregated(&["count(*) AS a"], Some("b > 1")).unwrap_err();
    assert_eq!(problems[0].path, "step.having");
    let problems = aggregated(&["count(*) AS a", "sum(n) AS a"], None).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "step.aggregate[1]: two columns are named `a` (rename one with AS)"
    );
}

#[test]
fn an_expression_over_calls_evaluates() {
    let planned = aggregated(
        &["sum(price) / count(*) AS mean", "sum(amount) / 2 AS half"],
        None,
    )
    .unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["ann"])),
        Arc::new(TimestampMillisecondArray::from(vec![0])),
        Arc::new(TimestampMillisecondArray::from(vec![1])),
        Arc::new(
            Decimal128Array::from(vec![300])
                .with_precision_and_scale(38, 2)
                .unwrap(),
        ),
        Arc::new(Int64Array::from(vec![2])),
        Arc::new(Float64Array::from(vec![5.0])),
    ];
    let batch = RecordBatch::try_new(planned.aggregated.clone(), columns).unwrap();
    let exprs: Vec<Compiled> = planned
        .items
        .iter()
        .map(|item| item.compiled.clone())
        .collect();
    let evaluated = evaluate_each(&exprs, &batch);
    assert!(evaluated.failed.is_empty(), "{:?}", evaluated.failed);
    assert_eq!(
        evaluated.columns[0]
            .as_primitive::<Decimal128Type>()
            .value_as_string(0)
            .trim_end_matches('0'),
        "1.5"
    );
    assert_eq!(
        evaluated.columns[1].as_primitive::<Float64Type>().value(0),
        2.5
    );
}
