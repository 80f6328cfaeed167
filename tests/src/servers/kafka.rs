//! A Kafka cluster (KRaft, every node broker and controller) of one or three nodes.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::certificates::{self, Certificates};
use super::{install, ports};
use crate::process::{Process, lock, wait_until};
use crate::scratch::Scratch;

/// base64 of a UUID, as Kafka wants it.
const CLUSTER_ID: &str = "c3RyZWFtam9iLXRlc3RzIQ";
const LOGGING: &str = include_str!("../../servers/kafka/log4j2.yaml");
const START_LIMIT: Duration = Duration::from_secs(300);

/// The user of the secure listener.
pub const USER: &str = "fraud";
pub const PASSWORD: &str = "let-me-in";

#[derive(Clone, Debug, Default)]
pub struct KafkaOptions {
    pub nodes: Nodes,
    /// A second listener that clients reach through a proxy: advertised on another port than it listens on.
    pub proxied: bool,
    /// A third listener: TLS, and SASL with PLAIN or SCRAM.
    pub secure: bool,
    /// Where the plain and the secure listener are, if not on loopback.
    pub host: Option<String>,
    /// Further lines for `server.properties`.
    pub properties: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nodes {
    #[default]
    One,
    Three,
}

pub struct Kafka {
    // Processes go before their data.
    nodes: Vec<Node>,
    certificates: Option<Certificates>,
    jars: PathBuf,
    scratch: Scratch,
}

struct Node {
    process: Mutex<Option<Process>>,
    id: usize,
    /// Of the plain listener.
    host: String,
    port: u16,
    controller_port: u16,
    /// Listens on, is advertised on.
    proxied: Option<(u16, u16)>,
    secure_port: Option<u16>,
    folder: PathBuf,
}

impl Kafka {
    pub fn start(options: &KafkaOptions) -> Result<Kafka> {
        let jars = install::kafka_jars()?;
        let scratch = Scratch::new("kafka");
        scratch.write("log4j2.yaml", LOGGING);
        let certificates = if options.secure {
            Some(certificates::make(&scratch.path().join("certificates"))?)
        } else {
            None
        };
        let count = if options.nodes == Nodes::Three { 3 } else { 1 };
        let nodes: Vec<Node> = (1..=count)
            .map(|id| Node::new(id, options, scratch.path()))
            .collect();
        let kafka = Kafka {
            nodes,
            certificates,
            jars,
            scratch,
        };
        for node in &kafka.nodes {
            fs::create_dir_all(&node.folder)?;
            fs::write(node.properties_path(), kafka.properties(node, options))?;
            kafka.format(node, options)?;
        }
        for node in &kafka.nodes {
            kafka.launch(node)?;
        }
        kafka.await_all()?;
        Ok(kafka)
    }

