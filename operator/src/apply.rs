//! Brings the cluster to a plan: server-side apply of what differs, and of nothing else, so that a steady job costs no writes.
//!
//! Objects of these names that are not the job's are left alone. The placement is written only over the one it was made
//! from: two operators, or one with an old view, must never give out one term twice.

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::Value;
use streamjob_crds::PLACEMENT_KEY;

use crate::cluster::Cluster;
use crate::names;

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(
        "there is a {kind} `{name}` that belongs to something else: choose another name, or delete that {kind}"
    )]
    Foreign { kind: String, name: String },
    #[error("cannot apply {kind} `{name}`: {error}")]
    Refused {
        kind: String,
        name: String,
        error: Box<kube::Error>,
    },
}

impl ApplyError {
    /// Whether somebody else was faster: it is decided again from what there is now.
    pub fn is_stale(&self) -> bool {
        match self {
            ApplyError::Refused { error, .. } => {
                matches!(&**error, kube::Error::Api(status) if status.code == 409)
            }
            ApplyError::Foreign { .. } => false,
        }
    }
}

/// Applies what differs from the cluster, and says how many objects that were. `owner`: the uid of whom they belong to.
pub async fn apply(cluster: &Cluster, owner: &str, plan: &[Value]) -> Result<usize, ApplyError> {
    let mut written = 0;
    for desired in plan {
        written += usize::from(apply_one(cluster, owner, desired).await?);
    }
    Ok(written)
}

async fn apply_one(cluster: &Cluster, owner: &str, desired: &Value) -> Result<bool, ApplyError> {
    let kind = desired["kind"].as_str().unwrap_or_default();
    let text = |field: &str| desired["metadata"][field].as_str().unwrap_or_default();
    let (name, namespace) = (text("name"), text("namespace"));
    let refused = |error| ApplyError::Refused {
        kind: kind.to_owned(),
        name: name.to_owned(),
        error: Box::new(error),
    };
    let api: Api<DynamicObject> = cluster.api_of(kind, namespace);
    let observed = match cluster.get(kind, namespace, name) {
        Some(seen) => Some((*seen).clone()),
        // It may be there without our labels, or not have been seen yet.
        None => api.get_opt(name).await.map_err(refused)?,
    };
    let mut body = desired.clone();
    if let Some(observed) = &observed {
        if !is_owned(observed, owner) {
            return Err(ApplyError::Foreign {
                kind: kind.to_owned(),
                name: name.to_owned(),
            });
        }
        if is_met(observed, desired) {
            return Ok(false);
        }
        if desired["data"][PLACEMENT_KEY].is_string() {
            body["metadata"]["resourceVersion"] = observed.metadata.resource_version.clone().into();
        }
    }
    let params = PatchParams::apply(names::MANAGER).force();
    api.patch(name, &params, &Patch::Apply(&body))
        .await
        .map_err(refused)?;
    Ok(true)
}

pub fn is_owned(object: &DynamicObject, uid: &str) -> bool {
    let mut owners = object.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.uid == uid && owner.controller == Some(true))
}

fn is_met(observed: &DynamicObject, desired: &Value) -> bool {
    // What is compared is what was read: serialising it cannot fail.
    let observed = serde_json::to_value(observed).unwrap_or_default();
    contains(&observed, desired)
}

/// Whether everything that is desired is there. What the cluster adds (defaults) is not looked at.
fn contains(observed: &Value, desired: &Value) -> bool {
    match (observed, desired) {
        (Value::Object(observed), Value::Object(desired)) => {
            desired.iter().all(|(field, wanted)| {
                let there = observed.get(field).unwrap_or(&Value::Null);
                contains(there, wanted)
            })
        }
        (Value::Array(observed), Value::Array(desired)) => {
            observed.len() == desired.len()
                && observed
                    .iter()
                    .zip(desired)
                    .all(|(there, wanted)| contains(there, wanted))
        }
        // An empty object says no more than that it may be there; the cluster leaves some of them out.
        (Value::Null, Value::Object(desired)) => desired.is_empty(),
        (there, wanted) => {
            there == wanted || quantity(there).is_some_and(|there| quantity(wanted) == Some(there))
        }
    }
}

/// Amounts of CPU and memory: the cluster writes `1000m` as `1`. Whole millionths.
fn quantity(value: &Value) -> Option<i128> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let is_unit = |c: char| !c.is_ascii_digit() && c != '.';
    let (number, unit) = text.split_at(text.find(is_unit).unwrap_or(text.len()));
    let factor = match unit {
        "" => 1e6,
        "m" => 1e3,
        "k" => 1e9,
        "M" => 1e12,
        "G" => 1e15,
        "Ki" => 1e6 * 1024.0,
        "Mi" => 1e6 * 1024.0 * 1024.0,
        "Gi" => 1e6 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    Some((number * factor).round() as i128)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_of_the_cluster_are_no_difference() {
        let observed = json!({
            "spec": {"replicas": 2, "template": {"containers": [{"name": "w", "image": "i", "tty": false}]}},
            "status": {"replicas": 1},
        });
        let desired = json!({
            "spec": {"replicas": 2, "template": {"containers": [{"name": "w", "image": "i"}]}},
        });
        assert!(contains(&observed, &desired));
        for (pointer, value) in [
            ("/spec/replicas", json!(3)),
            ("/spec/template/containers/0/image", json!("j")),
            ("/spec/template/containers", json!([])),
        ] {
            let mut other = desired.clone();
            *other.pointer_mut(pointer).unwrap() = value;
            assert!(!contains(&observed, &other), "{pointer}");
        }
        assert!(!contains(&observed, &json!({"data": {"a": "b"}})));
        assert!(contains(&observed, &json!({"emptyDir": {}})));
    }

    #[test]
    fn amounts_may_be_written_in_several_ways() {
        for (there, wanted, same) in [
            (json!("1"), json!("1000m"), true),
            (json!("500m"), json!(0.5), true),
            (json!("1Gi"), json!("1024Mi"), true),
            (json!("1Gi"), json!("1G"), false),
            (json!("1"), json!("2"), false),
            (json!("a"), json!("b"), false),
        ] {
            assert_eq!(contains(&there, &wanted), same, "{there} {wanted}");
        }
    }
}
