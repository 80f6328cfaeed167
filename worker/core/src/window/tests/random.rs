//! Random logs, cut at random into chunks, epochs and restores, against a reference that keeps every row of every
//! window in a list and does everything one row at a time.

use std::collections::BTreeMap;

use super::*;

const LOGS: u64 = 2_000;
/// Name of a group: (key, start, end).
type Name = (Option<String>, Millis, Millis);

#[derive(Debug)]
struct Case {
    kind: WindowKind,
    lateness: Millis,
    emit_every: Option<Millis>,
    /// `where n > bound`
    bound: Option<i64>,
    /// `having count(*) < bound`
    having: Option<i64>,
    rows: Vec<Row>,
    /// W after the last row.
    last: Millis,
}

impl Case {
    fn random(rng: &mut fastrand::Rng) -> Case {
        let slide = rng.i64(1..8);
        let kind = match rng.u8(0..5) {
            0 => WindowKind::Tumbling {
                size: rng.i64(1..20),
                offset: rng.i64(-5..5),
            },
            1 => WindowKind::Sliding {
                size: slide * rng.i64(1..5),
                slide,
                offset: rng.i64(-5..5),
            },
            2 => WindowKind::Cumulating {
                size: slide * rng.i64(1..5),
                step: slide,
            },
            _ => WindowKind::Session {
                gap: rng.i64(1..12),
            },
        };
        let lateness = if rng.bool() { 0 } else { rng.i64(1..30) };
        let emit_every = (rng.u8(0..3) == 0).then(|| rng.i64(1..15));
        let bound = rng.bool().then(|| rng.i64(-10..0));
        let having = (rng.u8(0..3) == 0).then(|| rng.i64(1..6));
        let disorder = rng.i64(0..12);
        let (mut now, mut w) = (rng.i64(-60..10), W_START);
        let rows = (0..rng.usize(1..70)).map(|_| {
            now += rng.i64(0..4);
            let time = now - rng.i64(0..25);
            let key = [None, Some(""), Some("a"), Some("b"), Some("\u{1}x")][rng.usize(0..5)]
                .map(String::from);
            let row = Row {
                time,
                before: w,
                key,
                n: (rng.u8(0..6) > 0).then(|| rng.i64(-12..12)),
            };
            w = w.max(time - disorder);
            row
        });
        let rows = rows.collect();
        Case {
            kind,
            lateness,
            emit_every,
            bound,
            having,
            rows,
            last: w,
        }
    }

    fn plan(&self) -> Planned {
        let calls = vec![
            call(Count, None),
            call(Sum, Some("n")),
            call(Min, Some("n")),
            call(FirstValue, Some("n")),
            call(LastValue, Some("n")),
            call(ArrayAgg { limit: 4 }, Some("n")),
            call(ApproxDistinct, Some("n")),
            call(Avg, Some("n")),
            AggregateCall {
                filter: Some(n_above(3)),
                ..call(Count, None)
            },
        ];
        let mut planned = plan(self.kind, calls).lateness(self.lateness);
        planned.0.emit_every = self.emit_every;
        if let Some(bound) = self.bound {
            planned = planned.where_n_above(bound);
        }
        match self.having {
            Some(bound) => planned.having_count_below(bound),
            None => planned,
        }
    }

    fn updates(&self) -> bool {
        self.lateness > 0 || self.emit_every.is_some()
    }

    fn passes(&self, row: &Row) -> bool {
        self.bound
            .is_none_or(|bound| row.n.is_some_and(|n| n > bound))
    }

    fn kept(&self, rows: &[(usize, Row)]) -> bool {
        self.having.is_none_or(|bound| (rows.len() as i64) < bound)
    }
}

/// What the calls come to over rows in log order, as text.
fn values(rows: &[(usize, Row)]) -> String {
    let ns = || {
        rows.iter()
            .filter_map(|(at, row)| row.n.map(|n| ((row.time, *at), n)))
    };
    let text = |n: Option<i64>| n.map_or("null".to_string(), |n| n.to_string());
    let count = ns().count() as i64;
    let list: Vec<String> = ns().take(4).map(|(_, n)| n.to_string()).collect();
    let sum: i64 = ns().map(|(_, n)| n).sum();
    [
        rows.len().to_string(),
        text((count > 0).then_some(sum)),
        text(ns().map(|(_, n)| n).min()),
        text(ns().min().map(|(_, n)| n)),
        text(ns().max_by_key(|(place, _)| *place).map(|(_, n)| n)),
        if list.is_empty() {
            "null".into()
        } else {
            format!("[{}]", list.join(", "))
        },
        ns().map(|(_, n)| n)
            .collect::<std::collections::BTreeSet<_>>()
            .len()
            .to_string(),
        if count > 0 {
            format!("{:?}", sum as f64 / count as f64)
        } else {
            "null".into()
        },
        ns().filter(|(_, n)| *n > 3).count().to_string(),
    ]
    .join(" ")
}

