//! Connections: servers that sources, sinks and checkpoints dial by name. Secrets only by reference.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{NAME_PATTERN, exactly_one_of};

/// A named server. Exactly one of `kafka`, `s3`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = exactly_one_of(&["kafka", "s3"]))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Connection {
    /// The name that sources, sinks and checkpoints use.
    #[schemars(regex(pattern = NAME_PATTERN), length(max = 63))]
    pub name: String,
    /// A Kafka cluster, brokers 3.8 or newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaConnection>,
    /// A bucket of S3 or of a server that speaks its protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Connection>,
}

/// A Kafka cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaConnection {
    /// `host:port` of some brokers; the others are found through them.
    #[schemars(length(min = 1, max = 100))]
    pub bootstrap_servers: Vec<String>,
    /// Encrypts the connection. `tls: {}` trusts the system's certificate authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// Logs in with a name and a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
    /// Further librdkafka properties, from an allow-list: `client.rack`, socket and fetch sizes and the like.
    /// Settings that the commit protocol relies on cannot be set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

/// An encrypted connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.certSecretRef) == has(self.keySecretRef)")
    .message("`certSecretRef` and `keySecretRef` go together"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaTls {
    /// Certificate authority (PEM) that signed the brokers' certificates; default: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// Client certificate (PEM), for mutual TLS; together with `keySecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<SecretKeyRef>,
    /// Key (PEM) of the client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_secret_ref: Option<SecretKeyRef>,
}

/// A login by name and password.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSasl {
    /// `Plain` sends the password as it is: use it with `tls`. The `Scram` mechanisms do not send it.
    pub mechanism: SaslMechanism,
    /// The user's name.
    pub username: String,
    /// The user's password.
    pub password_secret_ref: SecretKeyRef,
}

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Connection {
    /// URL of the server, such as `http://minio:9000`; default: Amazon's, for the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region; default: what the environment says, else `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The bucket's name. It must exist.
    #[schemars(length(min = 1))]
    pub bucket: String,
    /// `http://server/bucket/key` instead of `http://bucket.server/key`, as most servers other than Amazon's want.
    #[serde(default, skip_serializing_if = "is_false")]
    pub path_style: bool,
    /// Secret with the keys `accessKeyId` and `secretAccessKey`; default: the standard AWS chain (environment, web identity).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

/// One value of a Secret in the job's namespace. On a laptop: the file `<secrets dir>/<name>/<key>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the Secret's data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A Secret in the job's namespace. On a laptop: the folder `<secrets dir>/<name>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}
