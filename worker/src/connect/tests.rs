use std::collections::BTreeMap;

use streamjob_crds::{KafkaConnection, KafkaSasl, KafkaTls, SaslMechanism, SecretKeyRef};

use super::*;

fn secret(name: &str, key: &str) -> SecretKeyRef {
    SecretKeyRef {
        name: name.into(),
        key: key.into(),
    }
}

fn secured() -> KafkaConnection {
    KafkaConnection {
        bootstrap_servers: vec!["a:1".into(), "b:2".into()],
        tls: Some(KafkaTls {
            ca_secret_ref: Some(secret("ca", "ca.crt")),
            ..KafkaTls::default()
        }),
        sasl: Some(KafkaSasl {
            mechanism: SaslMechanism::ScramSha512,
            username: "fraud".into(),
            password_secret_ref: secret("user", "password"),
        }),
        properties: BTreeMap::from([
            ("client.rack".into(), "az1".into()),
            ("isolation.level".into(), "read_uncommitted".into()),
        ]),
    }
}

fn write(dir: &std::path::Path, name: &str, key: &str, value: &str) {
    std::fs::create_dir_all(dir.join(name)).unwrap();
    std::fs::write(dir.join(name).join(key), value).unwrap();
}

#[test]
fn secrets_become_settings_and_are_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "ca", "ca.crt", "PEM");
    write(dir.path(), "user", "password", "hunter2\n");
    let kafka = Kafka::resolve("main", &secured(), &Secrets::new(dir.path()), "job-0").unwrap();
    let settings = kafka.consumer("g", 4);
    assert_eq!(settings.get("security.protocol"), Some("sasl_ssl"));
    assert_eq!(settings.get("sasl.mechanisms"), Some("SCRAM-SHA-512"));
    assert_eq!(settings.get("sasl.password"), Some("hunter2"));
    assert_eq!(settings.get("ssl.ca.pem"), Some("PEM"));
    assert_eq!(settings.get("client.rack"), Some("az1"));
    // What the protocol relies on cannot be changed.
    assert_eq!(settings.get("isolation.level"), Some("read_committed"));
    let shown = format!("{kafka:?} {settings:?}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("PEM"),
        "{shown}"
    );
}

#[test]
fn a_missing_secret_is_told_with_connection_field_and_path() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "ca", "ca.crt", "PEM");
    let error = Kafka::resolve("main", &secured(), &Secrets::new(dir.path()), "job-0").unwrap_err();
    let message = error.to_string();
    for part in ["`main`", "sasl.passwordSecretRef", "user/password"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn memory_is_shared_by_the_partitions() {
    let kafka = Kafka::resolve(
        "main",
        &KafkaConnection {
            bootstrap_servers: vec!["a:1".into()],
            tls: None,
            sasl: None,
            properties: BTreeMap::new(),
        },
        &Secrets::new("."),
        "job-0",
    )
    .unwrap();
    let kilobytes = |partitions: usize| -> usize {
        let settings = kafka.consumer("g", partitions);
        let value = settings.get("queued.max.messages.kbytes").unwrap();
        value.parse::<usize>().unwrap() * partitions
    };
    assert!(kilobytes(1) <= 24 << 10 && kilobytes(16) <= 24 << 10);
}
