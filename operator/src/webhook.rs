//! Refuses wrong jobs at `kubectl apply`: a validating admission webhook, served by every operator, leading or not.
//!
//! What it says is what the condition `Valid` would say, from the same [`validate`]. It is a courtesy: when it does not
//! answer, the cluster takes the job (`failurePolicy: Ignore`), and the condition tells.

mod certificate;
mod trust;

use std::net::SocketAddr;

use anyhow::Context;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use axum::{Json, Router};
use axum_server::tls_rustls::RustlsConfig;
use kube::Client;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use tokio::sync::watch;

use crate::plan::job_text;
use crate::upgrade::{Judged, judge};
use crate::validate::{told, validate};
use certificate::Certificate;

/// What is told to somebody who changes what a job computes.
const BEGINS_AGAIN: &str = "the job computes something else now: its workers end and begin again, with the state of the steps that stay";
const IF_IT_HAS_RUN: &str = "if the job has run (its condition `UpgradeBlocked` says so): ";
/// Where the cluster asks.
const PATH: &str = "/validate";
/// A job before and after a change, each as large as a cluster takes objects.
const LARGEST: usize = 8 << 20;

/// How the cluster finds the webhook.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The ValidatingWebhookConfiguration in which the certificate is made known.
    pub configuration: String,
    /// The name by which the cluster dials, `<service>.<namespace>.svc`.
    pub host: String,
    pub listen: SocketAddr,
}

/// Serves until it is dropped, or fails. `trusted` hears when the cluster knows the certificate.
pub async fn serve(
    client: Client,
    webhook: Webhook,
    trusted: watch::Sender<bool>,
) -> anyhow::Result<()> {
    let first = Certificate::new(&webhook.host)?;
    let tls = RustlsConfig::from_der(vec![first.der.clone()], first.key.clone())
        .await
        .context("cannot serve TLS")?;
    let routes = Router::new()
        .route(PATH, post(review))
        .layer(DefaultBodyLimit::max(LARGEST));
    let served =
        axum_server::bind_rustls(webhook.listen, tls.clone()).serve(routes.into_make_service());
    tokio::select! {
        ended = served => ended.context("the webhook has ended"),
        ended = trust::keep(client, &webhook, first, &tls, &trusted) => ended,
    }
}

async fn review(
    Json(review): Json<AdmissionReview<DynamicObject>>,
) -> Json<AdmissionReview<DynamicObject>> {
    let answered = match review.try_into() {
        // Planning takes a while.
        Ok(request) => tokio::task::spawn_blocking(move || answer(&request)).await,
        Err(error) => Ok(AdmissionResponse::invalid(error)),
    };
    let answer = answered.unwrap_or_else(AdmissionResponse::invalid);
    Json(answer.into_review())
}

/// Only what changes a job is looked at: one that is wrong already can still be labelled, and deleted.
fn answer(request: &AdmissionRequest<DynamicObject>) -> AdmissionResponse {
    let mut answer = AdmissionResponse::from(request);
    let Some(object) = &request.object else {
        return answer;
    };
    let before = request.old_object.as_ref().map(|old| &old.data["spec"]);
    if before == Some(&object.data["spec"]) || object.metadata.deletion_timestamp.is_some() {
        return answer;
    }
    match validate(&named(object)) {
        Ok(valid) => {
            let mut warnings: Vec<String> =
                valid.warnings.iter().map(ToString::to_string).collect();
            let old = request.old_object.as_ref().map(validate);
            if let Some(Ok(old)) = old {
                match judge(&valid.job, Some(&job_text(&old.job))) {
                    Judged::Free(_) => {}
                    Judged::After(_) => warnings.push(BEGINS_AGAIN.to_owned()),
                    Judged::Blocked(_, blocked) => {
                        warnings.push(format!("{IF_IT_HAS_RUN}{}", blocked.why))
                    }
                }
            }
            answer.warnings = Some(warnings).filter(|warnings| !warnings.is_empty());
            answer
        }
        Err(problems) => answer.deny(told(&problems)),
    }
}

/// The cluster makes a name from `generateName` after it has asked us.
fn named(object: &DynamicObject) -> DynamicObject {
    let mut object = object.clone();
    let prefix = object.metadata.generate_name.clone();
    if object.metadata.name.is_none()
        && let Some(prefix) = prefix
    {
        object.metadata.name = Some(format!("{prefix}x"));
    }
    object
}

#[cfg(test)]
mod tests;
