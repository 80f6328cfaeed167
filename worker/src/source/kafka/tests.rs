use super::*;

fn facts(id: &str, partitions: u32) -> TopicFacts {
    TopicFacts {
        topic: "clicks".into(),
        id: id.into(),
        partitions,
    }
}

#[test]
fn the_log_tells_a_topic_made_again() {
    let log = Arc::new(LogWatch::default());
    log.expect(&facts("AbC", 4)).unwrap();
    let watch = log.clone().watch();
    watch(
        "METADATA",
        "[thrd:main]: Topic clicks changed id from AAAAAAAAAAAAAAAAAAAAAA to AbC",
    );
    watch(
        "METADATA",
        "[thrd:main]: Topic other changed id from AbC to XyZ",
    );
    assert!(log.check("clicks").is_ok());
    watch(
        "METADATA",
        "[thrd:main]: Topic clicks changed id from AbC to XyZ",
    );
    let error = log.check("clicks").unwrap_err().to_string();
    assert!(
        error.contains("`clicks`") && error.contains("AbC") && error.contains("XyZ"),
        "{error}"
    );
    assert!(log.expect(&facts("AbC", 4)).is_err());
}

#[test]
fn the_log_tells_added_partitions() {
    let log = Arc::new(LogWatch::default());
    log.expect(&facts("AbC", 4)).unwrap();
    let watch = log.clone().watch();
    watch(
        "PARTCNT",
        "[thrd:main]: Topic clicks partition count changed from 0 to 4",
    );
    watch(
        "PARTCNT",
        "[thrd:main]: Topic clicks partition count changed from 4 to 0",
    );
    assert!(log.check("clicks").is_ok());
    watch(
        "PARTCNT",
        "[thrd:main]: Topic clicks partition count changed from 4 to 6",
    );
    assert!(matches!(
        log.check("clicks"),
        Err(KafkaSourceError::Enlarged { was: 4, now: 6, .. })
    ));
}

#[test]
fn a_topic_is_gone_when_it_was_missed_twice() {
    let log = LogWatch::default();
    log.expect(&facts("AbC", 4)).unwrap();
    log.compare(&BTreeMap::new());
    let there = Topic {
        id: "AbC".into(),
        partitions: 4,
    };
    log.compare(&BTreeMap::from([("clicks".to_owned(), there)]));
    log.compare(&BTreeMap::new());
    assert!(log.check("clicks").is_ok());
    log.compare(&BTreeMap::new());
    assert!(matches!(
        log.check("clicks"),
        Err(KafkaSourceError::Deleted { .. })
    ));
}