#[derive(Default)]
struct Reference {
    w: Millis,
    /// Windows kept, and whether they have fired.
    held: BTreeMap<Name, (bool, Vec<(usize, Row)>)>,
    /// The final rows of all groups.
    results: BTreeMap<Name, String>,
    /// Rows in the order they fire in, where nothing is emitted twice.
    fired: Vec<Emitted>,
    late: Vec<usize>,
}

impl Reference {
    fn run(case: &Case) -> Reference {
        let mut reference = Reference {
            w: W_START,
            ..Reference::default()
        };
        for (at, row) in case.rows.iter().enumerate() {
            reference.move_to(case, row.before);
            if case.passes(row) {
                reference.row(case, at, row);
            }
        }
        reference.move_to(case, case.last);
        reference.move_to(case, W_END);
        assert!(reference.held.is_empty());
        reference
    }

    fn gone(&self, case: &Case, end: Millis) -> bool {
        end.saturating_add(case.lateness) <= self.w
    }

    fn row(&mut self, case: &Case, at: usize, row: &Row) {
        let windows = match case.kind {
            WindowKind::Session { gap } => match self.session(case, gap, row) {
                Some(window) => vec![window],
                None => vec![],
            },
            kind => grid_windows(kind, row.time)
                .into_iter()
                .filter(|(_, end)| !self.gone(case, *end))
                .collect(),
        };
        if windows.is_empty() {
            self.late.push(at);
        }
        for (start, end) in windows {
            let rows = self.held.entry((row.key.clone(), start, end)).or_default();
            rows.1.push((at, row.clone()));
        }
    }

    /// The session of a row, with those it joins merged into it.
    fn session(&mut self, case: &Case, gap: Millis, row: &Row) -> Option<(Millis, Millis)> {
        let near = |name: &&Name| {
            name.0 == row.key && name.1 - row.time <= gap && row.time - (name.2 - gap) <= gap
        };
        let names: Vec<Name> = self.held.keys().filter(near).cloned().collect();
        let start = names.iter().map(|name| name.1).chain([row.time]).min()?;
        let end = names
            .iter()
            .map(|name| name.2)
            .chain([row.time + gap])
            .max()?;
        if self.gone(case, end) {
            return None;
        }
        let mut rows: Vec<_> = names
            .iter()
            .filter_map(|name| self.held.remove(name))
            .flat_map(|held| held.1)
            .collect();
        rows.sort_by_key(|(at, _)| *at);
        self.held
            .insert((row.key.clone(), start, end), (false, rows));
        Some((start, end))
    }

    fn move_to(&mut self, case: &Case, w: Millis) {
        if w <= self.w {
            return;
        }
        let before = std::mem::replace(&mut self.w, w);
        let mut names: Vec<Name> = self
            .held
            .keys()
            .filter(|name| name.2 <= w)
            .cloned()
            .collect();
        names.sort_by_key(|(key, start, end)| (*end, key.clone(), *start));
        for name in names {
            let gone = self.gone(case, name.2);
            let Some((fired, rows)) = self.held.get_mut(&name) else {
                continue;
            };
            let (key, start, end) = name.clone();
            if !std::mem::replace(fired, true) && case.kept(rows) {
                let key = format!("{} ", key.as_deref().unwrap_or("null"));
                let values = values(rows);
                self.fired.push(Emitted {
                    delete: false,
                    key,
                    start,
                    end,
                    values,
                    time: end - 1,
                    before,
                });
            }
            if gone {
                if case.kept(rows) {
                    self.results.insert(name.clone(), values(rows));
                }
                self.held.remove(&name);
            }
        }
    }
}

