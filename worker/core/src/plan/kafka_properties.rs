//! The librdkafka properties that a connection may set. Everything else is refused: the commit protocol depends on its
//! own settings, TLS and SASL have fields of their own, and some properties load code.

use crate::problem::{Problem, did_you_mean};

/// Sizes, timeouts and placement: what changes speed, not meaning.
const ALLOWED: [&str; 36] = [
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "client.rack",
    "compression.codec",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "log.connection.close",
    "max.partition.fetch.bytes",
    "message.max.bytes",
    "metadata.max.age.ms",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.endpoint.identification.algorithm",
    "ssl.sigalgs.list",
];

/// Properties that another field sets.
const FIELDS: [(&str, &str); 6] = [
    ("bootstrap.servers", "bootstrapServers"),
    ("metadata.broker.list", "bootstrapServers"),
    ("security.protocol", "tls` and `sasl"),
    ("sasl.", "sasl"),
    ("ssl.", "tls"),
    ("client.id", "metadata.name"),
];

/// Why a property cannot be set at `path`; `None`: it can.
pub(super) fn problem(key: &str, path: &str) -> Option<Problem> {
    if ALLOWED.contains(&key) {
        return None;
    }
    if let Some((_, field)) = FIELDS.iter().find(|(prefix, _)| key.starts_with(prefix)) {
        return Some(
            Problem::new(path, format!("`{key}` cannot be set here"))
                .hint(format!("it follows from `{field}`")),
        );
    }
    let problem = Problem::new(
        path,
        format!(
            "`{key}` cannot be set here: only properties that leave the commit protocol alone can"
        ),
    );
    Some(match did_you_mean(key, ALLOWED) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem.hint("sizes, timeouts and compression can be set, such as `fetch.min.bytes`, and `client.rack`"),
    })
}
