//! The pattern step by itself: what may come next, what is held and for how long, state that is none.

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Schema;

use super::*;
use crate::plan::NodeKind;
use crate::watermark::SourceWatermark;
use crate::{manifest, plan};

/// What may come next at first, then behind each element: variables in order of preference, `.` for the end.
fn nexts(pattern: &str) -> Vec<String> {
    let parsed = syntax::parse(pattern).unwrap();
    assert_eq!(parsed.faults(false), []);
    let nfa = nfa::Nfa::new(&parsed, false, &|name| name.as_bytes()[0] - b'A');
    let name = |variable: u8| char::from(b'A' + variable).to_string();
    let names = |unless: Variables| {
        (0..26)
            .filter(|at| unless >> at & 1 == 1)
            .map(name)
            .collect::<String>()
    };
    let shown = |after: &nfa::After| {
        let next = after.next.iter().map(|next| match next.unless {
            0 => name(nfa.variable(next.element)),
            unless => format!("{}!{}", name(nfa.variable(next.element)), names(unless)),
        });
        next.chain(after.complete.then(|| ".".to_string()))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let first = nfa.first.iter().map(|element| name(nfa.variable(*element)));
    [first.collect::<Vec<_>>().join(" ")]
        .into_iter()
        .chain(nfa.after.iter().map(shown))
        .collect()
}

#[test]
fn what_may_come_next() {
    assert_eq!(nexts("A B"), ["A", "B", "."]);
    assert_eq!(nexts("A+ B"), ["A", "A B", "."]);
    assert_eq!(nexts("A+? B"), ["A", "B A", "."]);
    assert_eq!(nexts("A* B"), ["A B", "A B", "."]);
    assert_eq!(nexts("A{1,3} B"), ["A", "A B", "A B", "B", "."]);
    assert_eq!(nexts("A{2,} B"), ["A", "A", "A B", "."]);
    assert_eq!(nexts("(A | B)?? C"), ["C A B", "C", "C", "."]);
    assert_eq!(nexts("(A B?)* C"), ["A C", "B A C", "A C", "."]);
    assert_eq!(nexts("A+ !B C"), ["A", "A C!B", "."]);
    assert_eq!(nexts("A !X B? C"), ["A", "B!X C!X", "C", "."]);
    assert_eq!(nexts("A B? !X C"), ["A", "B C!X", "C!X", "."]);
    // A turn that takes nothing is none: the loop rather takes than ends.
    assert_eq!(nexts("(A??)* B"), ["A B", "A B", "."]);
    assert_eq!(
        nexts("(A? B?)+ C"),
        ["A B A B C", "B A B C", "A B C", "B A C", "A B C", "."]
    );
    assert_eq!(nexts("(A?){0,2} B"), ["A B", "A B", "B", "."]);
}

#[test]
fn loops_that_limit_nothing_are_one_place() {
    let place = |pattern: &str, elements: [u32; 2]| {
        let parsed = syntax::parse(pattern).unwrap();
        let nfa = nfa::Nfa::new(&parsed, false, &|name| name.as_bytes()[0] - b'A');
        let states = States::new(nfa);
        elements.map(|element| states.get(element).place)
    };
    let same = |pattern, elements| {
        let [one, other] = place(pattern, elements);
        one == other
    };
    assert!(same("(A | B) C", [0, 1]), "C may come next");
    assert!(!same("A{1,2} B", [0, 1]), "one more, or none");
    assert!(!same("A{3,} B", [0, 1]), "B may not come yet");
    assert!(same("(A B){1,} C", [1, 1]));
    assert!(same("S (A?){2,} B", [0, 1]), "A or B, as often as you like");
}

const JOB: &str = "
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {name: job}
spec:
  sources:
    - name: events
      file: {path: in}
      columns:
        - {name: e, type: String}
        - {name: v, type: Int64}
        - {name: t, type: Timestamp}
      eventTime: {column: t, maxOutOfOrderness: 10ms}
  steps:
    - name: out
      from: events
      match:
        pattern: PATTERN
        define: [{name: A, when: \"e = 'a'\"}, {name: B, when: \"e = 'b' AND v > A.v\"}, {name: C, when: \"e = 'c'\"}]
        within: 100ms
        measures: [\"sum(A.v) AS total\"]
  sinks:
    - {name: rows, from: out, stdout: {}}
";

/// A step, with a watermark 10 ms behind.
struct Driven {
    step: MatchStep,
    watermark: SourceWatermark,
    out: StepOutput,
}

fn step(pattern: &str) -> MatchStep {
    let job = manifest::load(&JOB.replace("PATTERN", pattern))
        .unwrap()
        .job;
    let plan = plan::plan("job", "tests", &job.spec).unwrap();
    let mut nodes = plan.stages.iter().flat_map(|stage| &stage.nodes);
    let is_match = |node: &&plan::NodePlan| matches!(node.kind, NodeKind::Match(_));
    let node = nodes.find(is_match).unwrap();
    let NodeKind::Match(plan) = &node.kind else {
        panic!("a match")
    };
    MatchStep::new(
        Arc::new(plan.as_ref().clone()),
        node.schema.clone(),
        Reads::default(),
    )
    .unwrap()
}

impl Driven {
    fn new(pattern: &str) -> Self {
        Driven {
            step: step(pattern),
            watermark: SourceWatermark::new(10),
            out: StepOutput::default(),
        }
    }

    /// Kinds, values and times of events.
    fn rows(&mut self, rows: &[(&str, i64, Millis)]) {
        let times: Vec<Millis> = rows.iter().map(|row| row.2).collect();
        let columns = self
            .step
            .plan
            .input
            .fields()
            .iter()
            .map(|field| -> ArrayRef {
                match field.name().as_str() {
                    "e" => Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>()),
                    "v" => Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>()),
                    other => panic!("nobody needs {other}"),
                }
            });
        let columns = columns.collect();
        let chunk = Chunk {
            rows: RecordBatch::try_new(self.step.plan.input.clone(), columns).unwrap(),
            before: self.watermark.before_each(&times),
            times,
            deletes: None,
        };
        self.step.rows(&chunk, &mut self.out).unwrap();
        self.step
            .advance(self.watermark.current(), &mut self.out)
            .unwrap();
    }

    fn held(&self) -> (usize, usize, usize) {
        let MatchSize {
            keys,
            starts,
            events,
        } = self.step.held();
        (keys, starts, events)
    }

    fn matches(&self) -> usize {
        self.out.main.iter().map(Chunk::len).sum()
    }
}

#[test]
fn events_are_held_as_long_as_somebody_needs_them() {
    let mut driven = Driven::new("A+ B");
    driven.rows(&[("x", 0, 0), ("a", 1, 1), ("x", 0, 2)]);
    assert_eq!(driven.held(), (1, 0, 1), "waits for the watermark");
    driven.rows(&[("x", 0, 20)]);
    assert_eq!(driven.held(), (1, 1, 1), "a start");
    driven.rows(&[("a", 2, 21), ("x", 0, 40)]);
    assert_eq!(
        driven.held(),
        (1, 2, 2),
        "two starts share the second event"
    );
    driven.rows(&[("b", 9, 41), ("x", 0, 60)]);
    assert_eq!(
        (driven.matches(), driven.held()),
        (1, (0, 0, 0)),
        "a match ends all"
    );
    driven.rows(&[("a", 1, 61), ("x", 0, 171)]);
    assert_eq!(
        (driven.out.timed_out_count, driven.held()),
        (0, (1, 1, 1)),
        "within is inclusive"
    );
    driven.rows(&[("x", 0, 172)]);
    assert_eq!(
        (driven.out.timed_out_count, driven.held()),
        (1, (0, 0, 0)),
        "time ends it"
    );
}

#[test]
fn rows_of_no_use_go_while_others_stay() {
    let mut driven = Driven::new("A C B");
    driven.rows(&[("a", 1, 1000)]);
    for round in 0..20 {
        // Each is a start of its own, and is ended by the match that follows.
        let time = 1000 + round;
        let rows: Vec<_> = (0..400).map(|_| ("a", 1, time)).collect();
        driven.rows(&rows);
        driven.rows(&[("x", 0, time + 11)]);
        driven.step.compact().unwrap();
    }
    let (_, starts, events) = driven.held();
    assert_eq!((starts, events), (1 + 20 * 400, 1 + 20 * 400));
    driven.rows(&[("c", 1, 1062), ("b", 2, 1063), ("x", 0, 1080)]);
    assert_eq!((driven.matches(), driven.held()), (1, (0, 0, 0)));
}

#[test]
fn state_goes_on_where_it_was() {
    let mut driven = Driven::new("A{2,} B");
    driven.rows(&[
        ("a", 1, 1),
        ("x", 0, 14),
        ("a", 2, 12),
        ("a", 3, 13),
        ("x", 0, 24),
    ]);
    let state = driven.step.save().unwrap();
    let mut restored = Driven::new("A{2,} B");
    restored.step.load(&state).unwrap();
    restored.watermark = driven.watermark.clone();
    assert_eq!(restored.step.held(), driven.step.held());
    assert_eq!(restored.step.save().unwrap(), state, "the same bytes again");
    for step in [&mut driven, &mut restored] {
        step.rows(&[("b", 5, 25), ("x", 0, 50)]);
    }
    assert_eq!(restored.matches(), 1);
    assert_eq!(restored.out.main[0].rows, driven.out.main[0].rows);
    assert_eq!(restored.held(), (0, 0, 0));
}

#[test]
fn state_that_is_none_is_refused() {
    let mut driven = Driven::new("A+ B");
    driven.rows(&[("a", 1, 1), ("a", 2, 14), ("x", 0, 24)]);
    let good = driven.step.save().unwrap();
    let changed = |batch: usize, column: usize, value: i64| {
        let mut state = good.clone();
        let old = &state[batch];
        let mut columns = old.columns().to_vec();
        columns[column] = Arc::new(Int64Array::from(vec![value; old.num_rows()]));
        state[batch] = RecordBatch::try_new(old.schema(), columns).unwrap();
        step("A+ B").load(&state).unwrap_err().to_string()
    };
    for (batch, column, value, told) in [
        (1, 0, 7, "an event that waits is not there"),
        (3, 0, 9, "a start without a way"),
        (3, 1, 5, "the pattern does not have such a way"),
        (3, 2, 4, "the pattern does not have such a way"),
        (3, 3, 5, "what a way has taken is not there"),
        (4, 0, -2, "an event that was taken is not there"),
        (4, 1, 2, "the pattern does not have such an element"),
        (4, 2, 5, "a list of events is not there"),
    ] {
        let found = changed(batch, column, value);
        assert!(found.contains(told), "{batch} {column}: {found}");
    }
    let told = |state: &[RecordBatch]| step("A+ B").load(state).unwrap_err().to_string();
    assert!(told(&good[..4]).contains("there are 4 batches of it, not 5"));
    let mut swapped = good.clone();
    swapped.swap(1, 3);
    assert!(told(&swapped).contains("columns are"));
    let mut unnamed = good.clone();
    let plain = Arc::new(Schema::new(good[0].schema().fields().clone()));
    unnamed[0] = RecordBatch::try_new(plain, good[0].columns().to_vec()).unwrap();
    assert!(told(&unnamed).contains("its header is ``"));
    driven.step.load(&good).unwrap_err();
}

#[test]
fn a_withdrawn_row_is_refused() {
    let mut step = step("A B");
    let schema = step.plan.input.clone();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["a"])),
        Arc::new(Int64Array::from(vec![1])),
    ];
    let chunk = Chunk {
        rows: RecordBatch::try_new(schema, columns).unwrap(),
        times: vec![1],
        before: vec![W_START],
        deletes: Some(BooleanArray::from(vec![true])),
    };
    let refused = step.rows(&chunk, &mut StepOutput::default());
    assert!(matches!(refused, Err(PatternError::Withdrawn)));
}
