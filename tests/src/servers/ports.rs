//! Free ports, below the range from which the kernel takes ports for outgoing connections: a server that is
//! restarted finds its port still free.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Mutex;

use crate::process::lock;

const RANGE: std::ops::Range<u16> = 20_000..32_000;

static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nobody listens on and that no other test of this process was given.
pub fn free_port() -> u16 {
    let mut given = lock(&GIVEN);
    loop {
        let port = fastrand::u16(RANGE);
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
}
