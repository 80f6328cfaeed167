//! Connections, and what hangs on them: the journal, checkpoints, and whether one transaction can span the job.

use streamjob_crds::{
    Connection, Guarantee, KafkaConnection, S3Connection, SaslMechanism, StreamJobSpec,
};

use super::JournalPlan;
use super::kafka_properties;
use super::names::{check_list, exactly_one, listed, unknown};
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
                    format!("`{server}` is not the address of a server"),
                )
                .hint("write `host:port`, such as `kafka:9092`"),
            );
        }
    }
    if let Some(tls) = &kafka.tls
        && tls.cert_secret_ref.is_some() != tls.key_secret_ref.is_some()
    {
        let missing = match tls.cert_secret_ref {
            Some(_) => "keySecretRef",
            None => "certSecretRef",
        };
        problems.push(
            Problem::new(
                format!("{path}.tls"),
                "`certSecretRef` and `keySecretRef` go together",
            )
            .hint(format!("add `{missing}`")),
        );
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
                format!("`{endpoint}` is not a URL"),
            )
            .hint(format!("write `http://{endpoint}` or `https://{endpoint}`")),
        );
    }
}

/// What a connection can lead to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    Kafka,
    S3,
}

impl Server {
    fn at(self, connection: &Connection) -> bool {
        match self {
            Server::Kafka => connection.kafka.is_some(),
            Server::S3 => connection.s3.is_some(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Server::Kafka => "Kafka",
            Server::S3 => "S3",
        }
    }

    fn example(self, name: &str) -> String {
        match self {
            Server::Kafka => {
                format!("{{name: {name}, kafka: {{bootstrapServers: [\"kafka:9092\"]}}}}")
            }
            Server::S3 => format!("{{name: {name}, s3: {{bucket: my-bucket}}}}"),
        }
    }
}

/// Complains unless there is a connection `name` to such a server.
pub(super) fn check_reference(
    connections: &[Connection],
    name: &str,
    server: Server,
    path: &str,
    problems: &mut Vec<Problem>,
) {
    let fitting = || {
        let fitting = connections.iter().filter(|other| server.at(other));
        fitting.map(|other| other.name.as_str()).collect::<Vec<_>>()
    };
    let what = format!("{} connection", server.name());
    match connections.iter().find(|other| other.name == name) {
        Some(found) if server.at(found) => {}
        None if !fitting().is_empty() => problems.push(unknown(path, &what, name, fitting())),
        None => problems.push(
            Problem::new(path, format!("there is no {what} `{name}`")).hint(format!(
                "add to `spec.connections`: `{}`",
                server.example(name)
            )),
        ),
        Some(_) => {
            let mut problem = Problem::new(path, format!("connection `{name}` is no {what}"));
            if !fitting().is_empty() {
                problem.hint = Some(format!("there are: {}", listed(&fitting())));
            }
            problems.push(problem);
        }
    }
}

/// What a Kafka source and a Kafka sink have in common: the connection and the topic named under `path`.
pub(super) fn check_topic(
    connections: &[Connection],
    connection: &str,
    topic: &str,
    path: &str,
    problems: &mut Vec<Problem>,
) {
    let at = format!("{path}.connection");
    check_reference(connections, connection, Server::Kafka, &at, problems);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fine = (1..=249).contains(&topic.len())
        && topic.chars().all(fits)
        && topic != "."
        && topic != "..";
    if !fine {
        problems.push(
            Problem::new(
                format!("{path}.topic"),
                format!("`{topic}` is not a name for a topic"),
            )
            .hint("letters, digits, `.`, `_` and `-`, at most 249"),
        );
    }
}

/// Where the journal is: as given, else with the Kafka sinks, else with the Kafka sources, else in a file.
pub(super) fn journal(spec: &StreamJobSpec, problems: &mut Vec<Problem>) -> JournalPlan {
    let given = spec.journal.as_ref().map(|journal| &journal.connection);
    if let Some(name) = given {
        let path = "spec.journal.connection";
        check_reference(&spec.connections, name, Server::Kafka, path, problems);
    }
    let sinks_then_sources = kafka_sinks(spec).chain(kafka_sources(spec));
    match given.into_iter().chain(sinks_then_sources).next() {
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
    // One that leads nowhere has been told of.
    let dialled = |other: &Connection| other.name == *connection && Server::Kafka.at(other);
    if spec.guarantee != Guarantee::ExactlyOnce || !spec.connections.iter().any(dialled) {
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
        let path = format!("{path}.s3.connection");
        check_reference(
            &spec.connections,
            &s3.connection,
            Server::S3,
            &path,
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
    let storage = spec.checkpoint.storage.iter();
    let storage = storage
        .filter_map(|storage| storage.s3.as_ref())
        .map(|s3| &s3.connection);
    let journal = spec.journal.iter().map(|journal| &journal.connection);
    let used: Vec<&String> = kafka_sinks(spec)
        .chain(kafka_sources(spec))
        .chain(storage)
        .chain(journal)
        .collect();
    for (at, connection) in spec.connections.iter().enumerate() {
        if !used.contains(&&connection.name) {
            warnings.push(Problem::new(
                format!("spec.connections[{at}]"),
                format!("nothing uses connection `{}`", connection.name),
            ));
        }
    }
}

/// The connections of Kafka sinks.
fn kafka_sinks(spec: &StreamJobSpec) -> impl Iterator<Item = &String> {
    let sinks = spec.sinks.iter().filter_map(|sink| sink.kafka.as_ref());
    sinks.map(|kafka| &kafka.connection)
}

/// The connections of Kafka sources.
fn kafka_sources(spec: &StreamJobSpec) -> impl Iterator<Item = &String> {
    let sources = spec
        .sources
        .iter()
        .filter_map(|source| source.kafka.as_ref());
    sources.map(|kafka| &kafka.connection)
}
