//! Plans of small jobs, and what is said about wrong ones.

use std::collections::BTreeMap;

use super::*;
use crate::manifest;

mod steps;

const JOB: &str = "
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {name: job, namespace: shop}
spec:
  connections:
    - {name: main, kafka: {bootstrapServers: [\"kafka:9092\"]}}
    - {name: other, kafka: {bootstrapServers: [\"other:9092\"]}}
    - {name: lake, s3: {bucket: lake}}
  sources:
    - name: events
      kafka: {connection: main, topic: events}
      columns:
        - {name: user_id, type: String}
        - {name: kind, type: String, nullable: true}
        - {name: amount, type: Double, path: data.amount, nullable: true}
        - {name: price, type: Decimal, precision: 10, scale: 2}
        - {name: ts, type: Timestamp}
      key: [user_id]
      eventTime: {column: ts, maxOutOfOrderness: 5s}
  steps:
    - name: valid
      from: events
      where: \"amount >= 0\"
      select: [user_id, \"upper(kind) AS kind\", ts, amount]
    - name: spend
      from: valid
      where: \"kind = 'BUY'\"
      groupBy: [user_id]
      window: {tumbling: {size: 1m}}
      aggregate: [\"count(*) AS purchases\", \"sum(amount) AS total\"]
      having: \"purchases > 1\"
  sinks:
    - {name: out, from: spend, kafka: {connection: main, topic: spend, key: [user_id, window_start]}}
    - {name: screen, from: spend, stdout: {}}
  checkpoint: {storage: {s3: {connection: lake}}}
  journal: {connection: main}
";

/// The job with parts of its text replaced.
fn text(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(JOB.to_string(), |text, (from, to)| {
        assert!(text.contains(from), "`{from}` is not in the job");
        text.replace(from, to)
    })
}

fn try_plan(text: &str) -> Result<JobPlan, Vec<Problem>> {
    let job = manifest::load(text)
        .unwrap_or_else(|bad| panic!("{bad}\n{text}"))
        .job;
    plan(
        job.metadata.name.as_deref().unwrap(),
        job.metadata.namespace.as_deref().unwrap(),
        &job.spec,
    )
}

fn planned(edits: &[(&str, &str)]) -> JobPlan {
    try_plan(&text(edits)).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

fn lines(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

fn names(schema: &arrow::datatypes::Schema) -> Vec<&str> {
    schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect()
}

fn main(stage: usize, node: usize) -> StreamRef {
    on(stage, node, Port::Main)
}

fn on(stage: usize, node: usize, port: Port) -> StreamRef {
    StreamRef {
        stage,
        feed: Feed::Node { node, port },
    }
}

fn window(plan: &JobPlan, stage: usize, node: usize) -> &WindowPlan {
    match &plan.stages[stage].nodes[node].kind {
        NodeKind::Window(window) => window,
        other => panic!("{other:?} is no window"),
    }
}

#[test]
fn a_group_by_the_key_stays_in_the_stage() {
    let plan = planned(&[]);
    assert_eq!((plan.stages.len(), plan.exchanges.len()), (1, 0));
    assert_eq!(
        names(&plan.sources[0].schema),
        ["user_id", "kind", "amount"],
        "the event time is not needed"
    );
    let used: Vec<bool> = plan.sources[0]
        .columns
        .iter()
        .map(|column| column.used)
        .collect();
    assert_eq!(used, [true, true, true, false, false]);
    let nodes = &plan.stages[0].nodes;
    assert_eq!(names(&nodes[0].schema), ["user_id", "kind", "amount"]);
    assert_eq!(
        nodes[1].from,
        Feed::Node {
            node: 0,
            port: Port::Main
        }
    );
    assert_eq!(
        names(&nodes[1].schema),
        [
            "user_id",
            "window_start",
            "window_end",
            "purchases",
            "total"
        ]
    );
    let window = window(&plan, 0, 1);
    assert_eq!(
        window.kind,
        WindowKind::Tumbling {
            size: 60_000,
            offset: 0
        }
    );
    assert_eq!(
        names(&window.aggregated),
        ["user_id", "window_start", "window_end", "#0", "#1"]
    );
    assert_eq!(
        names(&window.having_schema),
        [
            "user_id",
            "window_start",
            "window_end",
            "#0",
            "#1",
            "purchases",
            "total"
        ]
    );
    assert_eq!(window.project.len(), 5);
    assert_eq!(plan.sinks[0].from, [main(0, 1)]);
    assert_eq!(plan.sinks[0].key, [0, 1]);
    assert!(plan.sinks[0].keyed && !plan.sinks[1].keyed);
    assert_eq!(
        plan.journal,
        JournalPlan::Kafka {
            connection: "main".into()
        }
    );
}

#[test]
fn a_key_is_followed_through_projections() {
    let renamed = [
        ("select: [user_id,", "select: [\"user_id AS u\","),
        ("groupBy: [user_id]", "groupBy: [kind, \"u AS who\"]"),
        ("key: [user_id, window_start]", "key: [who]"),
    ];
    let plan = planned(&renamed);
    assert!(plan.exchanges.is_empty());
    assert!(!plan.sinks[0].keyed, "the key does not cover `kind`");
    let computed = planned(&[
        (
            "select: [user_id,",
            "select: [\"upper(user_id) AS user_id\",",
        ),
        ("key: [user_id, window_start]", "key: []"),
    ]);
    assert_eq!(
        computed.exchanges.len(),
        1,
        "a computed column is not the key"
    );
}

#[test]
fn another_group_goes_through_an_exchange() {
    let plan = planned(&[
        ("groupBy: [user_id]", "groupBy: [kind]"),
        ("key: [user_id, window_start]", "key: [kind, window_start]"),
    ]);
    assert_eq!((plan.stages.len(), plan.exchanges.len()), (2, 1));
    let exchange = &plan.exchanges[0];
    assert_eq!(
        (exchange.name.as_str(), exchange.from, exchange.to_stage),
        ("spend", main(0, 1), 1)
    );
    assert_eq!(names(&exchange.schema), ["kind", "amount"]);
    assert_eq!(exchange.key, [0]);
    assert_eq!(
        names(&plan.sources[0].schema),
        ["kind", "amount"],
        "nobody needs the user any more"
    );
    let before = &plan.stages[0].nodes[1];
    assert_eq!(before.name, "spend");
    assert!(matches!(&before.kind, NodeKind::Stateless(stateless) if stateless.filter.is_some()));
    assert_eq!(plan.stages[1].input, StageInput::Exchange(0));
    assert!(
        window(&plan, 1, 0).filter.is_none(),
        "the filter ran before the exchange"
    );
    assert_eq!(plan.sinks[0].from, [main(1, 0)]);
}

#[test]
fn computed_groups_are_computed_before_the_exchange() {
    let plan = planned(&[
        (
            "groupBy: [user_id]",
            "groupBy: [kind, \"length(kind) AS size\"]",
        ),
        ("key: [user_id, window_start]", "key: [size]"),
    ]);
    assert_eq!(
        names(&plan.exchanges[0].schema),
        ["kind", "amount", "#group1"]
    );
    assert_eq!(plan.exchanges[0].key, [0, 2]);
    assert_eq!(window(&plan, 1, 0).group[1].as_column().unwrap().index(), 2);
    assert_eq!(
        names(&plan.sinks[0].schema),
        [
            "kind",
            "size",
            "window_start",
            "window_end",
            "purchases",
            "total"
        ]
    );
}

#[test]
fn no_groups_mean_one_group_in_one_task() {
    let plan = planned(&[
        ("groupBy: [user_id]", "groupBy: []"),
        ("key: [user_id, window_start]", "key: [window_start]"),
    ]);
    assert_eq!(plan.exchanges[0].key, Vec::<usize>::new());
    assert!(plan.sinks[0].keyed);
    let counted = planned(&[
        ("groupBy: [user_id]", "groupBy: []"),
        ("key: [user_id, window_start]", "key: []"),
        (
            "select: [user_id, \"upper(kind) AS kind\", ts, amount]",
            "select: [ts, kind]",
        ),
        ("where: \"kind = 'BUY'\"", ""),
        ("where: \"amount >= 0\"", ""),
        (", \"sum(amount) AS total\"", ""),
    ]);
    assert_eq!(
        counted.exchanges[0].schema.fields().len(),
        1,
        "rows without columns could not be counted"
    );
    assert_eq!(counted.sources[0].schema.fields().len(), 1);
}

#[test]
fn a_second_window_goes_by_the_first_ones_groups() {
    let second = |group: &str| {
        let step = "  sinks:\n    - {name: hours, from: hourly, stdout: {}}\n  checkpoint:";
        let text = text(&[("groupBy: [user_id]", "groupBy: [user_id, kind]")]);
        let hourly = format!(
            "    - name: hourly\n      from: spend\n      groupBy: {group}\n      window: {{tumbling: {{size: 1h}}}}\n      aggregate: [\"sum(total) AS total\"]\n"
        );
        let (head, tail) = text.split_once("  sinks:\n").unwrap();
        let tail = tail.split_once("  checkpoint:").unwrap().1;
        try_plan(&format!("{head}{hourly}{step}{tail}"))
            .unwrap_or_else(|problems| panic!("{}", lines(&problems)))
    };
    assert!(
        second("[user_id]").exchanges.is_empty(),
        "the task still has all of a user"
    );
    assert!(second("[kind, user_id]").exchanges.is_empty());
    let by_kind = second("[kind]");
    assert_eq!(by_kind.exchanges.len(), 1);
    assert_eq!(by_kind.exchanges[0].from.stage, 0);
    assert_eq!(second("[]").exchanges.len(), 1);
}

#[test]
fn a_source_without_a_key_is_always_re_keyed() {
    let plan = planned(&[("      key: [user_id]\n", "")]);
    assert_eq!(plan.exchanges.len(), 1);
    assert_eq!(names(&plan.exchanges[0].schema), ["user_id", "amount"]);
}

#[test]
fn the_whole_key_must_be_among_the_groups() {
    let two = ("      key: [user_id]\n", "      key: [user_id, kind]\n");
    let as_is = ("\"upper(kind) AS kind\"", "kind");
    assert_eq!(
        planned(&[two, as_is]).exchanges.len(),
        1,
        "a user's rows are in several tasks"
    );
    let both = ("groupBy: [user_id]", "groupBy: [kind, user_id]");
    assert!(planned(&[two, as_is, both]).exchanges.is_empty());
    assert_eq!(
        planned(&[two, both]).exchanges.len(),
        1,
        "`kind` is computed"
    );
}

#[test]
fn what_is_in_one_task_stays_there() {
    let plan = planned(&[
        ("groupBy: [user_id]", "groupBy: []"),
        ("key: [user_id, window_start]", "key: []"),
        (
            "  sinks:\n",
            "    - {name: next, from: spend, groupBy: [purchases], window: {tumbling: {size: 1h}}, aggregate: [\"count(*) AS n\"]}\n  sinks:\n    - {name: next, from: next, stdout: {}}\n",
        ),
    ]);
    assert_eq!(plan.exchanges.len(), 1);
    assert_eq!(plan.stages[1].nodes.len(), 2);
}

#[test]
fn side_streams_come_from_both_sides_of_an_exchange_unchanged() {
    let plan = planned(&[
        ("groupBy: [user_id]", "groupBy: [\"length(kind) AS size\"]"),
        ("key: [user_id, window_start]", "key: []"),
        (
            "    - {name: screen, from: spend, stdout: {}}",
            "    - {name: late, from: spend.late, stdout: {}}\n    - {name: failed, from: spend.failed, stdout: {}}",
        ),
    ]);
    let input = ["user_id", "kind", "ts", "amount"];
    assert_eq!(
        names(&plan.exchanges[0].schema),
        ["user_id", "kind", "ts", "amount", "#group0"]
    );
    let late = &plan.sinks[1];
    assert_eq!(names(&late.schema), input);
    assert_eq!(late.from, [main(1, 1)], "a projection takes the group off");
    assert_eq!(names(&plan.stages[1].nodes[1].schema), input);
    assert_eq!(
        plan.stages[1].nodes[1].from,
        Feed::Node {
            node: 0,
            port: Port::Late
        }
    );
    let failed = &plan.sinks[2];
    assert_eq!(
        names(&failed.schema),
        ["user_id", "kind", "ts", "amount", "reason"]
    );
    assert_eq!(failed.from, [on(0, 1, Port::Failed), main(1, 2)]);
    assert_eq!(plan.stages[1].nodes[2].schema, failed.schema);
    assert!(
        failed
            .schema
            .fields()
            .iter()
            .all(|field| field.is_nullable() || field.name() == "reason")
    );
    assert!(
        plan.stages[1].nodes[0].late_read
            && plan.stages[1].nodes[0].failed_read
            && plan.stages[0].nodes[1].failed_read
    );
}

#[test]
fn what_reads_a_stream_of_two_origins_exists_twice() {
    let plan = planned(&[
        ("groupBy: [user_id]", "groupBy: [kind]"),
        ("key: [user_id, window_start]", "key: []"),
        (
            "  sinks:\n",
            "    - {name: why, from: spend.failed, select: [reason]}\n  sinks:\n    - {name: whys, from: why, stdout: {}}\n",
        ),
    ]);
    let whys = plan.sinks.iter().find(|sink| sink.name == "whys").unwrap();
    assert_eq!(whys.from.len(), 2);
    assert_eq!(
        whys.from.iter().map(|from| from.stage).collect::<Vec<_>>(),
        [0, 1]
    );
    assert_eq!(names(&whys.schema), ["reason"]);
}

#[test]
fn failures_in_place_have_the_inputs_columns() {
    let plan = planned(&[(
        "    - {name: screen, from: spend, stdout: {}}",
        "    - {name: failed, from: valid.failed, stdout: {}}",
    )]);
    assert_eq!(
        names(&plan.sinks[1].schema),
        ["user_id", "kind", "amount", "price", "ts", "reason"]
    );
    assert_eq!(plan.sinks[1].from, [on(0, 0, Port::Failed)]);
    assert_eq!(
        plan.sources[0].schema.fields().len(),
        5,
        "they need all columns"
    );
}

#[test]
fn computed_items_stay_because_they_may_fail() {
    let plan = planned(&[("ts, amount]", "ts, amount, \"1 / price AS inverse\"]")]);
    assert_eq!(
        names(&plan.stages[0].nodes[0].schema),
        ["user_id", "kind", "amount", "inverse"]
    );
    assert_eq!(
        names(&plan.sources[0].schema),
        ["user_id", "kind", "amount", "price"]
    );
}

#[test]
fn malformed_events_are_a_stream() {
    let plan = planned(&[(
        "    - {name: screen, from: spend, stdout: {}}",
        "    - {name: bad, from: events.malformed, file: {path: bad.ndjson}}",
    )]);
    assert!(plan.sources[0].malformed_read);
    assert_eq!(
        plan.sinks[1].from,
        [StreamRef {
            stage: 0,
            feed: Feed::Malformed
        }]
    );
    assert_eq!(
        names(&plan.sinks[1].schema),
        ["raw", "reason", "topic", "partition", "offset", "timestamp"]
    );
}

#[test]
fn steps_may_stand_in_any_order_and_unread_ones_are_left_out() {
    let steps = JOB
        .split_once("  steps:\n")
        .unwrap()
        .1
        .split_once("  sinks:\n")
        .unwrap()
        .0;
    let (first, second) = steps.split_at(steps.find("    - name: spend").unwrap());
    let unread =
        "    - {name: unread, from: valid, where: \"price > 1\"}\n".replace("price", "amount");
    let plan = planned(&[(steps, &format!("{second}{first}{unread}"))]);
    let order: Vec<&str> = plan.stages[0]
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(order, ["valid", "spend"]);
    assert!(
        lines(&plan.warnings).contains("no sink gets anything from step `unread`: it is left out"),
        "{}",
        lines(&plan.warnings)
    );
}

#[test]
fn updating_goes_on_through_stateless_steps() {
    let plan = planned(&[
        (
            "window: {tumbling: {size: 1m}}",
            "window: {tumbling: {size: 1m}, allowedLateness: 10s}",
        ),
        (
            "  sinks:\n",
            "    - {name: renamed, from: spend, where: \"user_id <> 'x'\", select: [\"user_id AS u\", \"window_start AS at\", total]}\n  sinks:\n",
        ),
        (
            "from: spend, kafka: {connection: main, topic: spend, key: [user_id, window_start]}",
            "from: renamed, kafka: {connection: main, topic: spend, key: [at, u]}",
        ),
    ]);
    assert!(plan.stages[0].nodes[1].updating && plan.stages[0].nodes[2].updating);
    assert!(plan.sinks[0].keyed, "names are followed");
}

#[test]
fn journals_are_where_the_output_is() {
    let journal = |edits: &[(&str, &str)]| planned(edits).journal;
    let kafka = |name: &str| JournalPlan::Kafka {
        connection: name.into(),
    };
    let moved = (
        "kafka: {connection: main, topic: spend",
        "kafka: {connection: other, topic: spend",
    );
    assert_eq!(
        journal(&[("  journal: {connection: main}\n", ""), moved]),
        kafka("other"),
        "the sinks' cluster"
    );
    let no_sink = (
        "kafka: {connection: main, topic: spend, key: [user_id, window_start]}",
        "file: {path: out}",
    );
    assert_eq!(
        journal(&[("  journal: {connection: main}\n", ""), no_sink]),
        kafka("main"),
        "the sources' cluster"
    );
    let no_source = (
        "kafka: {connection: main, topic: events}",
        "file: {path: in.ndjson}",
    );
    assert_eq!(
        journal(&[("  journal: {connection: main}\n", ""), no_sink, no_source]),
        JournalPlan::File
    );
    let twice = planned(&[
        moved,
        ("  journal:", "  guarantee: AtLeastOnce\n  journal:"),
    ]);
    assert_eq!(
        twice.journal,
        kafka("main"),
        "AtLeastOnce may have two clusters"
    );
}

#[test]
fn hashes_say_what_changed() {
    let plans: BTreeMap<&str, JobPlan> = [
        (
            "same",
            vec![("where: \"amount >= 0\"", "where: \"amount>=0\"")],
        ),
        (
            "tuned",
            vec![(
                "  journal:",
                "  epoch: {interval: 50ms}\n  replicas: 3\n  journal:",
            )],
        ),
        ("filter", vec![("amount >= 0", "amount > 0")]),
        ("size", vec![("size: 1m", "size: 2m")]),
        ("sink", vec![("topic: spend", "topic: spent")]),
    ]
    .into_iter()
    .map(|(name, edits)| (name, planned(&edits)))
    .collect();
    let base = planned(&[]);
    let state = |plan: &JobPlan| plan.stages[0].nodes[1].state_hash;
    for (name, plan) in &plans {
        let same = matches!(*name, "same" | "tuned");
        assert_eq!(plan_hash(plan) == plan_hash(&base), same, "{name}");
        assert_eq!(
            state(plan) == state(&base),
            *name != "size",
            "{name}: state"
        );
    }
    assert_eq!(plan_hash(&base).len(), 32);
    assert_eq!(plan_hash(&base), plan_hash(&planned(&[])));
}

#[test]
fn explain_tells_stages_state_and_guarantees() {
    let plan = planned(&[
        ("groupBy: [user_id]", "groupBy: [kind]"),
        ("key: [user_id, window_start]", "key: [kind, window_start]"),
        (
            "window: {tumbling: {size: 1m}}",
            "window: {sliding: {size: 10m, slide: 1m}, allowedLateness: 30s}",
        ),
    ]);
    let told = explain(&plan, Some(&[4]));
    for part in [
        "job shop/job\n",
        "  guarantee: exactly-once\n",
        "  journal: a topic on `main`, a partition for each slot\n",
        "  slots: 4\n",
        "stage 0: source events, topic `events` on `main`; 4 tasks\n",
        "  columns built: kind, amount (of 5)\n",
        "stage 1: exchange before spend; 4 tasks, rows of a group in one of them\n",
        "    by kind, ",
        "  step spend, emits rows again\n",
        "    sliding 10m every 1m windows, groups by kind\n",
        "    state: for each group and window 2 aggregates (Int64, Double)\n",
        "  out: topic `spend` on `main`, exactly-once: in the transaction of the epoch\n",
        "    a withdrawn row is a tombstone\n",
        "  screen: standard output, at-least-once\n",
        "  checkpoints: every 10s to S3, connection `lake`, under ``, 3 kept\n",
    ] {
        let part = part.trim_start_matches("    by ").trim_end_matches(", ");
        assert!(told.contains(part), "`{part}` is not in\n{told}");
    }
    let unknown = explain(&plan, None);
    assert!(
        unknown.contains("slots: as many as the first source has partitions, at most 64\n"),
        "{unknown}"
    );
}

/// What may not follow a step that emits rows again, or a side stream.
#[test]
fn messages_about_what_may_follow() {
    let updating = (
        "{tumbling: {size: 1m}}",
        "{tumbling: {size: 1m}, emitEvery: 10s}",
    );
    let then = |step: &str, sink: &str| {
        let steps =
            format!("    - {step}\n  sinks:\n    - {{name: next, from: {sink}, stdout: {{}}}}\n");
        try_plan(&text(&[updating, ("  sinks:\n", &steps)]))
            .map(|_| String::new())
            .unwrap_or_else(|problems| lines(&problems))
    };
    assert_eq!(
        then("{name: big, from: spend, where: \"total > 10\"}", "big"),
        "spec.steps[2].where: `total` changes when its row is emitted again; only group and window columns can be used here \
         (use `having` in the step that emits it)"
    );
    assert_eq!(
        then(
            "{name: some, from: spend, where: \"user_id = 'a' AND window_end > window_start\"}",
            "some"
        ),
        ""
    );
    let window = "window: {tumbling: {size: 1h}}, aggregate: [\"count(*) AS n\"]";
    assert_eq!(
        then(&format!("{{name: again, from: spend, {window}}}"), "again"),
        "spec.steps[2].window: a window cannot follow a step that emits rows again (`allowedLateness`, `emitEvery`, `running`): it would count them twice \
         (let the step before emit final rows only)"
    );
    for from in ["spend.late", "events.malformed", "valid.failed"] {
        assert_eq!(
            then(&format!("{{name: again, from: {from}, {window}}}"), "again"),
            "spec.steps[2].window: a window cannot read a side stream, whose rows are out of event time (sinks and steps without a window can)"
        );
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let edits = [
        ("amount >= 0", "nope >= 0"),
        ("size: 1m", "size: 0s"),
        ("topic: spend,", "topic: \"a b\","),
    ];
    let problems = try_plan(&text(&edits)).unwrap_err();
    let paths: Vec<&str> = problems
        .iter()
        .map(|problem| problem.path.as_str())
        .collect();
    assert_eq!(
        paths,
        ["spec.steps[0].where", "spec.sinks[0].kafka.topic"],
        "what reads a broken step is not looked into"
    );
}

#[test]
fn the_part_of_an_expression_is_pointed_at() {
    let problems = try_plan(&text(&[("upper(kind) AS kind", "upper(knd) AS kind")])).unwrap_err();
    assert_eq!(
        (problems[0].path.as_str(), problems[0].within),
        ("spec.steps[0].select[1]", Some((6, 9)))
    );
}

#[test]
fn warnings_do_not_stop_a_job() {
    let plan = planned(&[(
        "  journal:",
        "  maxParallelism: 2\n  replicas: 4\n  journal:",
    )]);
    let told = lines(&plan.warnings);
    for part in [
        "spec.connections[1]: nothing uses connection `other`",
        "spec.sources[0].columns: nobody uses `price`; events are still checked for them",
        "spec.maxParallelism: 4 workers share 2 slots: 2 will have nothing to do",
    ] {
        assert!(told.contains(part), "{told}");
    }
}
