//! Kafka connections: from what the job says and the secrets it names to settings of librdkafka's handles. The one place
//! where the settings stand that the commit protocol, latency and memory rely on; they are applied last, so that no
//! property of the user's can change them.

use std::fmt;
use std::time::Duration;

use streamjob_crds::{KafkaConnection, SaslMechanism, SecretKeyRef};

use crate::secrets::{SecretError, Secrets};

pub mod client;

use client::{KafkaError, Settings};

/// How long a transaction may stay open before the broker aborts it. An epoch takes tens of milliseconds.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of records that wait in the process's consumers, all partitions together. librdkafka needs about three times as
/// much memory for them.
const FETCHED_BYTES: usize = 24 << 20;
/// Records that wait, all partitions together.
const FETCHED_RECORDS: usize = 160_000;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("connection `{connection}`: {field}: {error}")]
    Secret {
        connection: String,
        field: &'static str,
        error: SecretError,
    },
    #[error("connection `{connection}`: {error}")]
    Settings {
        connection: String,
        error: KafkaError,
    },
    #[error(
        "connection `{connection}`: no answer from Kafka at {servers} within {seconds} s: {cause}"
    )]
    Unreachable {
        connection: String,
        servers: String,
        seconds: u64,
        cause: String,
    },
    #[error(
        "connection `{connection}`: Kafka at {servers} is older than 3.8, whose transactions this worker relies on: upgrade the brokers"
    )]
    TooOld { connection: String, servers: String },
}

impl ConnectError {
    /// Whether it may pass by itself; else a setting or a secret is wrong.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, ConnectError::Unreachable { .. })
    }
}

/// A Kafka connection with its secrets read. Debug shows none of them.
#[derive(Clone)]
pub struct Kafka {
    /// The connection's name in the job.
    pub name: String,
    /// For messages.
    pub servers: String,
    base: Settings,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("name", &self.name)
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

impl Kafka {
    /// Reads the secrets that the connection names. `client_id` shows up in the brokers' logs and quotas.
    pub fn resolve(
        name: &str,
        connection: &KafkaConnection,
        secrets: &Secrets,
        client_id: &str,
    ) -> Result<Self, ConnectError> {
        let KafkaConnection {
            bootstrap_servers,
            tls,
            sasl,
            properties,
        } = connection;
        let read = |field: &'static str, reference: &SecretKeyRef| {
            secrets
                .read(reference)
                .map_err(|error| ConnectError::Secret {
                    connection: name.to_owned(),
                    field,
                    error,
                })
        };
        let mut base = Settings::default();
        // A broker that hangs keeps its connections: others are asked only once it is given up, by default after a minute.
        base.set("socket.timeout.ms", "10000");
        base.set("socket.connection.setup.timeout.ms", "5000");
        for (key, value) in properties {
            base.set(key, value.as_str());
        }
        let servers = bootstrap_servers.join(",");
        base.set("bootstrap.servers", servers.as_str());
        base.set("client.id", client_id);
        base.set(
            "security.protocol",
            match (tls.is_some(), sasl.is_some()) {
                (false, false) => "plaintext",
                (true, false) => "ssl",
                (false, true) => "sasl_plaintext",
                (true, true) => "sasl_ssl",
            },
        );
        if let Some(tls) = tls {
            base.set("ssl.endpoint.identification.algorithm", "https");
            for (key, field, reference) in [
                ("ssl.ca.pem", "tls.caSecretRef", &tls.ca_secret_ref),
                (
                    "ssl.certificate.pem",
                    "tls.certSecretRef",
                    &tls.cert_secret_ref,
                ),
                ("ssl.key.pem", "tls.keySecretRef", &tls.key_secret_ref),
            ] {
                if let Some(reference) = reference {
                    base.set(key, read(field, reference)?.reveal());
                }
            }
        }
        if let Some(sasl) = sasl {
            base.set("sasl.mechanisms", mechanism(sasl.mechanism));
            base.set("sasl.username", sasl.username.as_str());
            let password = read("sasl.passwordSecretRef", &sasl.password_secret_ref)?;
            base.set("sasl.password", password.reveal());
        }
        // Neither depends on what the handle is for; both keep a broker's return from being noticed late.
        base.set("reconnect.backoff.ms", "50");
        base.set("reconnect.backoff.max.ms", "1000");
        Ok(Kafka {
            name: name.to_owned(),
            servers,
            base,
        })
    }

