//! Echo server: returns the bytes of a TCP connection, or WebSocket messages.

use std::os::fd::OwnedFd;

use super::Closed;
use crate::load::link::{Buffers, Link};
use crate::load::websocket;

#[derive(Debug, Default)]
pub(super) struct Echo {
    /// The conversion of WebSocket frames; if `None`, bytes are returned unchanged.
    frames: Option<websocket::Echo>,
    /// Number of bytes since the last complete message of a TCP connection.
    counted: u64,
    /// The output, and the number of its bytes already written.
    out: Vec<u8>,
    written: usize,
}

impl Echo {
    /// A connection after the handshake, of which this is the response.
    pub(super) fn websocket(answer: Vec<u8>) -> Self {
        Self { frames: Some(websocket::Echo::default()), out: answer, ..Self::default() }
    }

    /// Reads and writes; returns the number of messages received. `message`: size of a message.
    pub(super) fn ready(
        &mut self,
        link: &mut Link,
        message: u64,
        buffers: &mut Buffers,
        epoll: &OwnedFd,
    ) -> Result<u64, Closed> {
        let mut messages = 0;
        if self.out.is_empty() {
            let bytes = link.read(buffers)?;
            messages = match &mut self.frames {
                Some(frames) => frames.push(bytes, &mut self.out)?,
                None => {
                    let n = if bytes.is_empty() { 0 } else { link.put(bytes)? };
                    self.out.extend_from_slice(bytes.get(n..).unwrap_or_default());
                    self.counted += bytes.len() as u64;
                    let messages = self.counted / message.max(1);
                    self.counted %= message.max(1);
                    messages
                }
            };
        }
        self.write(link)?;
        let writes = !self.out.is_empty();
        link.watch(epoll, !writes, writes).map_err(|_| Closed)?;
        Ok(messages)
    }

    /// Writes the pending output.
    pub(super) fn write(&mut self, link: &mut Link) -> Result<(), Closed> {
        if !self.out.is_empty() {
            self.written += link.put(self.out.get(self.written..).unwrap_or_default())?;
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
            }
        }
        Ok(())
    }
}