/// Every window that holds the time, found by looking at all of them.
fn grid_windows(kind: WindowKind, time: Millis) -> Vec<(Millis, Millis)> {
    let holds = |window: &(Millis, Millis)| window.0 <= time && time < window.1;
    match kind {
        WindowKind::Tumbling { size, offset } => grid_windows(
            WindowKind::Sliding {
                size,
                slide: size,
                offset,
            },
            time,
        ),
        WindowKind::Sliding {
            size,
            slide,
            offset,
        } => (-300..300)
            .map(|at| at * slide + offset)
            .map(|start| (start, start + size))
            .filter(holds)
            .collect(),
        WindowKind::Cumulating { size, step } => (-300..300)
            .flat_map(|at| {
                (1..=size / step).map(move |steps| (at * size, at * size + steps * step))
            })
            .filter(holds)
            .collect(),
        WindowKind::Session { .. } | WindowKind::Running { .. } => vec![],
    }
}

/// What a step put out over a log.
#[derive(Default)]
struct Output {
    main: Vec<Emitted>,
    late: Vec<Chunk>,
}

impl Output {
    fn take(&mut self, out: StepOutput) {
        self.main.extend(out.main.iter().flat_map(emitted));
        self.late.extend(out.late);
        assert_eq!(out.failed_count, 0);
    }
}

fn run(case: &Case, rng: &mut fastrand::Rng) -> Output {
    let new = || WindowStep::new(case.plan().into(), true, true).expect("a step");
    let mut step = new();
    let mut output = Output::default();
    let mut rest = case.rows.as_slice();
    let (cut, restarts) = ([1, 3, 10, 100][rng.usize(0..4)], rng.u8(0..4));
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(rng.usize(1..=cut).min(rest.len()));
        rest = tail;
        let mut out = StepOutput::default();
        step.rows(&chunk(head), &mut out).expect("rows");
        step.advance(rest.first().map_or(case.last, |row| row.before), &mut out)
            .expect("advance");
        if rng.bool() {
            step.end_epoch(&mut out).expect("end of epoch");
        }
        output.take(out);
        if rng.u8(0..4) < restarts {
            let saved = step.save().expect("saves");
            step = new();
            step.load(&saved).expect("loads");
            assert_eq!(
                step.save().expect("saves"),
                saved,
                "a restored step has the same state"
            );
        }
    }
    let mut out = StepOutput::default();
    step.advance(W_END, &mut out).expect("end of input");
    step.end_epoch(&mut out).expect("end of epoch");
    output.take(out);
    assert_eq!(step.store.counts(), (0, 0), "all is gone at the end");
    output
}

/// The stream as a table: the last row of each group, deletes applied.
fn table(case: &Case, rows: &[Emitted]) -> BTreeMap<Name, String> {
    let mut table: BTreeMap<Name, String> = BTreeMap::new();
    for row in rows {
        assert_eq!(row.time, row.end - 1);
        let key = row
            .key
            .strip_suffix(' ')
            .filter(|key| *key != "null")
            .map(String::from);
        let name = (key, row.start, row.end);
        match row.delete {
            true => assert_eq!(
                table.remove(&name).as_ref(),
                Some(&row.values),
                "a delete carries the last row"
            ),
            false => {
                let last = table.insert(name, row.values.clone());
                assert!(case.updates() || last.is_none(), "emitted twice: {row:?}");
                assert_ne!(last.as_ref(), Some(&row.values), "the same row again");
            }
        }
    }
    table
}

fn check(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let case = Case::random(&mut rng);
    let reference = Reference::run(&case);
    for _ in 0..2 {
        let output = run(&case, &mut rng);
        assert!(
            output.main.is_sorted_by_key(|row| row.before),
            "W never falls"
        );
        assert_eq!(table(&case, &output.main), reference.results, "{case:?}");
        if !case.updates() {
            assert_eq!(output.main, reference.fired, "{case:?}");
        }
        let late: Vec<Row> = reference
            .late
            .iter()
            .map(|at| case.rows[*at].clone())
            .collect();
        let late_chunk = chunk(&late);
        let batches: Vec<_> = output.late.iter().map(|chunk| &chunk.rows).collect();
        assert_eq!(
            arrow::compute::concat_batches(&input_schema(), batches).expect("one batch"),
            late_chunk.rows
        );
        assert_eq!(
            output
                .late
                .iter()
                .flat_map(|chunk| chunk.before.clone())
                .collect::<Vec<_>>(),
            late_chunk.before
        );
    }
}

#[test]
fn random_logs_agree_with_the_reference_however_they_are_cut() {
    for seed in 0..LOGS {
        if std::panic::catch_unwind(|| check(seed)).is_err() {
            panic!("seed {seed}");
        }
    }
}