    /// For a consumer with manual assignment. `group` only names the courtesy commits. The `partitions` of all consumers
    /// of the process share its memory.
    pub fn consumer(&self, group: &str, partitions: usize) -> Settings {
        let partitions = partitions.max(1);
        let mut settings = self.base.clone();
        settings
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("allow.auto.create.topics", "false")
            .set("isolation.level", "read_committed")
            // The default jumps to the end in silence.
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "20")
            .set("fetch.error.backoff.ms", "50")
            // By default a consumer slower than the fetcher stalls for a second at a time.
            .set("fetch.queue.backoff.ms", "10")
            .set(
                "queued.min.messages",
                bounded(FETCHED_RECORDS / partitions, 1_000, 40_000),
            )
            .set(
                "queued.max.messages.kbytes",
                bounded(FETCHED_BYTES / 1024 / partitions, 256, 8_192),
            )
            .set(
                "fetch.message.max.bytes",
                bounded(FETCHED_BYTES / partitions, 256 << 10, 1 << 20),
            )
            // Told at once that a topic is gone.
            .set("topic.metadata.propagation.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "30000")
            // No group is ever joined; this keeps librdkafka from thinking about leaving one.
            .set("max.poll.interval.ms", "86400000")
            // A topic's change of id is told in no other way. Read by a watch, never shown.
            .set("debug", "topic");
        settings
    }

    /// For a slot's transactional producer.
    pub fn transactional(&self, transactional_id: &str) -> Settings {
        let mut settings = self.idempotent();
        settings
            .set("transactional.id", transactional_id)
            .set(
                "transaction.timeout.ms",
                TRANSACTION_TIMEOUT.as_millis().to_string(),
            )
            // How an EndTxn went is told in no other way. Read by a watch, never shown.
            .set("debug", "eos");
        settings
    }

    /// For a producer without transactions.
    pub fn idempotent(&self) -> Settings {
        let mut settings = self.base.clone();
        settings
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("retry.backoff.ms", "5")
            .set("retry.backoff.max.ms", "100")
            .set(
                "compression.type",
                self.base.get("compression.type").unwrap_or("lz4"),
            )
            .set("allow.auto.create.topics", "false")
            // What one task sends another in an epoch is one message; internal topics take as much. Batches stay as they are (`batch.size`).
            .set(
                "message.max.bytes",
                self.base.get("message.max.bytes").unwrap_or("16000000"),
            )
            .set("queue.buffering.max.messages", "2000000")
            .set("queue.buffering.max.kbytes", "1048576")
            .set("message.timeout.ms", "14000")
            .set("topic.metadata.refresh.interval.ms", "60000");
        settings
    }

    /// For describing and creating topics.
    pub fn admin(&self) -> Settings {
        let mut settings = self.base.clone();
        settings
            .set("group.id", "streamjob-admin")
            .set("allow.auto.create.topics", "false")
            .set("retry.backoff.ms", "50")
            // The brokers' versions are told in no other way. Read by a watch, never shown.
            .set("debug", "feature");
        settings
    }

    pub(crate) fn settings_error(&self, error: KafkaError) -> ConnectError {
        ConnectError::Settings {
            connection: self.name.clone(),
            error,
        }
    }
}

fn bounded(value: usize, least: usize, most: usize) -> String {
    value.clamp(least, most).to_string()
}

fn mechanism(mechanism: SaslMechanism) -> &'static str {
    match mechanism {
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
    }
}

#[cfg(test)]
mod tests;
