//! Connections, and what hangs on them: the journal, checkpoints, and whether one transaction can span the job.

use streamjob_crds::{
    Connection, Guarantee, KafkaConnection, S3Connection, SaslMechanism, StreamJobSpec,
};

use super::JournalPlan;
use super::kafka_properties;
use super::names::{check_list, exactly_one, unknown};
use crate::problem::Problem;

/// Checks every connection by itself.
pub(super) fn check(
    connections: &[Connection],
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) {
    check_list(
        connections
            .iter()
            .map(|connection| connection.name.as_str()),
        "spec.connections",
        "connection",
        problems,
    );
    for (at, connection) in connections.iter().enumerate() {
        let path = format!("spec.connections[{at}]");
        let Connection { name: _, kafka, s3 } = connection;
        exactly_one(
            &path,
            &[("kafka", kafka.is_some()), ("s3", s3.is_some())],
            problems,
        );
        if let Some(kafka) = kafka {
            check_kafka(kafka, &format!("{path}.kafka"), problems, warnings);
        }
        if let Some(s3) = s3 {
            check_s3(s3, &format!("{path}.s3"), problems);
        }
    }
}

fn check_kafka(
    kafka: &KafkaConnection,
    path: &str,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) {
    if kafka.bootstrap_servers.is_empty() {
        problems.push(Problem::new(
            format!("{path}.bootstrapServers"),
            "at least one server is needed",
        ));
    }
    for (at, server) in kafka.bootstrap_servers.iter().enumerate() {
        let port = server
            .rsplit_once(':')
            .map(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
        if port != Some(true) || server.contains(char::is_whitespace) || server.contains(',') {
            problems.push(
                Problem::new(
                    format!("{path}.bootstrapServers[{at}]"),
                    format!("`{server}` is no server"),
                )
                .hint("write `host:port`, such as `kafka:9092`"),
            );
        }
    }
    if let Some(tls) = &kafka.tls
        && tls.cert_secret_ref.is_some() != tls.key_secret_ref.is_some()
    {
        problems.push(Problem::new(
            format!("{path}.tls"),
            "`certSecretRef` and `keySecretRef` go together",
        ));
    }
    if let Some(sasl) = &kafka.sasl
        && sasl.mechanism == SaslMechanism::Plain
        && kafka.tls.is_none()
    {
        warnings.push(
            Problem::new(
                format!("{path}.sasl"),
                "the password goes over the network as it is",
            )
            .hint("add `tls`"),
        );
    }
    for key in kafka.properties.keys() {
        // As `manifest` writes the path of a field whose name has dots.
        let path = if key.contains('.') {
            format!("{path}.properties[{key:?}]")
        } else {
            format!("{path}.properties.{key}")
        };
        problems.extend(kafka_properties::problem(key, &path));
    }
}

fn check_s3(s3: &S3Connection, path: &str, problems: &mut Vec<Problem>) {
    if s3.bucket.is_empty() {
        problems.push(Problem::new(
            format!("{path}.bucket"),
            "the bucket has no name",
        ));
    }
    if let Some(endpoint) = &s3.endpoint
        && !endpoint.starts_with("http://")
        && !endpoint.starts_with("https://")
    {
        problems.push(
            Problem::new(
                format!("{path}.endpoint"),
                format!("`{endpoint}` is no URL"),
            )
            .hint("write for example `http://minio:9000`"),
        );
    }
}

/// Looks up a connection that must speak `kind` (`kafka` or `s3`).
pub(super) fn resolve<'a>(
    connections: &'a [Connection],
    name: &str,
    kind: &str,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<&'a Connection> {
    let speaks = |connection: &Connection| match kind {
        "kafka" => connection.kafka.is_some(),
        _ => connection.s3.is_some(),
    };
    let Some(found) = connections
        .iter()
        .find(|connection| connection.name == name)
    else {
        let fitting = connections.iter().filter(|connection| speaks(connection));
        problems.push(unknown(
            path,
            &format!("connection with `{kind}`"),
            name,
            fitting.map(|connection| connection.name.as_str()),
        ));
        return None;
    };
    if !speaks(found) {
        problems.push(Problem::new(
            path,
            format!("connection `{name}` has no `{kind}`"),
        ));
        return None;
    }
    Some(found)
}

