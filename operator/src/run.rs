//! The life of the operator: serves HTTP, waits until it leads, then looks after jobs until a signal or until it leads no more.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::StreamExt;
use kube::Client;
use kube::runtime::controller::{Config, Controller};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::watcher;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cli::RunArgs;
use crate::cluster::{self, Changes, Cluster, Scope};
use crate::controller::{self, Operator};
use crate::metrics::Metrics;
use crate::plan::pod::Image;
use crate::webhook::{self, Webhook};
use crate::{http, names, snapshot};

/// How long a leader that is gone holds the others back, and how long before that it must have renewed.
const LEASE_SECONDS: u64 = 15;
const GRACE_SECONDS: u64 = 5;
const LET_GO: Duration = Duration::from_secs(2);
/// Before a cluster that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(2);

pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let client = Client::try_default()
        .await
        .context("found no cluster: run in a pod, or set KUBECONFIG")?;
    let namespace = client.default_namespace().to_owned();
    let scope = match (args.all_namespaces, args.namespace.clone()) {
        (true, _) => Scope::All,
        (false, named) => Scope::Namespace(named.unwrap_or_else(|| namespace.clone())),
    };
    let webhook = args.webhook();
    let metrics = Metrics::new()?;
    let image = Image {
        name: args.worker_image,
        pull_policy: args.worker_image_pull_policy,
    };
    let (ready, readiness) = watch::channel(webhook.is_none());
    let served = http::serve(args.listen, metrics.clone(), readiness);
    let refused = refuse(client.clone(), webhook, ready);
    let mut renewing = None;
    let led = async {
        let (leads, task) = stand(&client, &namespace).await;
        renewing = Some(task);
        lead(client.clone(), leads, &scope, image, metrics).await
    };
    let ended = tokio::select! {
        ended = served => ended,
        ended = refused => ended,
        ended = led => ended,
        ended = terminated() => ended,
    };
    if let Some(renewing) = renewing {
        let_go(renewing).await;
    }
    ended
}

type Renewing = JoinHandle<kube_lease_manager::Result<LeaseManager>>;

/// Stands for the lease, and hears when it is ours. A cluster that does not answer now may do so soon: who ended instead
/// would be started again ever more slowly.
async fn stand(client: &Client, namespace: &str) -> (watch::Receiver<bool>, Renewing) {
    loop {
        let mut lease = LeaseManagerBuilder::new(client.clone(), names::LEASE)
            .with_namespace(namespace)
            .with_duration(LEASE_SECONDS)
            .with_grace(GRACE_SECONDS);
        // So that the lease tells who leads. Two processes of one pod never live at the same time.
        if let Ok(pod) = std::env::var("POD_NAME") {
            lease = lease.with_identity(pod);
        }
        match lease.build().await {
            Ok(lease) => return lease.watch().await,
            Err(error) => {
                let lease = names::LEASE;
                tracing::warn!(%error, lease, "cannot use the lease; it is tried again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Nobody listens to the lease any more: it is let go, so that the next one need not wait until it expires.
async fn let_go(renewing: Renewing) {
    match tokio::time::timeout(LET_GO, renewing).await {
        Ok(Ok(Ok(_))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "cannot let go of the lease"),
        Ok(Err(_)) | Err(_) => tracing::warn!("cannot let go of the lease in time"),
    }
}

/// Serves the webhook, if there is to be one.
async fn refuse(
    client: Client,
    webhook: Option<Webhook>,
    ready: watch::Sender<bool>,
) -> anyhow::Result<()> {
    match webhook {
        Some(webhook) => webhook::serve(client, webhook, ready).await,
        None => std::future::pending().await,
    }
}

/// A leader that leads no more ends: whoever starts it anew starts with nothing in hand.
async fn lead(
    client: Client,
    mut leads: watch::Receiver<bool>,
    scope: &Scope,
    image: Image,
    metrics: Metrics,
) -> anyhow::Result<()> {
    tracing::info!(?scope, "waiting to lead");
    until(&mut leads, true).await?;
    tracing::info!("leading");
    metrics.leads.set(1);
    tokio::select! {
        ended = look_after(client, scope, image, metrics) => ended,
        lost = until(&mut leads, false) => {
            lost?;
            bail!("leads no more: another operator has taken over, or the cluster did not answer")
        }
    }
}

async fn until(leads: &mut watch::Receiver<bool>, wanted: bool) -> anyhow::Result<()> {
    leads
        .wait_for(|leads| *leads == wanted)
        .await
        .context("the lease is not renewed any more")?;
    Ok(())
}

async fn look_after(
    client: Client,
    scope: &Scope,
    image: Image,
    metrics: Metrics,
) -> anyhow::Result<()> {
    let (cluster, mut changes) = Cluster::watch(client.clone(), scope);
    see_all(&cluster, &mut changes).await?;
    let reporter = Reporter {
        controller: names::MANAGER.to_owned(),
        instance: std::env::var("POD_NAME").ok(),
    };
    let events = Recorder::new(client.clone(), reporter);
    let kind = cluster::jobs();
    let api = cluster::api(&client, scope, &kind);
    let config = Config::default().concurrency(32);
    let jobs = Controller::new_with(api, watcher::Config::default(), kind)
        .with_config(config.clone())
        .reconcile_on(changes);
    let seen = jobs.store();
    let operator = Operator::new(cluster, seen.clone(), image, events, metrics);
    let operator = Arc::new(operator);
    let looked_after = jobs
        .run(
            controller::reconcile,
            controller::after_error,
            operator.clone(),
        )
        .for_each(|outcome| async move { note(outcome) });
    let snapshots = async {
        // One whose job has not been seen yet would be told that there is none.
        seen.wait_until_ready().await?;
        let kind = cluster::resource(cluster::SNAPSHOT);
        let api = cluster::api(&client, scope, &kind);
        Controller::new_with(api, watcher::Config::default(), kind)
            .with_config(config)
            .run(snapshot::reconcile, controller::after_error, operator)
            .for_each(|outcome| async move { note(outcome) })
            .await;
        anyhow::Ok(())
    };
    tokio::select! {
        () = looked_after => bail!("the watch of the jobs has ended"),
        ended = snapshots => {
            ended?;
            bail!("the watch of the snapshots has ended")
        }
    }
}

/// What matters of it has been told where it happened.
fn note<T, E: std::fmt::Display>(outcome: Result<T, E>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "a look did not end well");
    }
}

/// Decisions made before all is seen would be made anew, from terms that are too low.
async fn see_all(cluster: &Cluster, changes: &mut Changes) -> anyhow::Result<()> {
    let polled = async {
        while changes.next().await.is_some() {}
        bail!("the watches have ended")
    };
    tokio::select! {
        seen = cluster.is_seen() => seen,
        ended = polled => ended,
    }
}

async fn terminated() -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending; jobs go on");
    Ok(())
}
