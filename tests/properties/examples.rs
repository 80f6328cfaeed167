//! Patterns by example: what the reference says of them, and examples that others have published.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use streamjob_core::output::Target;
use streamjob_tests::oracle::Row;

use crate::slot::{Slot, planned, source};

/// A job with one `match` over events with a group, a kind, a price and a time; other parts of the spec are added.
struct Job {
    spec: Value,
    steps: Vec<Value>,
    sinks: Vec<&'static str>,
    out_of_orderness: &'static str,
}

/// A variable for each kind of event: `A` is `e = 'a'`. `E` is any event.
fn job(pattern: &str) -> Job {
    let kinds = ["a", "b", "c", "d", "x"];
    let mut define: Vec<Value> = kinds
        .iter()
        .map(|kind| json!({"name": kind.to_uppercase(), "when": format!("e = '{kind}'")}))
        .collect();
    define.push(json!({"name": "E", "when": "true"}));
    let names = ["A", "B", "C", "D", "X", "E"];
    let looks = names.iter().flat_map(|name| {
        (0..4).map(move |back| format!("last({name}.id, {back}) AS {name}{back}"))
    });
    Job {
        spec: json!({"pattern": pattern, "define": define, "measures": looks.collect::<Vec<_>>()}),
        steps: Vec::new(),
        sinks: vec!["out", "out.timedOut", "out.late", "out.failed"],
        out_of_orderness: "0s",
    }
}

impl Job {
    fn with(mut self, field: &str, value: Value) -> Self {
        self.spec[field] = value;
        self
    }

    fn manifest(&self) -> String {
        let mut steps = vec![json!({"name": "out", "from": "events", "match": self.spec})];
        steps.extend(self.steps.clone());
        let sinks: Vec<Value> = self
            .sinks
            .iter()
            .enumerate()
            .map(|(at, from)| json!({"name": format!("s{at}"), "from": from, "stdout": {}}))
            .collect();
        let job = json!({
            "apiVersion": "streamjob.dev/v1alpha1",
            "kind": "StreamJob",
            "metadata": {"name": "examples"},
            "spec": {
                "sources": [{
                    "name": "events",
                    "file": {"path": "in"},
                    "columns": [
                        {"name": "id", "type": "String"},
                        {"name": "k", "type": "String", "nullable": true},
                        {"name": "e", "type": "String", "nullable": true},
                        {"name": "price", "type": "Int64", "nullable": true},
                        {"name": "t", "type": "Timestamp"},
                    ],
                    "key": ["k"],
                    "eventTime": {"column": "t", "maxOutOfOrderness": self.out_of_orderness},
                }],
                "steps": steps,
                "sinks": sinks,
            },
        });
        format!("{job:#}")
    }

    /// What goes to each sink.
    fn run(&self, events: &[Value]) -> Vec<Vec<Row>> {
        let plan = planned(&self.manifest());
        let mut slot = Slot::new(&plan, 1, vec![1; plan.stages.len()]);
        let mut sinks = vec![Vec::new(); plan.sinks.len()];
        for (at, event) in events.iter().enumerate() {
            let bytes = event.to_string();
            slot.event(0, at as i64, Some(bytes.as_bytes()), None);
        }
        for ends in [vec![], vec![source(0)]] {
            for target in slot.close(&BTreeMap::new(), &ends, true).targets {
                let Target::Sink(sink) = target.target else {
                    panic!("the exchange is in process")
                };
                for row in &target.rows {
                    let bytes = target.value(row).expect("nothing is withdrawn");
                    sinks[sink].push(serde_json::from_slice(bytes).expect("a row"));
                }
            }
        }
        sinks
    }

