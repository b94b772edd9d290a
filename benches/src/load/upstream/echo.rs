//! Sends back what it gets: bytes of a TCP connection, or messages of a WebSocket.

use std::os::fd::OwnedFd;

use super::Closed;
use crate::load::link::{Buffers, Link};
use crate::load::websocket;

#[derive(Debug, Default)]
pub(super) struct Echo {
    /// What a WebSocket's frames are turned into; without it bytes go back as they are.
    frames: Option<websocket::Echo>,
    /// Bytes since the last whole message of a TCP connection.
    counted: u64,
    /// What is to be written, and how much of it was.
    out: Vec<u8>,
    written: usize,
}

impl Echo {
    /// After the handshake, of which this is the answer.
    pub(super) fn websocket(answer: Vec<u8>) -> Self {
        Self { frames: Some(websocket::Echo::default()), out: answer, ..Self::default() }
    }

    /// Reads and writes; the number of messages that came. `message`: bytes of one.
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

    /// Writes what waits.
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
