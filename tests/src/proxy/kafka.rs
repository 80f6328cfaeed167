//! A proxy for one Kafka broker, which must advertise the proxy's port (see `KafkaOptions::proxied`).
//!
//! A request is `length: i32, api key: i16, api version: i16, correlation id: i32, …`; a response begins with its
//! length and the correlation id. `EndTxn` has API key 26; its response goes on with the throttle time (i32) and the
//! error code (i16), from version 3 on behind a byte of tagged fields.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{BLACK_HOLE, Line, TcpProxy};
use crate::process::{lock, wait_until};
use crate::servers::Kafka;

const END_TXN: i16 = 26;

pub struct KafkaProxy(TcpProxy);

/// What is held back.
#[derive(Default)]
pub struct Frames {
    armed: AtomicBool,
    held: Mutex<Option<Vec<u8>>>,
}

impl KafkaProxy {
    /// Stands before a node of `kafka`, which was started with `proxied: true`.
    pub fn start(kafka: &Kafka, node: usize) -> Result<KafkaProxy> {
        let (listens, advertised) = kafka
            .proxied_ports(node)
            .context("the broker advertises no proxy")?;
        Ok(KafkaProxy(TcpProxy::with_pump(
            advertised,
            listens,
            forward_frames,
        )?))
    }

    /// The next `EndTxn` does not reach the broker: it is held, and the client's connection is cut, as when a packet
    /// is stuck on the way.
    pub fn withhold_end_txn(&self) {
        self.frames().armed.store(true, Ordering::SeqCst);
    }

    /// Whether one was caught within the time.
    pub fn wait_withheld(&self, limit: Duration) -> bool {
        wait_until(limit, || lock(&self.frames().held).is_some().then_some(())).is_some()
    }

    /// Delivers the held request on a connection of its own. Gives the broker's error code.
    pub fn deliver(&self) -> Result<i16> {
        let frame = lock(&self.frames().held)
            .take()
            .context("nothing is held back")?;
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let mut broker = TcpStream::connect(self.0.line.upstream)?;
        write_frame(&mut broker, &frame)?;
        let response = read_frame(&mut broker)?;
        let at = if version >= 3 { 9 } else { 8 };
        let code = response.get(at..at + 2).context("a short response")?;
        Ok(i16::from_be_bytes([code[0], code[1]]))
    }

    fn frames(&self) -> &Frames {
        &self.0.line.frames
    }
}

/// It can be cut and healed like any.
impl Deref for KafkaProxy {
    type Target = TcpProxy;

    fn deref(&self) -> &TcpProxy {
        &self.0
    }
}

fn forward_frames(line: &Line, mut client: TcpStream, mut broker: TcpStream) -> io::Result<()> {
    loop {
        let frame = read_frame(&mut client)?;
        let api_key = frame
            .get(..2)
            .map(|key| i16::from_be_bytes([key[0], key[1]]));
        if api_key == Some(END_TXN) && line.frames.armed.swap(false, Ordering::SeqCst) {
            *lock(&line.frames.held) = Some(frame);
            return Ok(());
        }
        if !line.is(BLACK_HOLE) {
            write_frame(&mut broker, &frame)?;
        }
    }
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).map_err(io::Error::other)?;
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    let length = i32::try_from(frame.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), frame].concat())
}