/// Where the journal is: as given, else with the Kafka sinks, else with the Kafka sources, else in a file.
pub(super) fn journal(spec: &StreamJobSpec, problems: &mut Vec<Problem>) -> JournalPlan {
    let given = spec.journal.as_ref().map(|journal| &journal.connection);
    if let Some(name) = given {
        resolve(
            &spec.connections,
            name,
            "kafka",
            "spec.journal.connection",
            problems,
        );
    }
    let sinks = spec
        .sinks
        .iter()
        .filter_map(|sink| sink.kafka.as_ref())
        .map(|kafka| &kafka.connection);
    let sources = spec
        .sources
        .iter()
        .filter_map(|source| source.kafka.as_ref())
        .map(|kafka| &kafka.connection);
    match given.into_iter().chain(sinks).chain(sources).next() {
        Some(connection) => JournalPlan::Kafka {
            connection: connection.clone(),
        },
        None => JournalPlan::File,
    }
}

/// A transaction lives in one cluster: exactly-once output is where the journal is.
pub(super) fn check_one_cluster(
    spec: &StreamJobSpec,
    journal: &JournalPlan,
    problems: &mut Vec<Problem>,
) {
    let JournalPlan::Kafka { connection } = journal else {
        return;
    };
    if spec.guarantee != Guarantee::ExactlyOnce {
        return;
    }
    for (at, sink) in spec.sinks.iter().enumerate() {
        if let Some(kafka) = &sink.kafka
            && kafka.connection != *connection
        {
            let message = format!(
                "ExactlyOnce needs Kafka sinks on the cluster of the journal, `{connection}`, but this one is on `{}`",
                kafka.connection
            );
            problems.push(
                Problem::new(format!("spec.sinks[{at}].kafka.connection"), message).hint(
                    "a transaction lives in one cluster: use one, or `guarantee: AtLeastOnce`",
                ),
            );
        }
    }
}

/// Where checkpoints go.
pub(super) fn check_storage(spec: &StreamJobSpec, problems: &mut Vec<Problem>) {
    let Some(storage) = &spec.checkpoint.storage else {
        return;
    };
    let path = "spec.checkpoint.storage";
    exactly_one(
        path,
        &[
            ("s3", storage.s3.is_some()),
            ("local", storage.local.is_some()),
        ],
        problems,
    );
    if let Some(s3) = &storage.s3 {
        resolve(
            &spec.connections,
            &s3.connection,
            "s3",
            &format!("{path}.s3.connection"),
            problems,
        );
    }
    if storage
        .local
        .as_ref()
        .is_some_and(|local| local.path.is_empty())
    {
        problems.push(Problem::new(
            format!("{path}.local.path"),
            "the path is empty",
        ));
    }
}

/// Connections that nothing dials.
pub(super) fn unused(spec: &StreamJobSpec, warnings: &mut Vec<Problem>) {
    let sources = spec
        .sources
        .iter()
        .filter_map(|source| source.kafka.as_ref())
        .map(|kafka| &kafka.connection);
    let sinks = spec
        .sinks
        .iter()
        .filter_map(|sink| sink.kafka.as_ref())
        .map(|kafka| &kafka.connection);
    let storage = spec
        .checkpoint
        .storage
        .iter()
        .filter_map(|storage| storage.s3.as_ref())
        .map(|s3| &s3.connection);
    let journal = spec.journal.iter().map(|journal| &journal.connection);
    let used: Vec<&String> = sources.chain(sinks).chain(storage).chain(journal).collect();
    for (at, connection) in spec.connections.iter().enumerate() {
        if !used.contains(&&connection.name) {
            warnings.push(Problem::new(
                format!("spec.connections[{at}]"),
                format!("nothing uses connection `{}`", connection.name),
            ));
        }
    }
}