    /// The events of each match, in their order, and of each start that ended; of events such as `a1 b2`, a millisecond apart.
    fn of(&self, events: &str) -> (Vec<String>, Vec<String>) {
        let events: Vec<Value> = events.split(' ').enumerate().map(event).collect();
        let sinks = self.run(&events);
        let place = |id: &str| events.iter().position(|event| event["id"] == *id);
        let taken = |row: &Row| {
            let ids = row.iter().filter(|(name, _)| name.len() == 2);
            let mut ids: Vec<&str> = ids.filter_map(|(_, id)| id.as_str()).collect();
            ids.sort_by_key(|id| place(id).map(|at| (events[at]["t"].as_i64(), at)));
            ids.join(" ")
        };
        (
            sinks[0].iter().map(taken).collect(),
            sinks[1].iter().map(taken).collect(),
        )
    }

    fn matches(&self, events: &str) -> Vec<String> {
        self.of(events).0
    }
}

/// `a1` or, at another time than its place, `a1@7`.
fn event((at, token): (usize, &str)) -> Value {
    let (id, time) = match token.split_once('@') {
        Some((id, time)) => (id, time.parse().expect("a time")),
        None => (token, at as i64),
    };
    json!({"id": id, "k": "k", "e": id[..1], "t": time})
}

#[test]
fn the_reference() {
    assert_eq!(job("A+ B").matches("a1 a2 b"), ["a1 a2 b"]);
    assert_eq!(job("A B C").matches("a b1 b2 c"), ["a b1 c"]);
    assert_eq!(job("C (A B)? D").matches("c a d"), ["c d"]);
    assert_eq!(job("C (A B)? D").matches("c a b d"), ["c a b d"]);
    assert_eq!(job("A+ !B C").matches("a1 b a2 c"), ["a1 a2 c"]);
    assert_eq!(job("A+ !B C").matches("a1 a2 b c"), [""; 0]);
    assert_eq!(job("A !X B+ C").matches("a b1 x b2 c"), ["a b1 b2 c"]);
    assert_eq!(job("A !X B").matches("a x b"), [""; 0]);
    // What is taken may satisfy it.
    assert_eq!(job("A !B B").matches("a b"), ["a b"]);
}

#[test]
fn quantifiers() {
    assert_eq!(job("A{2} B").matches("a1 a2 a3 b"), ["a1 a2 b"]);
    assert_eq!(job("A{2,} B").matches("a1 a2 a3 b"), ["a1 a2 a3 b"]);
    assert_eq!(job("A{1,2} B").matches("a1 a2 a3 b"), ["a1 a2 b"]);
    assert_eq!(job("A B? C").matches("a b c"), ["a b c"]);
    assert_eq!(job("A B* C").matches("a c"), ["a c"]);
    assert_eq!(job("(A B)+ C").matches("a1 b1 a2 b2 c"), ["a1 b1 a2 b2 c"]);
    assert_eq!(job("(A | B C){2} D").matches("b c a d"), ["b c a d"]);
    // Either the loop or what follows may take a2 and a3: a greedy one goes on, a reluctant one does not.
    let by = |pattern: &str| {
        let sinks = job(pattern).run(
            &"a1 a2 a3 b"
                .split(' ')
                .enumerate()
                .map(event)
                .collect::<Vec<_>>(),
        );
        sinks[0][0]["E0"].clone()
    };
    assert_eq!(by("A+ E B"), "a3");
    assert_eq!(by("A+? E B"), "a2");
    assert_eq!(by("A (E | A) B"), "a2", "the left alternative goes first");
    assert_eq!(by("A (A | E) B"), Value::Null);
}

#[test]
fn a_match_is_there_on_the_earliest_event() {
    // `A C` is complete before `A B D` could be.
    assert_eq!(job("A (B D | C)").matches("a b c d"), ["a c"]);
    // Both on d: the left one is preferred.
    assert_eq!(job("A (B D | C D)").matches("a b c d"), ["a b d"]);
    assert_eq!(
        job("A (C D | B D)").matches("a b c d"),
        ["a b d"],
        "b comes first"
    );
    assert_eq!(job("A").matches("a1 a2"), ["a1", "a2"]);
}

