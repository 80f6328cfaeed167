//! Steps that are no windows: how they lie in stages, and what is said about wrong ones.

use super::*;

/// The job with a further step, and a sink on it; or what is wrong.
fn with(step: &str) -> Result<JobPlan, String> {
    let steps = format!(
        "    - {step}\n  sinks:\n    - {{name: next, from: next, stdout: {{}}}}\n    - {{name: late, from: next.late, stdout: {{}}}}\n    - {{name: failed, from: next.failed, stdout: {{}}}}\n"
    );
    try_plan(&text(&[("  sinks:\n", &steps)])).map_err(|problems| lines(&problems))
}

fn fine(step: &str) -> JobPlan {
    with(step).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What is said of each wrong step.
fn refused(cases: &[(&str, &str)]) {
    for (step, expected) in cases {
        let told = with(step).err().unwrap_or_default();
        assert_eq!(told, *expected, "{step}");
    }
}

#[test]
fn deduplicate_stays_where_equal_rows_are() {
    let plan = fine(
        "{name: next, from: events, where: \"amount > 1\", deduplicate: {by: [price, user_id], within: 1h}}",
    );
    assert!(plan.exchanges.is_empty());
    let node = |at: usize| &plan.stages[0].nodes[at];
    let (passing, first) = (node(1), node(2));
    assert!(matches!(&passing.kind, NodeKind::Stateless(plan) if plan.filter.is_some()));
    assert!(matches!(&first.kind, NodeKind::Deduplicate(plan) if plan.within == 3_600_000));
    assert_eq!(
        names(&first.schema),
        ["user_id", "kind", "amount", "price", "ts"]
    );
    assert!(first.late_read && first.failed_read && !first.updating);
    let failed = &plan
        .sinks
        .iter()
        .find(|sink| sink.name == "failed")
        .unwrap()
        .from;
    assert_eq!(*failed, [on(0, 1, Port::Failed), on(0, 2, Port::Failed)]);
    let told = explain(&plan, None);
    for part in [
        "    first of rows with equal price, user_id, within 1h\n",
        "    state: keys and times of the rows that went through, for 2h of event time\n",
        "    late rows go to next.late\n",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn deduplicate_by_something_else_than_the_key_is_re_keyed_and_takes_added_columns_off() {
    let plan = fine(
        "{name: next, from: events, deduplicate: {by: [kind, \"amount + 1 AS more\"], within: 1h}}",
    );
    let columns = ["user_id", "kind", "amount", "price", "ts"];
    assert_eq!(plan.exchanges.len(), 1);
    assert_eq!(
        names(&plan.exchanges[0].schema),
        [&columns[..], &["#group1"]].concat()
    );
    assert_eq!(plan.exchanges[0].key, [1, 5]);
    for name in ["next", "late"] {
        let sink = plan.sinks.iter().find(|sink| sink.name == name).unwrap();
        assert_eq!(names(&sink.schema), columns, "{name}");
    }
    let window =
        "groupBy: [kind, user_id], window: {tumbling: {size: 1m}}, aggregate: [\"count(*) AS n\"]";
    let behind = |by: &str| {
        fine(&format!("{{name: first, from: events, deduplicate: {{by: {by}, within: 1h}}}}\n    - {{name: next, from: first, {window}}}")).exchanges.len()
    };
    assert_eq!(behind("[kind]"), 1, "groups by what it is keyed by stay");
    assert_eq!(
        behind("[user_id, price]"),
        0,
        "the key is still the source's"
    );
    assert_eq!(behind("[price]"), 2);
    assert_eq!(
        behind("[\"upper(kind) AS k\"]"),
        2,
        "a computed column is not there any more"
    );
}

#[test]
fn messages_about_deduplicate() {
    refused(&[
        (
            "{name: next, from: events, deduplicate: {by: [kind], within: 0s}}",
            "spec.steps[2].deduplicate.within: must be longer than `0s` (write for example `1h`)",
        ),
        (
            "{name: next, from: events, deduplicate: {by: [knd], within: 1h}}",
            "spec.steps[2].deduplicate.by[0]: there is no column `knd` (did you mean `kind`?)",
        ),
        (
            "{name: next, from: events, deduplicate: {by: [kind, kind], within: 1h}}",
            "spec.steps[2].deduplicate.by: two columns are named `kind` (rename one with AS)",
        ),
        (
            "{name: next, from: events, deduplicate: {by: [\"amount * 2\"], within: 1h}}",
            "spec.steps[2].deduplicate.by[0]: the expression has no name (write `amount * 2 AS name`)",
        ),
        (
            "{name: next, from: events, deduplicate: {by: [kind], within: 1h}, groupBy: [kind], select: [kind]}",
            "spec.steps[2].select: `select` and `deduplicate` cannot be in one step (it passes rows on as they are; go on in a step of its own)\n\
             spec.steps[2].groupBy: `groupBy` and `deduplicate` cannot be in one step (it passes rows on as they are; go on in a step of its own)",
        ),
        (
            "{name: next, from: events, deduplicate: {by: [kind], within: 1h}, window: {tumbling: {size: 1m}}}",
            "spec.steps[2]: at most one of `window`, `running`, `match`, `deduplicate`, `join` may be given, not `window` and `deduplicate` (make two steps, one after the other)",
        ),
        (
            "{name: next, from: valid.failed, deduplicate: {by: [kind], within: 1h}}",
            "spec.steps[2].deduplicate: `deduplicate` cannot read a side stream, whose rows are out of event time (sinks and steps without `deduplicate` can)",
        ),
        (
            "{name: soon, from: events, window: {tumbling: {size: 1m}, emitEvery: 1s}, aggregate: [\"count(*) AS n\"]}\n    - {name: next, from: soon, deduplicate: {by: [n], within: 1h}}",
            "spec.steps[3].deduplicate: `deduplicate` cannot follow a step that emits rows again (`allowedLateness`, `emitEvery`, `running`): it would count them twice (let the step before emit final rows only)",
        ),
    ]);
}

const RUNNING: &str =
    "running: {ttl: 24h}, aggregate: [\"count(*) AS n\", \"sum(amount) AS total\"]";

#[test]
fn running_groups_have_no_window_columns_and_are_keyed_by_their_groups() {
    let plan = fine(&format!(
        "{{name: next, from: events, groupBy: [user_id], having: \"n > 1\", {RUNNING}}}"
    ));
    assert!(plan.exchanges.is_empty());
    let node = &plan.stages[0].nodes[1];
    assert_eq!(names(&node.schema), ["user_id", "n", "total"]);
    assert!(node.updating && node.late_read);
    let window = window(&plan, 0, 1);
    assert_eq!(window.kind, WindowKind::Running { ttl: 86_400_000 });
    assert_eq!(
        names(&window.having_schema),
        ["user_id", "#0", "#1", "n", "total"]
    );
    let told = explain(&plan, None);
    for part in [
        "  step next, emits rows again\n",
        "    running, forgotten 24h after the newest row, groups by user_id\n",
        "    state: for each group 2 aggregates (Int64, Double)\n",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let keyed = |group: &str, key: &str| {
        let sink = format!(
            "    - {{name: next, from: events, groupBy: {group}, {RUNNING}}}\n  sinks:\n    - {{name: next, from: next, kafka: {{connection: main, topic: next, key: {key}}}}}\n"
        );
        try_plan(&text(&[("  sinks:\n", &sink)])).unwrap().sinks[0].keyed
    };
    assert!(keyed("[user_id]", "[user_id]") && keyed("[kind, user_id]", "[user_id, kind]"));
    assert!(!keyed("[kind, user_id]", "[user_id]") && !keyed("[]", "[n]"));
}

#[test]
fn messages_about_running() {
    refused(&[
        (
            "{name: next, from: events, running: {ttl: 0s}, aggregate: [\"count(*) AS n\"]}",
            "spec.steps[2].running.ttl: must be longer than `0s` (write for example `24h`: groups without rows for so long are forgotten)",
        ),
        (
            "{name: next, from: events, running: {ttl: 1h}}",
            "spec.steps[2].aggregate: `running` needs `aggregate` (write for example `aggregate: [\"count(*) AS rows\"]`)",
        ),
        (
            "{name: next, from: events, running: {ttl: 1h}, aggregate: [\"count(*) AS n\"], having: \"window_start > n\"}",
            "spec.steps[2].having: there is no column `window_start` (columns here: `n`)",
        ),
        (
            "{name: soon, from: events, groupBy: [kind], running: {ttl: 1h}, aggregate: [\"count(*) AS n\"]}\n    - {name: next, from: soon, where: \"n > 1\"}",
            "spec.steps[3].where: `n` changes when its row is emitted again; only group and window columns can be used here (use `having` in the step that emits it)\n\
             spec.sinks[1].from: `next` has no side stream `late` (it has `next.failed`)",
        ),
    ]);
}

fn windowed(more: &str) -> String {
    format!(
        "{{name: next, from: events, window: {{tumbling: {{size: 1m}}}}, aggregate: [\"count(*) AS n\", \"sum(amount) AS total\", \"array_agg(kind) AS kinds\"], {more}}}"
    )
}

#[test]
fn a_top_of_groups_in_several_tasks_is_ranked_in_each_and_then_in_one() {
    let plan = fine(&windowed(
        "groupBy: [user_id], topN: {by: \"total DESC, n\", n: 3}",
    ));
    assert_eq!(plan.exchanges.len(), 1);
    let exchange = &plan.exchanges[0];
    assert_eq!(
        (exchange.name.as_str(), exchange.key.len()),
        ("next.top", 0)
    );
    assert_eq!(exchange.from, [main(0, 2)]);
    for node in [&plan.stages[0].nodes[2], &plan.stages[1].nodes[0]] {
        let NodeKind::TopN(top) = &node.kind else {
            panic!("{:?}", node.kind)
        };
        assert_eq!((top.n, top.groups, top.partition.len()), (3, 1, 0));
        let by: Vec<(usize, bool)> = top.by.iter().map(|by| (by.column, by.descending)).collect();
        assert_eq!(by, [(4, true), (3, false)]);
        assert!(!node.updating && !node.late_read && !node.failed_read);
    }
    assert_eq!(plan.sinks[0].from, [main(1, 0)]);
    assert_eq!(plan.sinks[1].from, [on(0, 1, Port::Late)]);
    let told = explain(&plan, None);
    assert!(
        told.contains("    first 3 of a window by total DESC, n\n"),
        "{told}"
    );
}

#[test]
fn a_top_stays_where_its_groups_are() {
    let exchanges = |more: &str| {
        let plan = fine(&windowed(more));
        plan.exchanges
            .iter()
            .map(|exchange| exchange.name.clone())
            .collect::<Vec<_>>()
    };
    assert!(
        exchanges("groupBy: [user_id, kind], topN: {by: n, n: 1, partitionBy: [user_id]}")
            .is_empty()
    );
    assert_eq!(
        exchanges("groupBy: [user_id, kind], topN: {by: n, n: 1, partitionBy: [kind]}"),
        ["next.top"]
    );
    assert_eq!(
        exchanges("groupBy: [kind], topN: {by: n, n: 1}"),
        ["next", "next.top"]
    );
}

#[test]
fn messages_about_top() {
    let cases = [
        (
            windowed("groupBy: [kind], topN: {by: \"totl DESC\", n: 3}"),
            "spec.steps[2].topN.by: there is no column `totl` (did you mean `total`?)",
        ),
        (
            windowed("groupBy: [kind], topN: {by: \"total / n DESC\", n: 3}"),
            "spec.steps[2].topN.by: `total / n` is not a column: only columns order rows (give the expression a name where it is computed, and write the name here)",
        ),
        (
            windowed("groupBy: [kind], topN: {by: \"n, n DESC\", n: 3}"),
            "spec.steps[2].topN.by: `n` is in the list already",
        ),
        (
            windowed("groupBy: [kind], topN: {by: kinds, n: 3}"),
            "spec.steps[2].topN.by: `kinds` is a list, which has no order",
        ),
        (
            windowed("groupBy: [kind], topN: {by: \"n DSC\", n: 3}"),
            "spec.steps[2].topN.by: `DSC` does not belong here: the expression ends before it",
        ),
        (
            windowed("topN: {by: n, n: 3}"),
            "spec.steps[2].topN: without `groupBy` a window has one row (name in `groupBy` what is to be ranked)",
        ),
        (
            windowed("groupBy: [kind], topN: {by: n, n: 3, partitionBy: [knd]}"),
            "spec.steps[2].topN.partitionBy[0]: there is no group column `knd` (did you mean `kind`?)",
        ),
        (
            windowed("groupBy: [kind], topN: {by: n, n: 3, partitionBy: [kind]}"),
            "spec.steps[2].topN.partitionBy: every group would be a partition of its own (leave out the columns that are to be ranked)",
        ),
        (
            windowed("groupBy: [kind], topN: {by: n, n: 3}")
                .replace("tumbling: {size: 1m}", "session: {gap: 1m}"),
            "spec.steps[2].topN: there is no top of sessions: hardly two of them have the same bounds (use a tumbling, sliding or cumulating window)",
        ),
        (
            windowed("groupBy: [kind], topN: {by: n, n: 3}")
                .replace("size: 1m}}", "size: 1m}, allowedLateness: 1m}"),
            "spec.steps[2].topN: a top needs final rows, and `allowedLateness` and `emitEvery` emit rows again (take them out; a cumulating window gives intermediate results)",
        ),
        (
            format!(
                "{{name: next, from: events, groupBy: [kind], {RUNNING}, topN: {{by: n, n: 3}}}}"
            ),
            "spec.steps[2].topN: there is no top of `running` groups: they never end (use a `window`; a cumulating one gives intermediate results)",
        ),
        (
            "{name: next, from: events, topN: {by: kind, n: 3}}".to_string(),
            "spec.steps[2].topN: `topN` needs a `window` (or `running`) in the same step (write for example `window: {tumbling: {size: 1m}}`)\n\
             spec.sinks[1].from: `next` has no side stream `late` (it has `next.failed`)",
        ),
    ];
    for (step, expected) in &cases {
        refused(&[(step.as_str(), *expected)]);
    }
}

/// A source beside the job's.
const MORE: &str = "    - name: more\n      kafka: {connection: main, topic: more}\n      columns:\n        - {name: ts, type: Timestamp}\n        - {name: kind, type: String}\n        - {name: user_id, type: String}\n        - {name: at, type: Timestamp, nullable: true}\n      eventTime: {column: ts}\n  steps:\n";

fn with_more(step: &str) -> Result<JobPlan, String> {
    let steps = format!("    - {step}\n  sinks:\n    - {{name: next, from: next, stdout: {{}}}}\n");
    try_plan(&text(&[("  steps:\n", MORE), ("  sinks:\n", &steps)]))
        .map_err(|problems| lines(&problems))
}

#[test]
fn a_union_has_the_columns_of_its_streams_and_one_exchange() {
    let plan = with_more(
        "{name: few, from: events, select: [user_id, kind, ts]}\n    - {name: same, from: more, select: [ts, user_id, kind]}\n    - {name: next, union: [few, same], groupBy: [user_id], window: {tumbling: {size: 1m}}, aggregate: [\"count(*) AS n\", \"max(kind) AS kind\"]}",
    )
    .unwrap();
    assert_eq!(plan.exchanges.len(), 1);
    let exchange = &plan.exchanges[0];
    assert_eq!(names(&exchange.schema), ["user_id", "kind"]);
    assert!(
        exchange.schema.field(1).is_nullable(),
        "it is in one of the streams"
    );
    assert_eq!(
        exchange
            .from
            .iter()
            .map(|from| from.stage)
            .collect::<Vec<_>>(),
        [0, 1]
    );
    let told = explain(&plan, None);
    assert!(
        told.contains("  2 streams as one, by user_id, through"),
        "{told}"
    );
    let rows = with_more("{name: few, from: events, select: [user_id, kind, ts]}\n    - {name: same, from: more, select: [ts, user_id, kind]}\n    - {name: next, union: [same, few]}").unwrap();
    assert!(rows.exchanges.is_empty());
    assert_eq!(names(&rows.sinks[0].schema), ["ts", "user_id", "kind"]);
    assert_eq!(
        rows.sinks[0]
            .from
            .iter()
            .map(|from| from.stage)
            .collect::<Vec<_>>(),
        [1, 0]
    );
}

#[test]
fn messages_about_unions() {
    let cases = [
        (
            "{name: next}",
            "spec.steps[2]: exactly one of `from`, `union` must be given",
        ),
        (
            "{name: next, from: events, union: [events, more]}",
            "spec.steps[2]: exactly one of `from`, `union` must be given, not `from` and `union`",
        ),
        (
            "{name: next, union: [events, event]}",
            "spec.steps[2].union[1]: there is no source or step `event` (did you mean `events`?)",
        ),
        (
            "{name: next, union: [events, events]}",
            "spec.steps[2].union[1]: `events` is in the union already: its rows would come twice",
        ),
        (
            "{name: one, from: events, select: [ts, user_id, kind, \"ts AS at\"]}\n    - {name: two, from: events, select: [ts, \"1 AS kind\", \"ts AS when\"]}\n    - {name: next, union: [one, more, two]}",
            "spec.steps[4].union[2]: these streams have other columns: `two` has no `user_id`; `kind` is String in `one` and Int64 in `two`; `two` has no `at`; `one` has no `when` \
             (bring them to the same names and types before, each in a step with `select`)",
        ),
        (
            "{name: one, from: events, select: [user_id, kind, \"ts AS at\"]}\n    - {name: two, from: more, select: [user_id, kind, \"ts AS at2\", ts]}\n    - {name: three, from: two, select: [user_id, kind, ts, \"at2 AS at\"]}\n    - {name: four, from: one, select: [user_id, kind, at, \"at + INTERVAL '1 hour' AS ts\"]}\n    - {name: five, from: three, select: [user_id, kind, ts, \"at + INTERVAL '1 hour' AS at\"]}\n    - {name: next, union: [four, five]}",
            "spec.steps[7].union: these streams have their event times in different columns (give them one name before, in steps with `select`)",
        ),
        (
            "{name: one, union: [next, events]}\n    - {name: next, from: one}",
            "spec.steps[2].union: steps read each other in a circle: one from next from one (let one of them read a source, or a step outside of the circle)",
        ),
    ];
    for (step, expected) in cases {
        assert_eq!(
            with_more(step).err().unwrap_or_default(),
            expected,
            "{step}"
        );
    }
}

#[test]
fn a_join_reads_both_sides_through_one_exchange() {
    let join = "join: {with: more, on: [\"more.user_id = user_id\"], within: {before: 5m, after: 1m}, type: Left}";
    let plan = with_more(&format!("{{name: next, from: events, {join}, where: \"amount > 1\", select: [user_id, \"more.kind\", \"more.at AS at\"]}}")).unwrap();
    assert_eq!(plan.exchanges.len(), 1);
    let exchange = &plan.exchanges[0];
    let input = [
        "#right",
        "#on0",
        "user_id",
        "amount",
        "more.kind",
        "more.user_id",
        "more.at",
    ];
    assert_eq!(names(&exchange.schema), input);
    assert_eq!(exchange.key, [1]);
    assert_eq!(
        exchange
            .from
            .iter()
            .map(|from| from.stage)
            .collect::<Vec<_>>(),
        [0, 1]
    );
    let NodeKind::Join(plan_of_join) = &plan.stages[2].nodes[0].kind else {
        panic!("no join")
    };
    assert_eq!((plan_of_join.before, plan_of_join.after), (300_000, 60_000));
    assert!(plan_of_join.keep_left && !plan_of_join.keep_right);
    let next = &plan.sinks[0];
    assert_eq!(names(&next.schema), ["user_id", "more.kind", "at"]);
    let nullable: Vec<bool> = next
        .schema
        .fields()
        .iter()
        .map(|field| field.is_nullable())
        .collect();
    assert_eq!(nullable, [false, true, true]);
    let told = explain(&plan, None);
    assert!(
        told.contains("    left join, the other side from 5m before to 1m after\n"),
        "{told}"
    );

    let behind = |group: &str| {
        let window = "window: {tumbling: {size: 1m}}, aggregate: [\"count(*) AS n\"]";
        let steps = format!(
            "{{name: pairs, from: events, {join}}}\n    - {{name: next, from: pairs, groupBy: [{group}], {window}}}"
        );
        with_more(&steps).unwrap().exchanges.len()
    };
    assert_eq!(behind("user_id"), 1, "joined rows are partitioned by it");
    assert_eq!(
        behind("\"more.user_id AS other\""),
        2,
        "it is null where nothing matched"
    );
}

#[test]
fn messages_about_joins() {
    let join = |on: &str| {
        format!(
            "{{name: next, from: events, join: {{with: more, on: {on}, within: {{before: 5m}}}}}}"
        )
    };
    let cases = [
        (
            join("[\"user_id = user_id\"]"),
            "spec.steps[2].join.on[0]: one side must be a column of `more`, the other not (write for example `user_id = more.user_id`)",
        ),
        (
            join("[\"user_id > more.user_id\"]"),
            "spec.steps[2].join.on[0]: `user_id > more.user_id` is not an equality of two columns (write for example `user_id = orders.user_id`; compute what is no column in a step before)",
        ),
        (
            join("[\"usr_id = more.nowhere\"]"),
            "spec.steps[2].join.on[0]: there is no column `usr_id` (did you mean `user_id`?)\n\
             spec.steps[2].join.on[0]: there is no column `more.nowhere` (there are: `more.ts`, `more.kind`, `more.user_id`, `more.at`)",
        ),
        (
            join("[\"amount = more.user_id\"]"),
            "spec.steps[2].join.on[0]: `amount` is Double and `more.user_id` is String (cast one of them in a step before)",
        ),
        (
            join("[\"user_id = more.user_id\"]").replace("with: more", "with: moar"),
            "spec.steps[2].join.with: there is no source or step `moar` (did you mean `more`?)",
        ),
        (
            join("[\"user_id = more.user_id\"]").replace("}}}", "}}, where: \"more.knd = 'x'\"}"),
            "spec.steps[2].where: there is no column `more.knd` (did you mean `more.kind`?)",
        ),
        (
            join("[\"user_id = more.user_id\"]").replace("}}}", "}}, groupBy: [user_id], window: {tumbling: {size: 1m}}, aggregate: [\"count(*) AS n\"]}"),
            "spec.steps[2]: at most one of `window`, `running`, `match`, `deduplicate`, `join` may be given, not `window` and `join` (make two steps, one after the other)",
        ),
        (
            join("[\"user_id = more.user_id\"]").replace("with: more", "with: valid.failed"),
            "spec.steps[2].join.with: `join` cannot read a side stream, whose rows are out of event time (sinks and steps without `join` can)\n\
             spec.steps[2].join.on[0]: one side must be a column of `valid.failed`, the other not (write for example `user_id = valid.failed.user_id`)",
        ),
    ];
    let told = cases
        .iter()
        .map(|(step, _)| with_more(step).err().unwrap_or_default());
    let expected = cases.iter().map(|(_, expected)| (*expected).to_owned());
    assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}
