//! Edits of one job, and what they do to the state of each source and step.

use super::*;
use crate::manifest;

const JOB: &str = "
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {name: job}
spec:
  connections:
    - {name: main, kafka: {bootstrapServers: [\"kafka:9092\"]}}
  sources:
    - name: events
      kafka: {connection: main, topic: events}
      columns:
        - {name: user, type: String}
        - {name: kind, type: String}
        - {name: n, type: Int64}
        - {name: ts, type: Timestamp}
      key: [user]
      eventTime: {column: ts}
  steps:
    - {name: valid, from: events, where: n >= 0}
    - {name: users, from: valid, groupBy: [user], window: {tumbling: {size: 1m}}, aggregate: [count(*) AS seen]}
    - {name: kinds, from: valid, groupBy: [kind], window: {tumbling: {size: 1m}}, aggregate: [sum(n) AS total]}
  sinks:
    - {name: users, from: users, kafka: {connection: main, topic: users}}
    - {name: kinds, from: kinds, kafka: {connection: main, topic: kinds}}
";

/// What the edits do, and whether that is in the way with and without `Discard`.
fn told(edits: &[(&str, &str)]) -> (String, [bool; 2]) {
    let edited = edits.iter().fold(JOB.to_string(), |text, (from, to)| {
        assert!(text.contains(from), "`{from}` is not in the job");
        text.replace(from, to)
    });
    let plan = |text: &str| {
        let planned = manifest::validate(text);
        planned.unwrap_or_else(|bad| panic!("{bad}")).1
    };
    let changes = changes(&plan(JOB), &plan(&edited));
    let told: Vec<String> = changes.iter().map(Change::to_string).collect();
    let blocks = [false, true].map(|discard| blocking(&changes, discard).next().is_some());
    (told.join(", "), blocks)
}

#[test]
fn what_the_state_does_not_depend_on_is_free() {
    let all = "`events` Kept, `kinds` Kept, `users` Kept, `valid` Kept".to_owned();
    for edits in [
        &[] as &[_],
        &[("n >= 0", "n > 5")],
        &[("topic: users", "topic: others")],
        &[(
            "eventTime: {column: ts}",
            "eventTime: {column: ts, maxOutOfOrderness: 9s}",
        )],
        &[("topic: events}", "topic: events, startFrom: Latest}")],
    ] {
        assert_eq!(told(edits), (all.clone(), [false; 2]), "{edits:?}");
    }
}

#[test]
fn steps_come_and_go() {
    let renamed = [
        ("name: users, from: valid", "name: people, from: valid"),
        ("from: users", "from: people"),
    ];
    let expected = "`events` Kept, `kinds` Kept, `people` New, `users` Dropped, `valid` Kept";
    assert_eq!(told(&renamed), (expected.into(), [false; 2]));
}

#[test]
fn another_window_is_in_the_way_unless_state_may_be_given_up() {
    let wider = [(
        "groupBy: [user], window: {tumbling: {size: 1m}}",
        "groupBy: [user], window: {tumbling: {size: 2m}}",
    )];
    let (changes, blocks) = told(&wider);
    assert!(
        changes.contains("`users` Incompatible (its window, groups"),
        "{changes}"
    );
    assert_eq!(blocks, [true, false]);
    // Folded rows of this one may be under way.
    let wider = [(
        "groupBy: [kind], window: {tumbling: {size: 1m}}",
        "groupBy: [kind], window: {tumbling: {size: 2m}}",
    )];
    let (changes, blocks) = told(&wider);
    assert!(
        changes.contains("`kinds` Incompatible (its window, groups"),
        "{changes}"
    );
    assert_eq!(blocks, [true, true]);
}

#[test]
fn rows_under_way_must_be_understood() {
    let (changes, blocks) = told(&[("sum(n) AS total", "sum(n) AS total, min(user) AS first")]);
    assert!(
        changes.contains("`kinds` Incompatible (its rows are handed"),
        "{changes}"
    );
    assert_eq!(blocks, [true, true]);
}

#[test]
fn another_key_moves_state() {
    let (changes, blocks) = told(&[("key: [user]", "key: [kind]")]);
    for step in ["kinds", "users"] {
        assert!(
            changes.contains(&format!("`{step}` Incompatible")),
            "{changes}"
        );
    }
    assert_eq!(blocks, [true, true]);
}

#[test]
fn a_source_reads_what_it_read() {
    for edit in [
        ("topic: events", "topic: events2"),
        ("topic: events}", "topic: events, until: Latest}"),
        (
            "{name: ts, type: Timestamp}",
            "{name: ts, type: Timestamp, path: at}",
        ),
    ] {
        let (changes, blocks) = told(&[edit]);
        assert!(changes.contains("`events` Incompatible (it"), "{changes}");
        assert_eq!(blocks, [true, true], "{edit:?}");
    }
}

#[test]
fn every_kind_of_step_with_state_is_told_of() {
    let top = (
        "aggregate: [sum(n) AS total]",
        "aggregate: [sum(n) AS total], topN: {by: total, n: 3}",
    );
    let (words, blocks) = told(&[top]);
    assert!(
        words.contains("`kinds` Incompatible (its rows are handed"),
        "{words}"
    );
    assert_eq!(
        blocks,
        [true, true],
        "a part of it is behind an exchange more"
    );

    let running = (
        "[user], window: {tumbling: {size: 1m}}",
        "[user], running: {ttl: 1h}",
    );
    let (words, blocks) = told(&[running]);
    assert!(
        words.contains("`users` Incompatible (its window, groups or aggregates"),
        "{words}"
    );
    assert_eq!(blocks, [true, false]);

    let first = ("where: n >= 0", "deduplicate: {by: [user, n], within: 1h}");
    let (words, blocks) = told(&[first]);
    assert!(words.ends_with("`users` Kept, `valid` New"), "{words}");
    assert_eq!(blocks, [false; 2], "it had no state");
}