#[test]
fn every_event_that_satisfies_a_first_element_is_a_start() {
    let (past, next) = (
        job("A+ B"),
        job("A+ B").with("afterMatch", json!("SkipToNextEvent")),
    );
    assert_eq!(past.matches("a1 a2 b1 a3 b2"), ["a1 a2 b1", "a3 b2"]);
    assert_eq!(
        next.matches("a1 a2 b1 a3 b2"),
        ["a1 a2 b1", "a2 b1", "a3 b2"]
    );
    // The event that ends a match begins none, unless matches may overlap.
    let (past, next) = (
        job("A E"),
        job("A E").with("afterMatch", json!("SkipToNextEvent")),
    );
    assert_eq!(past.matches("a1 a2 a3"), ["a1 a2"]);
    assert_eq!(next.matches("a1 a2 a3"), ["a1 a2", "a2 a3"]);
}

#[test]
fn strict_patterns_skip_nothing() {
    let strict = |pattern: &str| job(pattern).with("contiguity", json!("Strict"));
    assert_eq!(strict("A B").matches("a1 x a2 b"), ["a2 b"]);
    assert_eq!(strict("A+ B").matches("a1 a2 b"), ["a1 a2 b"]);
    assert_eq!(
        strict("A B? C").matches("a1 c1 a2 b c2"),
        ["a1 c1", "a2 b c2"]
    );
}

#[test]
fn starts_end() {
    let within = job("A+ B").with("within", json!("10ms"));
    assert_eq!(
        within.of("a1@0 b@10"),
        (vec!["a1 b".to_string()], vec![]),
        "inclusive"
    );
    let (matches, ended) = within.of("a1@0 a2@5 b@11");
    assert_eq!(matches, ["a2 b"], "a1 has ended, a2 has not");
    assert_eq!(ended, ["a1 a2"], "with what it had taken");
    let (matches, ended) = within.of("a1@0 a2@5 c@100");
    assert!(matches.is_empty());
    assert_eq!(ended, ["a1 a2", "a2"]);
    // Without a limit they end with the input; those that a match ends are not told of.
    assert_eq!(job("A+ B").of("a1 a2 b a3").1, ["a3"]);
}

#[test]
fn event_time_decides_and_ties_are_in_log_order() {
    let patient = Job {
        out_of_orderness: "5ms",
        ..job("A B C")
    };
    assert_eq!(patient.matches("b@2 a@1 c@3 x@9"), ["a b c"]);
    assert_eq!(job("A B").matches("b1@1 a@1 b2@1 x@5"), ["a b2"]);
    let sinks = patient.run(
        &"a@1 x@10 b@2 b@5 c@6"
            .split(' ')
            .enumerate()
            .map(event)
            .collect::<Vec<_>>(),
    );
    assert_eq!(
        (sinks[0].len(), sinks[2].len()),
        (1, 1),
        "b@2 is late, b@5 is on time"
    );
}

#[test]
fn groups_are_looked_at_by_themselves() {
    let grouped = job("A B").with("partitionBy", json!(["k"]));
    let events = [
        ("a", Some("1")),
        ("a", None),
        ("b", Some("2")),
        ("b", None),
        ("b", Some("1")),
    ];
    let events: Vec<Value> = events
        .iter()
        .enumerate()
        .map(|(at, (kind, key))| json!({"id": format!("{kind}{at}"), "k": key, "e": kind, "t": at}))
        .collect();
    let rows = &grouped.run(&events)[0];
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (&row["k"], &row["A0"], &row["B0"]))
        .collect();
    assert_eq!(
        shown,
        [
            (&Value::Null, &json!("a1"), &json!("b3")),
            (&json!("1"), &json!("a0"), &json!("b4")),
        ]
    );
    assert_eq!(
        (&rows[0]["match_start"], &rows[0]["match_end"]),
        (&json!(1), &json!(3))
    );
}

