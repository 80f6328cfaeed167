//! A slot by itself: who gets which rows and in what order, what cuts of epochs change (nothing), and which state is
//! taken back. That the rows are the right ones is shown against the oracle, elsewhere.

use super::*;
use crate::chunk::W_START;
use crate::exchange::Parcel;
use crate::manifest;

/// A window that stays with its source, and one behind an exchange; a sink for every kind of stream.
const JOB: &str = "
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {name: shop}
spec:
  sources:
    - name: orders
      file: {path: \"in/*\"}
      columns:
        - {name: user, type: String}
        - {name: kind, type: String}
        - {name: n, type: Int64}
        - {name: ts, type: Timestamp}
      key: [user]
      eventTime: {column: ts}
  steps:
    - {name: users, from: orders, groupBy: [user], window: {tumbling: {size: 10s}}, aggregate: [count(*) AS orders]}
    - {name: kinds, from: orders, where: 10 / n >= 0, groupBy: [kind], window: {tumbling: {size: 10s}}, aggregate: [sum(n) AS total]}
  sinks:
    - {name: users, from: users, stdout: {}}
    - {name: kinds, from: kinds, stdout: {}}
    - {name: late, from: users.late, stdout: {}}
    - {name: failed, from: kinds.failed, stdout: {}}
    - {name: malformed, from: orders.malformed, stdout: {}}
";
const USERS: Target = Target::Sink(0);
const KINDS: Target = Target::Sink(1);
const LATE: Target = Target::Sink(2);
const FAILED: Target = Target::Sink(3);
const MALFORMED: Target = Target::Sink(4);

/// Events of two partitions, with a late one, one that fails, sums that do not fit, and one that is none.
const LOG: [&[&str]; 2] = [
    &[
        r#"{"user": "ada", "kind": "a", "n": 1, "ts": 1000}"#,
        r#"{"user": "bob", "kind": "b", "n": 2, "ts": 2000}"#,
        "nonsense",
        r#"{"user": "ada", "kind": "a", "n": 0, "ts": 3000}"#,
        r#"{"user": "ada", "kind": "b", "n": 3, "ts": 30000}"#,
        r#"{"user": "bob", "kind": "a", "n": 4, "ts": 4000}"#,
    ],
    &[
        r#"{"user": "eve", "kind": "a", "n": 5, "ts": 1000}"#,
        r#"{"user": "eve", "kind": "c", "n": 9223372036854775807, "ts": 2000}"#,
        r#"{"user": "eve", "kind": "c", "n": 9223372036854775807, "ts": 3000}"#,
    ],
];

fn plan(text: &str) -> Arc<JobPlan> {
    let (_, plan) = manifest::validate(text).unwrap_or_else(|bad| panic!("{bad}"));
    Arc::new(plan)
}

fn layout(plan: &JobPlan, slots: u32, exchange_in_process: bool) -> Arc<Layout> {
    let tasks = plan.stages.iter().map(|stage| match stage.input {
        StageInput::Source(_) => LOG.len() as u32,
        StageInput::Exchange(_) => slots,
    });
    Arc::new(Layout {
        slots,
        tasks: tasks.collect(),
        sink_partitions: vec![1; plan.sinks.len()],
        exchange_in_process,
        files: BTreeMap::from([(0, vec!["in/0.ndjson".into(), "in/1.ndjson".into()])]),
    })
}

/// All tasks in one slot.
fn engine(text: &str) -> SlotEngine {
    let plan = plan(text);
    let layout = layout(&plan, 2, true);
    let tasks = layout.all_tasks();
    SlotEngine::new(plan, layout, &tasks).expect("an engine")
}

fn task(stage: usize, partition: usize) -> TaskId {
    TaskId {
        stage,
        partition: partition as u32,
    }
}

fn give(
    engine: &mut SlotEngine,
    task: TaskId,
    offset: usize,
    payload: &[u8],
) -> Result<(), EngineError> {
    let handle = engine.handle(task).ok_or(EngineError::NoTask(task))?;
    let event = Event {
        payload: Some(payload),
        offset: offset as i64,
        next: offset as i64 + 1,
        timestamp: None,
    };
    engine.event(handle, event)
}

/// Gives the engine events of `LOG`, told by partition and number.
fn give_events(engine: &mut SlotEngine, events: impl IntoIterator<Item = (usize, usize)>) {
    for (partition, at) in events {
        let payload = LOG[partition][at].as_bytes();
        give(engine, task(0, partition), at, payload).expect("an event is taken");
    }
}

fn events() -> Vec<(usize, usize)> {
    let partitions = LOG.iter().enumerate();
    partitions
        .flat_map(|(partition, events)| (0..events.len()).map(move |at| (partition, at)))
        .collect()
}

fn close(engine: &mut SlotEngine, ends: &[TaskId]) -> ClosedEpoch {
    let closed = engine.close(&BTreeMap::new(), ends, false);
    closed.expect("an epoch closes")
}

fn sources() -> [TaskId; 2] {
    [task(0, 0), task(0, 1)]
}

/// The rows of a target, one a line.
fn rows(output: &EpochOutput, target: Target) -> Vec<String> {
    let parts = output.targets.iter().filter(|part| part.target == target);
    let rows = parts.flat_map(|part| part.rows.iter().map(|row| part.value(row)));
    rows.map(|row| String::from_utf8_lossy(row.unwrap_or(b"tombstone")).into_owned())
        .collect()
}

#[test]
fn every_stream_goes_to_those_who_read_it() {
    let mut engine = engine(JOB);
    give_events(&mut engine, events());
    let output = close(&mut engine, &sources()).output;
    assert_eq!(
        rows(&output, USERS),
        [
            r#"{"user":"ada","window_start":0,"window_end":10000,"orders":2}"#,
            r#"{"user":"bob","window_start":0,"window_end":10000,"orders":1}"#,
            r#"{"user":"ada","window_start":30000,"window_end":40000,"orders":1}"#,
            r#"{"user":"eve","window_start":0,"window_end":10000,"orders":3}"#,
        ]
    );
    let mut kinds = rows(&output, KINDS);
    kinds.sort();
    assert_eq!(
        kinds,
        [
            // Behind the exchange bob's order is not late: the second partition holds the watermark back.
            r#"{"kind":"a","window_start":0,"window_end":10000,"total":10}"#,
            r#"{"kind":"b","window_start":0,"window_end":10000,"total":2}"#,
            r#"{"kind":"b","window_start":30000,"window_end":40000,"total":3}"#,
        ]
    );
    assert_eq!(
        rows(&output, LATE),
        [r#"{"user":"bob","kind":"a","n":4,"ts":4000}"#]
    );
    // From both sides of the exchange: the condition fails before it, the sum behind it.
    let failed = rows(&output, FAILED);
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(
        failed[0].starts_with(r#"{"user":"ada","kind":"a","n":0,"ts":3000,"reason":"#),
        "{failed:?}"
    );
    assert!(
        failed[1].starts_with(r#"{"user":null,"kind":"c","n":null,"ts":null,"reason":"#),
        "{failed:?}"
    );
    assert_eq!(
        rows(&output, MALFORMED),
        [
            r#"{"raw":"nonsense","reason":"InvalidJson","topic":"in/0.ndjson","partition":0,"offset":2,"timestamp":null}"#
        ]
    );
}

/// By stage, task and target, whatever came first.
#[test]
fn the_order_of_output_is_that_of_the_tasks() {
    let other_first = events()
        .into_iter()
        .filter(|(partition, _)| *partition == 1);
    let then = events()
        .into_iter()
        .filter(|(partition, _)| *partition == 0);
    let outputs = [events(), other_first.chain(then).collect()].map(|events| {
        let mut engine = engine(JOB);
        give_events(&mut engine, events);
        close(&mut engine, &sources()).output
    });
    let targets: Vec<Target> = outputs[0].targets.iter().map(|part| part.target).collect();
    let first = [USERS, LATE, FAILED, MALFORMED];
    assert_eq!(targets[..4], first, "the first partition");
    assert_eq!(targets[4], USERS, "the second partition");
    let behind = &targets[5..];
    assert!(
        behind.iter().all(|target| [KINDS, FAILED].contains(target)),
        "{behind:?}"
    );
    assert_eq!(outputs[0].digest(), outputs[1].digest());
}

#[test]
fn cuts_of_epochs_change_no_row() {
    let mut whole = engine(JOB);
    give_events(&mut whole, events());
    let whole = close(&mut whole, &sources()).output;
    let mut cut = engine(JOB);
    let mut found: BTreeMap<Target, Vec<String>> = BTreeMap::new();
    let all = [USERS, KINDS, LATE, FAILED, MALFORMED];
    let mut keep = |output: &EpochOutput| {
        for target in all {
            let rows = rows(output, target);
            found.entry(target).or_default().extend(rows);
        }
    };
    for event in events() {
        give_events(&mut cut, [event]);
        keep(&close(&mut cut, &[]).output);
    }
    let last = close(&mut cut, &sources());
    keep(&last.output);
    for target in all {
        let mut expected = rows(&whole, target);
        let found = found.get_mut(&target).expect("kept");
        // Rows of several tasks come in another order when they come in other epochs.
        expected.sort();
        found.sort();
        assert_eq!(*found, expected, "{target:?}");
    }
    assert_eq!(last.positions[&task(0, 0)], LOG[0].len() as i64);
    assert_eq!(last.ended.len(), 4, "the tasks behind the exchange too");
    assert!(cut.all_ended());
}

/// The slots of other processes get their rows as records of an internal topic, and make the same of them.
#[test]
fn an_exchange_through_topics_gives_the_rows_of_one_in_process() {
    let plan = plan(JOB);
    let layout = layout(&plan, 2, false);
    let mut slots: Vec<SlotEngine> = (0..2)
        .map(|slot| {
            let tasks = layout.tasks_of(slot);
            assert_eq!(tasks.len(), 2, "one of each stage");
            SlotEngine::new(plan.clone(), layout.clone(), &tasks).expect("an engine")
        })
        .collect();
    let mut records: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut kinds = Vec::new();
    for (slot, engine) in slots.iter_mut().enumerate() {
        let own = events()
            .into_iter()
            .filter(|(partition, _)| *partition == slot);
        give_events(engine, own);
        let output = close(engine, &[task(0, slot)]).output;
        assert_eq!(rows(&output, KINDS), [""; 0], "nothing has arrived yet");
        for part in output.targets.iter().chain(&output.punctuation) {
            if let Target::Exchange(0) = part.target {
                let row = &part.rows[0];
                let value = part.value(row).expect("a record").to_vec();
                records.push((row.partition, value));
            }
        }
    }
    for (offset, (partition, record)) in records.iter().enumerate() {
        let to = task(1, *partition as usize);
        let engine = &mut slots[*partition as usize];
        give(engine, to, offset, record).expect("a record is taken");
    }
    for engine in &mut slots {
        kinds.extend(rows(&close(engine, &[]).output, KINDS));
        assert!(engine.all_ended());
    }
    let mut in_process = engine(JOB);
    give_events(&mut in_process, events());
    let mut expected = rows(&close(&mut in_process, &sources()).output, KINDS);
    kinds.sort();
    expected.sort();
    assert_eq!(kinds, expected);
}

/// Rows whose windows stay open go as a group; one whose window ends in the epoch goes as it is.
#[test]
fn rows_are_folded_before_an_exchange() {
    let plan = plan(JOB);
    let layout = layout(&plan, 2, false);
    let tasks = layout.tasks_of(0);
    let mut engine = SlotEngine::new(plan.clone(), layout.clone(), &tasks).expect("an engine");
    for (offset, (n, ts)) in [(1, 5_000), (2, 11_000), (3, 12_000), (4, 13_000)]
        .iter()
        .enumerate()
    {
        let event = format!(r#"{{"user": "ada", "kind": "a", "n": {n}, "ts": {ts}}}"#);
        give(&mut engine, task(0, 0), offset, event.as_bytes()).expect("an event is taken");
    }
    let output = close(&mut engine, &[]).output;
    let exchanged = output.targets.iter();
    let sent: Vec<&TargetOutput> = exchanged
        .filter(|part| part.target == Target::Exchange(0))
        .collect();
    let [sent] = sent[..] else {
        panic!("{} records", sent.len());
    };
    let record = sent.value(&sent.rows[0]).expect("a record");
    let parcel = exchange::decode(record, &plan.exchanges[0].schema).expect("ours");
    assert_eq!(parcel.rows.map(|rows| rows.times), Some(vec![5_000]));
    assert_eq!(parcel.groups.map(|groups| groups.num_rows()), Some(1));

    // Behind the exchange they count as the rows they were.
    let to = task(1, sent.rows[0].partition as usize);
    let mut reader = SlotEngine::new(plan, layout, &[to]).expect("an engine");
    give(&mut reader, to, 0, record).expect("a record is taken");
    let (_, counters) = reader.counters().next().expect("a task");
    assert_eq!(counters.rows_in, 4);
    for producer in 0..2 {
        let end = Parcel {
            producer,
            after: W_END,
            rows: None,
            groups: None,
        };
        let mut record = Vec::new();
        exchange::encode(&end, &mut record).expect("a record");
        give(&mut reader, to, 1 + producer as usize, &record).expect("a record is taken");
    }
    let found = rows(&close(&mut reader, &[]).output, KINDS);
    let row = |start: i64, total: i64| {
        let end = start + 10_000;
        format!(r#"{{"kind":"a","window_start":{start},"window_end":{end},"total":{total}}}"#)
    };
    assert_eq!(found, [row(0, 1), row(10_000, 9)]);
}

#[test]
fn watermarks_alone_are_told_only_when_asked_for() {
    let plan = plan(JOB);
    let layout = layout(&plan, 2, false);
    let tasks = layout.tasks_of(0);
    let mut engine = SlotEngine::new(plan, layout, &tasks).expect("an engine");
    let advances = BTreeMap::from([(task(0, 0), 5_000)]);
    let quiet = engine.close(&advances, &[], false).expect("closes");
    assert!(quiet.output.is_empty());
    assert_eq!(quiet.watermarks[&task(0, 0)], 5_000);
    assert_eq!(quiet.watermarks[&task(1, 0)], W_START);
    let told = engine.close(&BTreeMap::new(), &[], true).expect("closes");
    assert_eq!(told.output.rows(), 0);
    assert_eq!(told.output.punctuation.len(), 2, "one for each partition");
    let again = engine.close(&BTreeMap::new(), &[], true).expect("closes");
    assert!(again.output.is_empty(), "they know it");
}

#[test]
fn a_malformed_event_stops_a_job_that_says_so() {
    let fails = JOB.replace(
        "eventTime: {column: ts}",
        "eventTime: {column: ts}\n      onMalformed: Fail",
    );
    let mut engine = engine(&fails);
    give_events(&mut engine, events());
    let told = engine.flush().expect_err("it stops").to_string();
    for part in [
        "source `orders`",
        "partition 0, offset 2",
        "InvalidJson",
        "`nonsense`",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

/// The state of an engine that has half of the events.
fn saved() -> (SlotEngine, BTreeMap<String, Vec<u8>>) {
    let mut engine = engine(JOB);
    give_events(&mut engine, (0..4).map(|at| (0, at)));
    close(&mut engine, &[]);
    let parts = engine.save().expect("state is saved").into_iter().collect();
    (engine, parts)
}

#[test]
fn a_restored_engine_goes_on_as_the_saved_one() {
    let (mut original, parts) = saved();
    let names: Vec<&str> = parts.keys().map(String::as_str).collect();
    assert_eq!(names, ["kinds/0", "kinds/1", "orders/0", "orders/1"]);
    let mut restored = engine(JOB);
    restored.load(&parts).expect("state is loaded");
    assert_eq!(restored.position(task(0, 0)), Some(4));
    assert_eq!(restored.watermark(task(0, 0)), Some(3_000));
    assert_eq!(restored.held(), original.held());
    assert!(restored.held().windows > 0);
    let rest = || {
        events()
            .into_iter()
            .filter(|event| !(0..4).contains(&event.1) || event.0 == 1)
    };
    let [one, other] = [&mut original, &mut restored].map(|engine| {
        give_events(engine, rest());
        close(engine, &sources())
    });
    assert!(one.output.rows() > 4);
    assert_eq!(one.output.digest(), other.output.digest());
    assert_eq!(one.positions, other.positions);
    assert_eq!(one.watermarks, other.watermarks);
    // All sources have ended: all windows have fired.
    assert_eq!(restored.held(), StateSize::default());
}

/// The rest of the log, and the rows of `users` and of `people` that come of it.
fn finished(engine: &mut SlotEngine) -> [Vec<String>; 2] {
    give_events(
        engine,
        events()
            .into_iter()
            .filter(|event| !(0..4).contains(&event.1) || event.0 == 1),
    );
    let output = close(engine, &sources()).output;
    [USERS, KINDS].map(|sink| rows(&output, sink))
}

#[test]
fn a_changed_job_keeps_what_stays_and_begins_the_rest_empty() {
    let (mut original, parts) = saved();
    // `kinds` goes, `people` comes.
    let kinds = "- {name: kinds, from: orders, where: 10 / n >= 0, groupBy: [kind],";
    let people = "- {name: people, from: orders, groupBy: [user],";
    let text = JOB
        .replace(kinds, people)
        .replace("sum(n) AS total", "count(*) AS total")
        .replace("name: kinds, from: kinds", "name: kinds, from: people")
        .replace("    - {name: failed, from: kinds.failed, stdout: {}}\n", "");
    let mut changed = engine(&text);
    changed.load(&parts).expect_err("it is of another job");
    let mut changed = engine(&text);
    changed.adopt(&parts, false).expect("what stays fits");
    assert_eq!(changed.position(task(0, 0)), Some(4));
    assert_eq!(changed.watermark(task(0, 0)), Some(3_000));
    let [users, people] = finished(&mut changed);
    assert_eq!(users, finished(&mut original)[0]);
    let fewer =
        |row: &&String| row.contains("\"user\":\"ada\"") && row.contains("\"window_start\":0");
    assert!(users.iter().any(|row| fewer(&row)), "{users:?}");
    // Ada's orders of that window were all read before.
    assert!(!people.iter().any(|row| fewer(&row)), "{people:?}");
    assert!(!people.is_empty());
}

#[test]
fn other_settings_cost_a_step_its_state_if_they_may() {
    let (_, parts) = saved();
    let text = JOB.replacen("size: 10s", "size: 20s", 1);
    let told = engine(&text)
        .adopt(&parts, false)
        .expect_err("it does not fit");
    assert!(
        told.to_string().contains("step `users` had other settings"),
        "{told}"
    );
    let mut changed = engine(&text);
    changed.adopt(&parts, true).expect("it may begin anew");
    let mut kept = engine(JOB);
    kept.load(&parts).expect("state is loaded");
    let [kept, changed] = [kept, changed].map(|engine| engine.held().windows);
    assert!((1..kept).contains(&changed), "{changed} windows of {kept}");
}

/// Loads parts into a fresh engine of a job, and tells why it does not take them.
fn refusal(text: &str, parts: &BTreeMap<String, Vec<u8>>) -> String {
    match engine(text).load(parts) {
        Ok(()) => "taken".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn state_of_something_else_is_refused() {
    let (_, parts) = saved();
    assert_eq!(refusal(JOB, &parts), "taken");
    let with = |name: &str, bytes: &[u8]| {
        let mut parts = parts.clone();
        parts.insert(name.to_owned(), bytes.to_vec());
        parts
    };

    let mut missing = parts.clone();
    missing.remove("orders/1");
    assert_eq!(
        refusal(JOB, &missing),
        "the checkpoint has no part `orders/1`"
    );
    // A part of another stage.
    for (name, other) in [("orders/0", "kinds/0"), ("kinds/0", "orders/0")] {
        let told = refusal(JOB, &with(name, &parts[other]));
        assert!(told.contains("not one of ours"), "{name}: {told}");
    }
    let part = &parts["orders/0"];
    for length in 0..part.len() {
        assert_ne!(
            refusal(JOB, &with("orders/0", &part[..length])),
            "taken",
            "cut to {length} of {} bytes",
            part.len()
        );
    }
    let longer = [part.as_slice(), b"x"].concat();
    assert!(refusal(JOB, &with("orders/0", &longer)).contains("not one of ours"));
}

#[test]
fn state_of_another_plan_is_refused() {
    let (_, parts) = saved();
    let window = "groupBy: [user], window: {tumbling: {size: 10s}}";
    assert!(JOB.contains(window));
    let larger = JOB.replace(window, "groupBy: [user], window: {tumbling: {size: 20s}}");
    let told = refusal(&larger, &parts);
    assert!(
        told.contains("part `orders/0`") && told.contains("step `users` had other settings"),
        "{told}"
    );
    let without: String = JOB
        .lines()
        .filter(|line| !line.contains("name: users,") && !line.contains("users.late"))
        .map(|line| format!("{line}\n"))
        .collect();
    let told = refusal(&without, &parts);
    assert!(
        told.contains("step `users`, which this plan does not have"),
        "{told}"
    );
}

#[test]
fn tasks_that_are_elsewhere_take_nothing() {
    let plan = plan(JOB);
    let layout = layout(&plan, 2, false);
    let tasks = layout.tasks_of(1);
    let mut engine = SlotEngine::new(plan, layout, &tasks).expect("an engine");
    assert_eq!(engine.handle(task(0, 0)), None);
    assert_eq!(engine.position(task(0, 0)), None);
    let told = give(&mut engine, task(0, 0), 0, b"{}").expect_err("it is refused");
    assert_eq!(told.to_string(), "task 0/0 is not here");
}
