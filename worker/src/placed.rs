//! Which slots are this worker's, in a cluster: watches the job's ConfigMap `<job>-placement`, on a thread of its own.
//!
//! While the cluster does not answer, the last placement holds: slots go on.

use std::pin::pin;

use crossbeam_channel::{Receiver, Sender, unbounded};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use streamjob_crds::{PLACEMENT_KEY, Placement, placement_name};

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error(
        "found no cluster to take a placement from (`serve` runs in a pod; on a laptop use `run`): {0}"
    )]
    NoCluster(Box<kube::Error>),
    #[error("cannot start the thread that watches the placement: {0}")]
    Thread(#[from] std::io::Error),
}

/// Every placement from now on, the one that there is first.
pub fn watch(namespace: &str, job: &str) -> Result<Receiver<Placement>, WatchError> {
    let (placements, placed) = unbounded();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let client = runtime
        .block_on(Client::try_default())
        .map_err(|error| WatchError::NoCluster(Box::new(error)))?;
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let name = placement_name(job);
    let thread = std::thread::Builder::new().name("placement".to_owned());
    thread.spawn(move || runtime.block_on(follow(api, &name, &placements)))?;
    Ok(placed)
}

async fn follow(api: Api<ConfigMap>, name: &str, placements: &Sender<Placement>) {
    let mut seen = pin!(watcher::watch_object(api, name).default_backoff());
    while let Some(config) = seen.next().await {
        let placement = match config {
            Ok(Some(config)) => read(name, &config),
            // Not there yet, or deleted by mistake: the operator makes it anew.
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, "cannot watch the placement; slots go on where they are");
                None
            }
        };
        if let Some(placement) = placement
            && placements.send(placement).is_err()
        {
            return; // the worker is ending
        }
    }
}

fn read(name: &str, config: &ConfigMap) -> Option<Placement> {
    let text = config.data.as_ref()?.get(PLACEMENT_KEY)?;
    Placement::parse(text)
        .inspect_err(|error| tracing::error!(%error, "the ConfigMap `{name}` holds no placement"))
        .ok()
}