#[test]
fn a_group_has_only_so_many_starts() {
    let few = Job {
        sinks: vec!["out", "out.timedOut", "out.late", "out.overflow"],
        ..job("A B")
            .with("maxPartialMatches", json!(2))
            .with("afterMatch", json!("SkipToNextEvent"))
    };
    let sinks = few.run(
        &"a1 a2 a3 b1 a4 b2"
            .split(' ')
            .enumerate()
            .map(event)
            .collect::<Vec<_>>(),
    );
    assert_eq!(
        few.matches("a1 a2 a3 b1 a4 b2"),
        ["a1 b1", "a2 b1", "a4 b2"]
    );
    let too_many: Vec<&Value> = sinks[3].iter().map(|row| &row["id"]).collect();
    assert_eq!(too_many, ["a3"]);
}

#[test]
fn a_row_on_which_a_condition_fails_is_neither_taken_nor_skipped() {
    let mut dividing = job("A !X B");
    dividing.spec["define"][1]["when"] = json!("e = 'b' AND 10 / (price - A.price) > 1");
    let event = |id: &str, price: i64, t: i64| json!({"id": id, "k": "k", "e": id[..1], "price": price, "t": t});
    let sinks = dividing.run(&[event("a", 1, 0), event("b1", 1, 1), event("b2", 2, 2)]);
    assert_eq!(sinks[0][0]["B0"], "b2");
    assert_eq!(
        (&sinks[3][0]["id"], &sinks[3][0]["reason"]),
        (
            &json!("b1"),
            &json!("DivisionByZero: 10 / (price - \"#0\") > 1")
        )
    );
}

#[test]
fn matches_are_on_time_for_the_next_step() {
    let counted = Job {
        steps: vec![json!({
            "name": "counted", "from": "out", "groupBy": [],
            "window": {"tumbling": {"size": "10ms"}}, "aggregate": ["count(*) AS n", "min(match_start) AS since"],
        })],
        sinks: vec!["out", "counted", "counted.late"],
        out_of_orderness: "3ms",
        ..job("A B")
    };
    let events = "a1@1 b1@5 a2@8 b2@9 a3@30 b3@28 b4@31 x@90";
    let sinks = counted.run(&events.split(' ').enumerate().map(event).collect::<Vec<_>>());
    let windows: Vec<_> = sinks[1]
        .iter()
        .map(|row| (&row["window_start"], &row["n"]))
        .collect();
    assert_eq!(windows, [(&json!(0), &json!(2)), (&json!(30), &json!(1))]);
    assert!(sinks[2].is_empty(), "{:?}", sinks[2]);
}

/// A job of its own words.
fn told(pattern: &str, define: &[(&str, &str)], measures: &[&str]) -> Job {
    let define: Vec<Value> = define
        .iter()
        .map(|(name, when)| json!({"name": name, "when": when}))
        .collect();
    job(pattern)
        .with("define", json!(define))
        .with("measures", json!(measures))
        .with("partitionBy", json!(["k"]))
}

/// The price dip of Flink's documentation of `MATCH_RECOGNIZE`: prices of a ticker, a second apart.
#[test]
fn price_dips_in_the_shape_of_a_v() {
    let dip = told(
        "START DOWN+ UP",
        &[
            ("START", "true"),
            ("DOWN", "price < coalesce(last(DOWN.price, 1), START.price)"),
            ("UP", "price > last(DOWN.price)"),
        ],
        &[
            "START.t AS since",
            "last(DOWN.t) AS bottom",
            "UP.t AS until",
            "min(DOWN.price) AS lowest",
        ],
    )
    .with("contiguity", json!("Strict"));
    let prices = [12, 17, 19, 21, 25, 18, 15, 14, 24, 25, 19];
    let events: Vec<Value> = prices
        .iter()
        .enumerate()
        .map(|(at, price)| json!({"id": "", "k": "ACME", "price": price, "t": at * 1000}))
        .collect();
    let rows = &dip.run(&events)[0];
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        Value::Object(rows[0].clone()),
        json!({
            "k": "ACME", "match_start": 4_000, "match_end": 8_000,
            "since": 4_000, "bottom": 7_000, "until": 8_000, "lowest": 14,
        })
    );
    // Oracle's ACME over twenty days has three.
    let prices = [
        12, 17, 19, 21, 25, 12, 15, 20, 24, 25, 19, 15, 25, 25, 14, 12, 14, 24, 23, 22,
    ];
    let events: Vec<Value> = prices
        .iter()
        .enumerate()
        .map(|(at, price)| json!({"id": "", "k": "ACME", "price": price, "t": at + 1}))
        .collect();
    let days: Vec<_> = dip.run(&events)[0]
        .iter()
        .map(|row| (row["since"].as_i64(), row["bottom"].as_i64()))
        .collect();
    assert_eq!(
        days,
        [
            (Some(5), Some(6)),
            (Some(10), Some(12)),
            (Some(14), Some(16))
        ]
    );
}

