//! HTTP: `/metrics`, `/status`, `/healthz`, `/readyz`, on a thread of its own so that a busy driver does not delay an answer.
//!
//! `/healthz` says that the process lives. `/readyz` says that all its slots are past their replay; neither looks at Kafka or a
//! sink, so that an outage that all workers share makes nobody move slots.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use streamjob_core::chunk::Millis;
use tokio::sync::oneshot;

use crate::metrics::Metrics;
use crate::status::Board;

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct ListenError {
    address: SocketAddr,
    error: std::io::Error,
}

/// Serves until dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shown {
    board: Arc<Board>,
    metrics: Metrics,
}

impl Server {
    /// Listens on `address`; with port 0 on a free one, see [`Server::address`].
    pub fn start(
        address: SocketAddr,
        board: Arc<Board>,
        metrics: Metrics,
    ) -> Result<Self, ListenError> {
        let failed = |error| ListenError { address, error };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let routes = routes(Shown { board, metrics });
        let thread = std::thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || {
                let served = runtime.block_on(async {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    tokio::select! {
                        served = axum::serve(listener, routes) => served,
                        _ = stopped => Ok(()),
                    }
                });
                if let Err(error) = served {
                    tracing::error!(%error, "HTTP has ended; the job goes on");
                }
            })
            .map_err(failed)?;
        Ok(Server {
            address: bound,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Neither can fail while the thread runs, and if it does not there is nothing to stop.
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn routes(shown: Shown) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(shown)
}

async fn ready(State(shown): State<Shown>) -> Response {
    match shown.board.status(now()).ready {
        true => "ok\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
    }
}

async fn status(State(shown): State<Shown>) -> Response {
    Json(shown.board.status(now())).into_response()
}

async fn metrics(State(shown): State<Shown>) -> Response {
    match shown.metrics.render(&shown.board.status(now())) {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The wall clock, epoch ms.
pub(crate) fn now() -> Millis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::status::{JobIdentity, Phase, SlotStatus};

    fn fetch(address: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    #[test]
    fn tells_how_the_job_is_until_dropped() {
        let job = JobIdentity {
            name: "clicks".to_owned(),
            ..JobIdentity::default()
        };
        let metrics = Metrics::new(&job).unwrap();
        let board = Arc::new(Board::new(job));
        let loopback = "127.0.0.1:0".parse().unwrap();
        let server = Server::start(loopback, board.clone(), metrics).unwrap();
        let address = server.address();
        assert_eq!(fetch(address, "/healthz"), (200, "ok\n".to_owned()));
        assert_eq!(fetch(address, "/readyz").0, 503);
        board.expect(1);
        board.update(SlotStatus {
            epoch: 7,
            phase: Phase::Running,
            ..SlotStatus::default()
        });
        assert_eq!(fetch(address, "/readyz").0, 200);
        let (code, body) = fetch(address, "/status");
        let status: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code, &status["slots"][0]["epoch"]), (200, &7.into()));
        assert_eq!(status["job"]["name"], "clicks");
        let (code, body) = fetch(address, "/metrics");
        assert!(
            code == 200 && body.contains("streamjob_slot_epoch"),
            "{body}"
        );
        assert!(
            Server::start(
                address,
                board,
                Metrics::new(&JobIdentity::default()).unwrap()
            )
            .is_err()
        );
        drop(server);
        assert!(TcpStream::connect(address).is_err());
    }
}