    /// One node, shared by all tests of this process that only need a broker.
    pub fn shared() -> &'static Kafka {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| {
            Kafka::start(&KafkaOptions::default()).unwrap_or_else(|error| panic!("{error:#}"))
        })
    }

    /// The plain listeners.
    pub fn bootstrap(&self) -> String {
        let plain = |node: &Node| format!("{}:{}", node.host, node.port);
        self.nodes.iter().map(plain).collect::<Vec<_>>().join(",")
    }

    /// The listeners that only a proxy can serve: those addresses are advertised, nobody listens there.
    pub fn proxied_bootstrap(&self) -> String {
        self.addresses("127.0.0.1", |node| {
            node.proxied.map(|(_, advertised)| advertised)
        })
    }

    /// The TLS and SASL listeners.
    pub fn secure_bootstrap(&self) -> String {
        let host = self.nodes.first().map(|node| node.host.as_str());
        self.addresses(host.unwrap_or_default(), |node| node.secure_port)
    }

    /// Where a node listens for its proxy, and where that proxy must listen.
    pub fn proxied_ports(&self, node: usize) -> Option<(u16, u16)> {
        self.nodes[node].proxied
    }

    /// PEM file of the authority that signed the brokers' certificates.
    pub fn ca(&self) -> Option<&Path> {
        self.certificates
            .as_ref()
            .map(|certificates| certificates.ca.as_path())
    }

    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub fn kill9(&self, node: usize) {
        *lock(&self.nodes[node].process) = None;
    }

    /// Asks the node to leave in good order, and waits.
    pub fn stop(&self, node: usize) -> Result<()> {
        let process = lock(&self.nodes[node].process).take();
        if let Some(process) = process {
            process.terminate();
            process.wait(Duration::from_secs(60))?;
        }
        Ok(())
    }

    /// Starts a node that was killed or stopped, on its ports and data, and waits until it serves.
    pub fn restart(&self, node: usize) -> Result<()> {
        let node = &self.nodes[node];
        self.launch(node)?;
        node.await_started()
    }

    pub fn freeze(&self, node: usize) {
        if let Some(process) = &*lock(&self.nodes[node].process) {
            process.freeze();
        }
    }

    pub fn thaw(&self, node: usize) {
        if let Some(process) = &*lock(&self.nodes[node].process) {
            process.thaw();
        }
    }

    fn addresses(&self, host: &str, port: impl Fn(&Node) -> Option<u16>) -> String {
        let ports: Vec<String> = self
            .nodes
            .iter()
            .filter_map(port)
            .map(|port| format!("{host}:{port}"))
            .collect();
        ports.join(",")
    }

    fn java(&self, heap: &str) -> Command {
        let mut java = Command::new("java");
        java.args([
            &format!("-Xmx{heap}"),
            "-Djava.awt.headless=true",
            "-XX:+UseSerialGC",
        ]);
        java.arg(format!(
            "-Dlog4j2.configurationFile={}",
            self.scratch.path().join("log4j2.yaml").display()
        ));
        java.arg("-cp").arg(self.jars.join("*"));
        java
    }

    fn format(&self, node: &Node, options: &KafkaOptions) -> Result<()> {
        let mut java = self.java("128m");
        java.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(node.properties_path());
        if options.secure {
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                java.arg("--add-scram")
                    .arg(format!("{mechanism}=[name={USER},password={PASSWORD}]"));
            }
        }
        install::run(&mut java)
    }

    fn launch(&self, node: &Node) -> Result<()> {
        let mut process = lock(&node.process);
        if process.is_some() {
            bail!("node {} runs already", node.id);
        }
        // What an earlier life logged must not be taken for this one's start.
        let _ = fs::rename(
            node.folder.join("kafka.out"),
            node.folder.join("kafka.before.out"),
        );
        let mut java = self.java("512m");
        java.arg("kafka.Kafka").arg(node.properties_path());
        *process = Some(Process::start(java, "kafka", &node.folder)?);
        Ok(())
    }

    fn await_all(&self) -> Result<()> {
        self.nodes.iter().try_for_each(Node::await_started)
    }

    fn properties(&self, node: &Node, options: &KafkaOptions) -> String {
        let count = self.nodes.len();
        let voters: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("{}@127.0.0.1:{}", node.id, node.controller_port))
            .collect();
        let listeners = node.listeners();
        let list = |show: fn(&Listener) -> String| -> String {
            listeners.iter().map(show).collect::<Vec<_>>().join(",")
        };
        let listen = list(|l| format!("{}://{}:{}", l.name, l.host, l.port));
        let advertise = list(|l| format!("{}://{}:{}", l.name, l.host, l.advertised));
        let protocols = list(|l| format!("{}:{}", l.name, l.protocol));
        let mut text = format!(
            "process.roles=broker,controller\n\
             node.id={id}\n\
             controller.quorum.voters={voters}\n\
             listeners={listen},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners={advertise}\n\
             listener.security.protocol.map={protocols},CONTROLLER:PLAINTEXT\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\n\
             log.dirs={data}\n\
             default.replication.factor={count}\n\
             offsets.topic.replication.factor={count}\n\
             transaction.state.log.replication.factor={count}\n\
             share.coordinator.state.topic.replication.factor={count}\n\
             min.insync.replicas={quorum}\n\
             transaction.state.log.min.isr={quorum}\n\
             share.coordinator.state.topic.min.isr={quorum}\n",
            id = node.id,
            voters = voters.join(","),
            controller = node.controller_port,
            data = node.folder.join("data").display(),
            quorum = if count == 1 { 1 } else { 2 },
        );
        text.push_str(COMMON_PROPERTIES);
        if count > 1 {
            text.push_str(CLUSTER_PROPERTIES);
        }
        if let Some(certificates) = &self.certificates {
            let _ = write!(
                text,
                "listener.name.secure.ssl.keystore.type=PEM\n\
                 listener.name.secure.ssl.keystore.location={broker}\n\
                 sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
                 listener.name.secure.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";\n\
                 listener.name.secure.scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;\n\
                 listener.name.secure.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;\n",
                broker = certificates.broker.display(),
                login = "org.apache.kafka.common.security",
            );
        }
        for line in &options.properties {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// Small internal topics and few threads: a test machine is small. No retention: tests choose their records' times, and what is
/// of last year would go at the next check. Those that speak of retention delete records themselves.
const COMMON_PROPERTIES: &str = "\
    num.partitions=1\n\
    offsets.topic.num.partitions=4\n\
    transaction.state.log.num.partitions=8\n\
    share.coordinator.state.topic.num.partitions=1\n\
    group.initial.rebalance.delay.ms=0\n\
    auto.create.topics.enable=false\n\
    log.retention.ms=-1\n\
    message.max.bytes=16777216\n\
    log.cleaner.dedupe.buffer.size=33554432\n\
    num.network.threads=2\n\
    num.io.threads=4\n";

/// Failures are noticed soon, and none costs a record.
const CLUSTER_PROPERTIES: &str = "\
    unclean.leader.election.enable=false\n\
    num.replica.fetchers=1\n\
    broker.session.timeout.ms=6000\n\
    broker.heartbeat.interval.ms=1000\n\
    replica.lag.time.max.ms=6000\n";

/// Where clients come in.
struct Listener {
    name: &'static str,
    host: String,
    port: u16,
    advertised: u16,
    protocol: &'static str,
}

impl Node {
    fn listeners(&self) -> Vec<Listener> {
        let plain = |name, port, advertised| Listener {
            name,
            host: "127.0.0.1".to_owned(),
            port,
            advertised,
            protocol: "PLAINTEXT",
        };
        let mut listeners = vec![Listener {
            host: self.host.clone(),
            ..plain("PLAINTEXT", self.port, self.port)
        }];
        listeners.extend(
            self.proxied
                .map(|(port, advertised)| plain("PROXIED", port, advertised)),
        );
        listeners.extend(self.secure_port.map(|port| Listener {
            protocol: "SASL_SSL",
            host: self.host.clone(),
            ..plain("SECURE", port, port)
        }));
        listeners
    }

    fn new(id: usize, options: &KafkaOptions, scratch: &Path) -> Node {
        Node {
            process: Mutex::new(None),
            id,
            host: options
                .host
                .clone()
                .unwrap_or_else(|| "127.0.0.1".to_owned()),
            port: ports::free_port(),
            controller_port: ports::free_port(),
            proxied: options
                .proxied
                .then(|| (ports::free_port(), ports::free_port())),
            secure_port: options.secure.then(ports::free_port),
            folder: scratch.join(format!("node{id}")),
        }
    }

    fn properties_path(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn await_started(&self) -> Result<()> {
        let process = lock(&self.process);
        let process = process.as_ref().context("the node was not launched")?;
        let started = wait_until(START_LIMIT, || {
            let log = process.stdout();
            let up = log.contains("Kafka Server started")
                && TcpStream::connect((self.host.as_str(), self.port)).is_ok();
            (up || process.ended().is_some()).then_some(up)
        });
        match started {
            Some(true) => Ok(()),
            _ => bail!(
                "Kafka node {} does not start; {} ends:\n{}",
                self.id,
                self.folder.display(),
                last_lines(process)
            ),
        }
    }
}

fn last_lines(process: &Process) -> String {
    let text = process.stdout() + &process.stderr();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