#[test]
fn three_failed_logins_then_a_success_within_a_minute() {
    let fraud = told(
        "FAIL{3} OK",
        &[
            ("FAIL", "e = 'login_failed'"),
            ("OK", "e = 'login_success'"),
        ],
        &[
            "first(FAIL.t) AS first_failure",
            "OK.t AS at",
            "count(FAIL.id) AS failures",
        ],
    )
    .with("within", json!("60s"));
    let mut events = Vec::new();
    for (user, kinds) in [
        (
            "ada",
            [
                "login_failed",
                "login_failed",
                "page",
                "login_failed",
                "login_success",
            ],
        ),
        (
            "bob",
            [
                "login_failed",
                "login_success",
                "login_failed",
                "login_failed",
                "page",
            ],
        ),
    ] {
        for (at, kind) in kinds.iter().enumerate() {
            events.push(json!({"id": "", "k": user, "e": kind, "t": at * 15_000}));
        }
    }
    // A minute and a bit from the first failure to the success.
    for (at, kind) in [
        "login_failed",
        "login_failed",
        "login_failed",
        "login_success",
    ]
    .iter()
    .enumerate()
    {
        events.push(json!({"id": "", "k": "eve", "e": kind, "t": at * 20_001}));
    }
    events.sort_by_key(|event| event["t"].as_i64());
    let sinks = fraud.run(&events);
    assert_eq!(sinks[0].len(), 1, "{:?}", sinks[0]);
    assert_eq!(
        Value::Object(sinks[0][0].clone()),
        json!({"k": "ada", "match_start": 0, "match_end": 60_000, "first_failure": 0, "at": 60_000, "failures": 3})
    );
}

/// What `within` is for in Flink's book of patterns: a payment that does not come in time.
#[test]
fn an_order_without_payment_in_time() {
    let paid = told(
        "ORDER PAID",
        &[
            ("ORDER", "e = 'order'"),
            ("PAID", "e = 'payment' AND price >= ORDER.price"),
        ],
        &[
            "ORDER.id AS order_id",
            "ORDER.price AS due",
            "PAID.t AS paid",
        ],
    )
    .with("within", json!("1h"));
    let minutes = |at: i64| at * 60_000;
    let event = |customer: &str, id: &str, kind: &str, price: i64, at: i64| json!({"id": id, "k": customer, "e": kind, "price": price, "t": minutes(at)});
    let sinks = paid.run(&[
        event("ada", "1", "order", 20, 0),
        event("bob", "2", "order", 30, 1),
        event("eve", "3", "order", 5, 2),
        event("bob", "", "payment", 10, 10),
        event("ada", "", "payment", 20, 60),
        event("eve", "", "payment", 5, 63),
    ]);
    let row = |row: &Row| (row["order_id"].clone(), row["paid"].clone());
    let (paid, unpaid): (Vec<_>, Vec<_>) = (
        sinks[0].iter().map(row).collect(),
        sinks[1].iter().map(row).collect(),
    );
    assert_eq!(paid, [(json!("1"), json!(minutes(60)))]);
    assert_eq!(
        unpaid,
        [(json!("2"), Value::Null), (json!("3"), Value::Null)]
    );
    assert_eq!(sinks[1][0]["match_end"], minutes(1), "what it had taken");
}
