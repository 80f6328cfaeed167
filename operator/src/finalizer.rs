//! The finalizer of what has to be deleted outside of the cluster too. Nothing else has one: a cluster without an operator must not
//! keep anybody from deleting.

use kube::ResourceExt;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::json;
use streamjob_crds::DeletionPolicy;

use crate::cluster::Cluster;

const FINALIZER: &str = "streamjob.dev/deletion";
/// A field manager of its own: what it does not name any more is taken away.
const MANAGER: &str = "streamjob-operator-deletion";

pub fn is_on(object: &DynamicObject) -> bool {
    object.finalizers().iter().any(|name| name == FINALIZER)
}

/// Puts it on or takes it off, as the policy says.
pub async fn keep(
    cluster: &Cluster,
    kind: &str,
    object: &DynamicObject,
) -> Result<(), kube::Error> {
    let policy = serde_json::from_value(object.data["spec"]["deletionPolicy"].clone());
    let wanted = matches!(policy, Ok(DeletionPolicy::Delete));
    match wanted == is_on(object) {
        true => Ok(()),
        false => set(cluster, kind, object, wanted).await,
    }
}

/// The cluster may let the object go.
pub async fn take_off(
    cluster: &Cluster,
    kind: &str,
    object: &DynamicObject,
) -> Result<(), kube::Error> {
    set(cluster, kind, object, false).await
}

async fn set(
    cluster: &Cluster,
    kind: &str,
    object: &DynamicObject,
    on: bool,
) -> Result<(), kube::Error> {
    let finalizers: &[&str] = if on { &[FINALIZER] } else { &[] };
    let body = json!({
        "apiVersion": "streamjob.dev/v1alpha1",
        "kind": kind,
        // With the uid: what is gone must not be made anew.
        "metadata": {"name": object.name_any(), "uid": object.uid(), "finalizers": finalizers},
    });
    let api = cluster.api_of(kind, &object.namespace().unwrap_or_default());
    let params = PatchParams::apply(MANAGER).force();
    match api
        .patch(&object.name_any(), &params, &Patch::Apply(&body))
        .await
    {
        // It has gone meanwhile, or another one has its name.
        Err(kube::Error::Api(status)) if !on && (status.code == 404 || status.code == 409) => {
            Ok(())
        }
        patched => patched.map(|_| ()),
    }
}
