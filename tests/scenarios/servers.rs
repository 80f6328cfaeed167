//! The harness itself: its servers start, break and come back as the stories need it.

use std::time::Duration;

use streamjob_tests::failure::Result;
use streamjob_tests::proxy::{KafkaProxy, TcpProxy};
use streamjob_tests::servers::{Kafka, KafkaOptions, S3};
use streamjob_tests::topic::Cluster;

#[test]
fn kafka_keeps_its_records_over_a_crash_and_serves_through_a_proxy() -> Result {
    let kafka = Kafka::start(&KafkaOptions {
        proxied: true,
        ..KafkaOptions::default()
    })?;
    let _proxy = KafkaProxy::start(&kafka, 0)?;
    let direct = Cluster::new(kafka.bootstrap());
    direct.create("kept", 2)?;
    let writer = Cluster::new(kafka.proxied_bootstrap()).writer()?;
    writer.send("kept", 1, Some(b"key"), Some(b"{\"a\":1}"))?;
    writer.flush()?;
    kafka.kill9(0);
    kafka.restart(0)?;
    let records = direct.read("kept")?;
    assert_eq!(records.len(), 1);
    assert_eq!(
        (records[0].partition, records[0].key.as_deref()),
        (1, Some(&b"key"[..]))
    );
    direct.delete_records("kept", 1, 1)?;
    assert!(direct.read("kept")?.is_empty());
    direct.enlarge("kept", 3)?;
    direct.delete("kept")?;
    Ok(())
}

#[test]
fn s3_can_be_cut_off_and_stopped() -> Result {
    let s3 = S3::start()?;
    let proxy = TcpProxy::start(0, s3.port())?;
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(2)))
        .http_status_as_error(false)
        .build()
        .new_agent();
    let url = format!("http://{}/", proxy.address());
    let answers = || agent.get(&url).call().is_ok();
    assert!(answers());
    proxy.cut();
    assert!(!answers());
    proxy.heal();
    assert!(answers());
    proxy.black_hole();
    assert!(!answers());
    proxy.heal();
    s3.stop();
    assert!(!answers());
    s3.resume()?;
    assert!(answers());
    Ok(())
}
