//! The cluster as the operator sees it: its objects, watched, so that reading them asks nobody.

use std::sync::Arc;

use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt, TryStreamExt};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::ApiResource;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};

use crate::names;

/// Where jobs are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Namespace(String),
    All,
}

/// Kinds of objects that jobs are made of: group, version, kind, plural.
const KINDS: [(&str, &str, &str, &str); 12] = [
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Service", "services"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("batch", "v1", "Job", "jobs"),
    (
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        "networkpolicies",
    ),
    (
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
    ),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles"),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "RoleBinding",
        "rolebindings",
    ),
    ("streamjob.dev", "v1alpha1", "StreamJob", "streamjobs"),
    (
        "streamjob.dev",
        "v1alpha1",
        "StreamSnapshot",
        "streamsnapshots",
    ),
];

pub fn resource(kind: &str) -> ApiResource {
    let known = KINDS.iter().find(|(_, _, known, _)| *known == kind);
    let (group, version, kind, plural) = known.unwrap_or(&KINDS[0]);
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// The kind of the jobs themselves. They are read without a type: one that no type takes must not hide the others.
pub fn jobs() -> ApiResource {
    resource("StreamJob")
}

/// The kind of snapshots.
pub const SNAPSHOT: &str = "StreamSnapshot";

/// Watched objects, by kind.
pub struct Cluster {
    pub client: Client,
    stores: Vec<(&'static str, Store<DynamicObject>)>,
}

/// Jobs whose objects have changed.
pub type Changes = SelectAll<BoxStream<'static, ObjectRef<DynamicObject>>>;

impl Cluster {
    /// Begins to watch. Nothing is seen until the changes are polled.
    pub fn watch(client: Client, scope: &Scope) -> (Self, Changes) {
        let mut stores = Vec::new();
        let mut changes = Changes::new();
        let own = KINDS.iter().filter(|(_, _, kind, _)| *kind != "StreamJob");
        for &(_, _, kind, _) in own {
            let resource = resource(kind);
            let api = api(&client, scope, &resource);
            let writer = Writer::<DynamicObject>::new(resource);
            stores.push((kind, writer.as_reader()));
            let config = match kind {
                // Made by users.
                SNAPSHOT => watcher::Config::default(),
                _ => watcher::Config::default().labels(names::MANAGED),
            };
            let objects = watcher(api, config)
                .default_backoff()
                .reflect(writer)
                .touched_objects()
                .inspect_err(
                    move |error| tracing::warn!(%error, kind, "cannot watch; it is tried again"),
                )
                .filter_map(move |object| async move { job_of(kind, &object.ok()?) });
            changes.push(objects.boxed());
        }
        (Cluster { client, stores }, changes)
    }

    /// Waits until everything that was there has been seen.
    pub async fn is_seen(&self) -> anyhow::Result<()> {
        for (_, store) in &self.stores {
            store.wait_until_ready().await?;
        }
        Ok(())
    }

    /// An object that the operator made.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<DynamicObject>> {
        let (_, store) = self.stores.iter().find(|(known, _)| *known == kind)?;
        let key = ObjectRef::new_with(name, resource(kind)).within(namespace);
        store.get(&key)
    }

    /// Objects of a kind that the operator made, and snapshots, in a namespace.
    pub fn select(
        &self,
        kind: &str,
        namespace: &str,
        wanted: impl Fn(&DynamicObject) -> bool,
    ) -> Vec<Arc<DynamicObject>> {
        let store = self.stores.iter().find(|(known, _)| *known == kind);
        let all = store.map(|(_, store)| store.state()).unwrap_or_default();
        let here = |object: &DynamicObject| object.metadata.namespace.as_deref() == Some(namespace);
        all.into_iter()
            .filter(|object| here(object) && wanted(object))
            .collect()
    }

    pub fn api_of(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource(kind))
    }
}

/// Objects of a kind, where jobs are looked for.
pub fn api(client: &Client, scope: &Scope, resource: &ApiResource) -> Api<DynamicObject> {
    match scope {
        Scope::Namespace(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        Scope::All => Api::all_with(client.clone(), resource),
    }
}

/// The job that an object is about.
fn job_of(kind: &str, object: &DynamicObject) -> Option<ObjectRef<DynamicObject>> {
    let job = match kind {
        SNAPSHOT => object.data["spec"]["jobRef"]["name"].as_str()?,
        _ => object.metadata.labels.as_ref()?.get(names::JOB_LABEL)?,
    };
    let namespace = object.metadata.namespace.as_ref()?;
    Some(ObjectRef::new_with(job, jobs()).within(namespace))
}
