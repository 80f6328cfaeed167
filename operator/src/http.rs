//! HTTP: `/healthz`, `/readyz` and `/metrics`, served by the leader and by those that wait to lead.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use tokio::sync::watch;

use crate::metrics::Metrics;

/// Serves until it is dropped, or fails. `ready`: the cluster may send jobs to the webhook.
pub async fn serve(
    address: SocketAddr,
    metrics: Metrics,
    ready: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move { readiness(*ready.borrow()) }),
        )
        .route("/metrics", get(render))
        .with_state(metrics);
    axum::serve(listener, routes)
        .await
        .context("HTTP has ended")
}

fn readiness(ready: bool) -> (StatusCode, &'static str) {
    match ready {
        true => (StatusCode::OK, "ready\n"),
        false => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the cluster does not trust the webhook yet\n",
        ),
    }
}

async fn render(State(metrics): State<Metrics>) -> Response {
    match metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
