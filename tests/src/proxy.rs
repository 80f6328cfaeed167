//! Proxies that break the network between a worker and its servers.
//!
//! [`TcpProxy`] forwards bytes and can be cut or made a black hole. [`KafkaProxy`] is one that also reads the frames
//! of Kafka's protocol that clients send, and can hold one back: a request that the network delivers late, on a
//! connection of its own, is how a delayed duplicate comes about.

mod kafka;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result};

use crate::process::lock;

pub use kafka::KafkaProxy;

/// Forwards connections to a server until told otherwise.
pub struct TcpProxy {
    address: SocketAddr,
    line: Arc<Line>,
}

/// Copies one direction of a connection, until it ends or fails.
type Pump = fn(&Line, TcpStream, TcpStream) -> io::Result<()>;

/// What the connections of a proxy share.
struct Line {
    upstream: SocketAddr,
    state: AtomicU8,
    open: Mutex<Vec<TcpStream>>,
    frames: kafka::Frames,
}

const WHOLE: u8 = 0;
const CUT: u8 = 1;
const BLACK_HOLE: u8 = 2;

impl TcpProxy {
    /// Listens on `port` (0: a free one) of loopback for the server on loopback's port `upstream`.
    pub fn start(port: u16, upstream: u16) -> Result<TcpProxy> {
        TcpProxy::with_pump(port, upstream, forward)
    }

    fn with_pump(port: u16, upstream: u16, client_to_server: Pump) -> Result<TcpProxy> {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .with_context(|| format!("binding port {port}"))?;
        let address = listener.local_addr()?;
        let line = Arc::new(Line {
            upstream: SocketAddr::from(([127, 0, 0, 1], upstream)),
            state: AtomicU8::new(WHOLE),
            open: Mutex::new(Vec::new()),
            frames: kafka::Frames::default(),
        });
        let accepting = line.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A refused connection is what a cut line looks like: the client is dropped.
                let _ = connect(&accepting, client, client_to_server);
            }
        });
        Ok(TcpProxy { address, line })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections and every new one.
    pub fn cut(&self) {
        self.line.state.store(CUT, Ordering::SeqCst);
        self.line.end_all();
    }

    /// Keeps connections open and swallows what they send, in both directions.
    pub fn black_hole(&self) {
        self.line.state.store(BLACK_HOLE, Ordering::SeqCst);
    }

    /// Forwards again. Connections from before have a gap in what they carried, so they end.
    pub fn heal(&self) {
        self.line.end_all();
        self.line.state.store(WHOLE, Ordering::SeqCst);
    }
}

impl Line {
    fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::SeqCst) == state
    }

    fn end_all(&self) {
        for stream in lock(&self.open).drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn connect(line: &Arc<Line>, client: TcpStream, client_to_server: Pump) -> io::Result<()> {
    if line.is(CUT) {
        return Ok(());
    }
    let server = TcpStream::connect(line.upstream)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    lock(&line.open).extend([client.try_clone()?, server.try_clone()?]);
    pump(
        line,
        client.try_clone()?,
        server.try_clone()?,
        client_to_server,
    );
    pump(line, server, client, forward);
    Ok(())
}

fn pump(line: &Arc<Line>, from: TcpStream, to: TcpStream, copy: Pump) {
    let line = line.clone();
    thread::spawn(move || {
        let ends = [from.try_clone(), to.try_clone()];
        // However it ended, both sides must hear of it.
        let _ = copy(&line, from, to);
        for end in ends.into_iter().flatten() {
            let _ = end.shutdown(Shutdown::Both);
        }
    });
}

fn forward(line: &Line, mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        if !line.is(BLACK_HOLE) {
            to.write_all(&buffer[..count])?;
        }
    }
}
