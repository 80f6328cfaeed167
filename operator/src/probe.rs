//! Asks workers how they are: `GET /status`, once a second at most, and remembers what they said.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures::future::join_all;
use streamjob_crds::WorkerStatus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::names;
use crate::workers::{MOST_FAILURES, Seen};

/// Between two questions to a worker.
pub const EVERY: Duration = Duration::from_secs(1);
/// An answer that takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(1);
/// More than any status has.
const LONGEST: u64 = 16 << 20;

/// What the workers of one job said last, by pod.
#[derive(Debug, Default)]
pub struct Probes {
    answers: BTreeMap<String, Answer>,
}

#[derive(Debug)]
struct Answer {
    /// Of the pod: another one of the same name has not said anything yet.
    ip: String,
    asked: Instant,
    failures: u32,
    status: Option<WorkerStatus>,
}

impl Probes {
    /// Asks those pods that are due, all at the same time, and fills in what they say.
    pub async fn ask(&mut self, workers: &mut [Seen]) {
        self.answers
            .retain(|pod, _| workers.iter().any(|worker| worker.pod == *pod));
        let due: Vec<(String, String)> = workers
            .iter()
            .filter_map(|worker| Some((worker.pod.clone(), worker.ip.clone()?)))
            .filter(|(pod, ip)| self.is_due(pod, ip))
            .collect();
        let asked = Instant::now();
        let questions = due.iter().map(|(_, ip)| ask(ip));
        let told = join_all(questions).await;
        for ((pod, ip), told) in due.into_iter().zip(told) {
            self.take(pod, ip, asked, told);
        }
        for worker in workers {
            worker.status = worker.ip.as_ref().and_then(|ip| {
                let answer = self.answers.get(&worker.pod)?;
                answer.status.clone().filter(|_| answer.ip == *ip)
            });
        }
    }

    fn is_due(&self, pod: &str, ip: &str) -> bool {
        self.answers.get(pod).is_none_or(|answer| {
            // A little early is in time.
            answer.ip != ip || answer.asked.elapsed() + EVERY / 10 >= EVERY
        })
    }

    fn take(
        &mut self,
        pod: String,
        ip: String,
        asked: Instant,
        told: Result<WorkerStatus, ProbeError>,
    ) {
        let before = self.answers.remove(&pod).filter(|answer| answer.ip == ip);
        let (failures, status) = match told {
            Ok(status) => (0, Some(status)),
            Err(error) => {
                tracing::debug!(pod, %error, "a worker does not answer");
                let (failures, last) =
                    before.map_or((0, None), |answer| (answer.failures, answer.status));
                let failures = failures + 1;
                (failures, last.filter(|_| failures < MOST_FAILURES))
            }
        };
        self.answers.insert(
            pod,
            Answer {
                ip,
                asked,
                failures,
                status,
            },
        );
    }
}

#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("`{0}` is no address")]
    Address(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("no answer in time")]
    Late,
    #[error("it answers {0}")]
    Refused(String),
    #[error("it does not say how it is: {0}")]
    Unreadable(#[from] serde_json::Error),
}

async fn ask(ip: &str) -> Result<WorkerStatus, ProbeError> {
    let ip: IpAddr = ip.parse().map_err(|_| ProbeError::Address(ip.to_owned()))?;
    let address = SocketAddr::new(ip, names::PORT);
    let body = tokio::time::timeout(PATIENCE, get(address, "/status"))
        .await
        .map_err(|_| ProbeError::Late)??;
    Ok(serde_json::from_slice(&body)?)
}

/// HTTP/1.0: the answer ends with the connection.
async fn get(address: SocketAddr, path: &str) -> Result<Vec<u8>, ProbeError> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    let refused = |head: &[u8]| ProbeError::Refused(String::from_utf8_lossy(head).into_owned());
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let Some(end) = end else {
        return Err(refused(&answer));
    };
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or(&[]);
    match line.split(|byte| *byte == b' ').nth(1) {
        Some(b"200") => Ok(answer.split_off(end + 4)),
        _ => Err(refused(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ip: &str) -> Seen {
        Seen {
            pod: "job-0".into(),
            ip: Some(ip.into()),
            ending: false,
            status: None,
            trouble: None,
        }
    }

    #[test]
    fn three_failures_in_a_row_make_a_worker_silent() {
        let mut probes = Probes::default();
        let failed = || Err(ProbeError::Late);
        let mut take = |ip: &str, told| {
            probes.take("job-0".into(), ip.into(), Instant::now(), told);
            probes.answers["job-0"].status.is_some()
        };
        assert!(take("10.0.0.1", Ok(WorkerStatus::default())));
        assert!(take("10.0.0.1", failed()));
        assert!(take("10.0.0.1", failed()));
        assert!(!take("10.0.0.1", failed()));
        assert!(take("10.0.0.1", Ok(WorkerStatus::default())));
        assert!(!take("10.0.0.2", failed()), "another pod of the same name");
    }

    #[tokio::test]
    async fn reads_what_an_http_server_answers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = axum::Router::new().route("/status", axum::routing::get(|| async { "{}" }));
        tokio::spawn(async { axum::serve(listener, routes).await });
        assert_eq!(get(address, "/status").await.unwrap(), b"{}");
        let refused = get(address, "/nothing").await.unwrap_err();
        assert!(refused.to_string().contains("404"), "{refused}");
    }

    #[tokio::test]
    async fn a_pod_without_a_worker_says_nothing() {
        let mut workers = [seen("127.0.0.1")];
        Probes::default().ask(&mut workers).await;
        assert_eq!(workers[0].status, None);
    }
}
