//! Makes the webhook's certificate known to the cluster, whoever else changes the list, and makes a new one in time.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail};
use axum_server::tls_rustls::RustlsConfig;
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

use super::Webhook;
use super::certificate::{Certificate, RENEWAL, trusting};
use crate::names;

/// Before the next try when the cluster does not take the certificate.
const RETRY: Duration = Duration::from_secs(5);

/// Until it is dropped, or no certificate can be made.
pub async fn keep(
    client: Client,
    webhook: &Webhook,
    first: Certificate,
    tls: &RustlsConfig,
    trusted: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    let api = Api::all(client);
    let mut own = first;
    loop {
        let renewal = tokio::time::sleep(RENEWAL);
        tokio::select! {
            () = renewal => own = Certificate::new(&webhook.host)?,
            () = until_the_end(&api, webhook, &own, tls, trusted) => {}
        }
    }
}

async fn until_the_end(
    api: &Api<ValidatingWebhookConfiguration>,
    webhook: &Webhook,
    own: &Certificate,
    tls: &RustlsConfig,
    trusted: &watch::Sender<bool>,
) {
    loop {
        if let Err(error) = follow(api, webhook, own, tls, trusted).await {
            let name = &webhook.configuration;
            tracing::warn!(
                error = format!("{error:#}"),
                "the ValidatingWebhookConfiguration `{name}` does not have our certificate; wrong jobs are not refused, but told in `Valid`"
            );
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Adds the certificate wherever it is missing. Only what is trusted is served.
async fn follow(
    api: &Api<ValidatingWebhookConfiguration>,
    webhook: &Webhook,
    own: &Certificate,
    tls: &RustlsConfig,
    trusted: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    let name = &webhook.configuration;
    let mut seen = pin!(watcher::watch_object(api.clone(), name).default_backoff());
    while let Some(seen) = seen.next().await {
        match seen? {
            // Somebody does without the webhook: that must not keep us from being ready.
            None => _ = trusted.send_replace(true),
            Some(config) => match with(config, &own.pem) {
                None => {
                    tls.reload_from_der(vec![own.der.clone()], own.key.clone())
                        .await?;
                    trusted.send_replace(true);
                }
                Some(changed) => write(api, name, &changed).await?,
            },
        }
    }
    bail!("its watch has ended")
}

/// The configuration with the certificate; `None`: it has it.
fn with(
    mut config: ValidatingWebhookConfiguration,
    certificate: &str,
) -> Option<ValidatingWebhookConfiguration> {
    let mut changed = false;
    for webhook in config.webhooks.iter_mut().flatten() {
        let trusted = webhook.client_config.ca_bundle.take().unwrap_or_default();
        let more = trusting(&String::from_utf8_lossy(&trusted.0), certificate);
        changed |= more.is_some();
        webhook.client_config.ca_bundle =
            Some(more.map_or(trusted, |more| ByteString(more.into_bytes())));
    }
    changed.then_some(config)
}

/// Only over what was read. Where somebody was faster, the watch shows it, and it is added to that.
async fn write(
    api: &Api<ValidatingWebhookConfiguration>,
    name: &str,
    config: &ValidatingWebhookConfiguration,
) -> anyhow::Result<()> {
    let params = PostParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api.replace(name, &params, config).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error).context("it cannot be written"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_webhook_of_the_configuration_trusts_us() {
        let config: ValidatingWebhookConfiguration = serde_json::from_value(json!({
            "metadata": {"name": "w"},
            "webhooks": [{
                "name": "a.b.c", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"service": {"name": "s", "namespace": "n"}},
            }],
        }))
        .unwrap();
        let own = Certificate::new("operator.streams.svc").unwrap();
        let changed = with(config, &own.pem).unwrap();
        assert_eq!(with(changed.clone(), &own.pem), None);
        let other = Certificate::new("operator.streams.svc").unwrap();
        let both = with(changed, &other.pem).unwrap();
        assert_eq!(with(both.clone(), &own.pem), None);
        assert_eq!(with(both, &other.pem), None);
    }
}
