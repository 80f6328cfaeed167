//! Made-up and given events fit the source they are for.

use std::path::PathBuf;

use streamjob_core::decode::Decoder;

use super::*;

const JOB: &str = r#"
apiVersion: streamjob.dev/v1alpha1
kind: StreamJob
metadata: {name: clicks}
spec:
  connections:
    - name: main
      kafka: {bootstrapServers: ["127.0.0.1:9092"]}
  sources:
    - name: events
      kafka: {connection: main, topic: events}
      columns:
        - {name: event_id, type: String}
        - {name: ts, type: Timestamp, path: meta.time}
        - {name: user, type: Int64}
        - {name: page, type: String}
        - {name: amount, type: Double, path: data.amount, nullable: true}
        - {name: price, type: Decimal, precision: 6, scale: 2}
        - {name: units, type: Decimal, precision: 3, scale: 0}
        - {name: ok, type: Boolean}
        - {name: raw, type: Bytes}
        - {name: seen, type: Timestamp}
      key: [user, page]
      eventTime: {column: ts, maxOutOfOrderness: 5s}
  sinks:
    - {name: out, from: events, stdout: {}}
"#;

fn job() -> Job {
    Job::parse(JOB, PathBuf::new(), "job.yaml").unwrap()
}

#[test]
fn made_up_events_fit_their_source() {
    let job = job();
    let source = &job.plan.sources[0];
    for rate in [None, Some(10)] {
        let generate = invent::invent(source, 500, 7, rate);
        let generator = Generator::new(&generate, &source.columns, &source.key).unwrap();
        let mut decoder =
            Decoder::new(&source.columns, source.time_column, None, "", 0, false).unwrap();
        let (mut events, mut made_keys) = (Vec::new(), Vec::new());
        for index in 0..500 {
            let (mut event, mut key) = (Vec::new(), Vec::new());
            generator.event(index, 1_767_225_600_000, &mut event);
            made_keys.push(generator.key(index, &mut key).then_some(key));
            decoder.push(Some(&event), 0, None).unwrap();
            events.push(event);
        }
        let decoded = decoder.finish().unwrap();
        assert_eq!(decoded.first_malformed, None);
        assert_eq!(decoded.times.len(), 500);
        // Made up or given, an event has the same key.
        let mut keys = Keys::new(source).unwrap();
        assert_eq!(keys.of(&events).unwrap(), made_keys);
        assert_eq!(keys.misfits(), 0);
    }
}

#[test]
fn events_that_do_not_fit_have_no_key() {
    let job = job();
    let mut keys = Keys::new(&job.plan.sources[0]).unwrap();
    let good = br#"{"event_id":"e","meta":{"time":5},"user":7,"page":"/","price":1,"units":2,"ok":true,"raw":"","seen":1}"#;
    let bad = br#"{"event_id":"e","meta":{"time":"yesterday"},"user":7,"page":"/"}"#;
    let found = keys
        .of(&[bad.to_vec(), good.to_vec(), b"{".to_vec()])
        .unwrap();
    assert_eq!(found, [None, Some(br#"[7,"/"]"#.to_vec()), None]);
    assert_eq!(keys.misfits(), 2);
}

#[test]
fn a_source_that_is_not_there_is_told_from_one_without_a_topic() {
    let job = job();
    let failure = kafka_source(&job, "event").err().unwrap();
    assert_eq!(failure.code, ExitCode::Usage);
    assert!(
        failure.to_string().contains("did you mean `events`?"),
        "{failure}"
    );
    assert!(kafka_source(&job, "events").is_ok());
}

#[test]
fn all_problems_of_a_job_are_told_with_their_places() {
    let text = JOB
        .replace("type: Boolean", "type: Bool")
        .replace("from: events", "from: evnts");
    let problems = Job::parse(&text, PathBuf::new(), "job.yaml").unwrap_err();
    let failure = Failure::new(ExitCode::BadManifest, problems).to_string();
    assert!(failure.starts_with("job.yaml:"), "{failure}");
    assert!(failure.contains("Bool"), "{failure}");
}
