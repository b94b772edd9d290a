//! WebSocket ([RFC 6455](https://www.rfc-editor.org/rfc/rfc6455)) as far as needed: the handshake and frames.

/// The key sent by clients, and the server's response to it. They are the example of section 1.3.
pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(super) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The mask of all messages of the clients.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// The first byte of a frame with a complete binary message.
const BINARY: u8 = 0x82;

/// A message of a client.
pub(super) fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![BINARY];
    length(payload.len(), 0x80, &mut frame);
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The same message from the server.
pub(super) fn unmasked(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![BINARY];
    length(payload.len(), 0, &mut frame);
    frame.extend_from_slice(payload);
    frame
}

fn length(length: usize, flag: u8, frame: &mut Vec<u8>) {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..126), _) => frame.push(flag | short),
        (_, Ok(long)) => {
            frame.push(flag | 126);
            frame.extend_from_slice(&long.to_be_bytes());
        }
        _ => {
            frame.push(flag | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Converts a client's frames into the server's, as their bytes arrive: messages are echoed, pings are answered.
#[derive(Debug, Default)]
pub(super) struct Echo {
    /// An incomplete frame header.
    head: Vec<u8>,
    mask: [u8; 4],
    /// Remaining bytes of the payload.
    left: u64,
    /// The frame is echoed.
    back: bool,
    /// The frame is the last one of a message.
    last: bool,
}

impl Echo {
    /// Parses bytes and appends to `out`; returns the number of completed messages.
    pub(super) fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<u64, &'static str> {
        let mut messages = 0;
        while !bytes.is_empty() {
            if self.left == 0 {
                bytes = self.push_head(bytes, out)?;
            }
            let n = self.left.min(bytes.len() as u64) as usize;
            let (payload, rest) = bytes.split_at(n);
            bytes = rest;
            self.left -= n as u64;
            if self.back {
                unmask(payload, self.mask, out);
            }
            self.mask.rotate_left(n % 4);
            // While a header is incomplete, `left` is 0 although the frame has not ended.
            if self.left == 0 && self.head.is_empty() && std::mem::take(&mut self.last) {
                messages += 1;
            }
        }
        Ok(messages)
    }

    /// Parses bytes of a frame header; returns the rest.
    fn push_head<'b>(&mut self, bytes: &'b [u8], out: &mut Vec<u8>) -> Result<&'b [u8], &'static str> {
        let mut taken = 0;
        while self.head.len() < self.need() {
            let Some(byte) = bytes.get(taken) else { return Ok(&[]) };
            self.head.push(*byte);
            taken += 1;
        }
        let (&[first, second], rest) = self.head.split_first_chunk().ok_or("a frame has no head")?;
        let (extended, mask) = rest.split_last_chunk().ok_or("a frame has no mask")?;
        self.mask = *mask;
        let extended = extended.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        self.left = if second & 0x7f < 126 { u64::from(second & 0x7f) } else { extended };
        let opcode = first & 0x0f;
        let back = match opcode {
            0..=2 => first,
            9 => first & 0xf0 | 10,
            10 => first,
            _ => return Err("the client closed"),
        };
        if second & 0x80 == 0 {
            return Err("a frame is not masked");
        }
        self.back = opcode != 10;
        self.last = first & 0x80 != 0 && opcode <= 2;
        if self.back {
            out.push(back);
            length(self.left as usize, 0, out);
        }
        self.head.clear();
        Ok(bytes.get(taken..).unwrap_or_default())
    }

    /// Length of the frame header, as far as known.
    fn need(&self) -> usize {
        match self.head.get(1).map(|byte| byte & 0x7f) {
            None => 2,
            Some(126) => 8,
            Some(127) => 14,
            Some(_) => 6,
        }
    }
}

fn unmask(payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    let wide = u64::from_ne_bytes([mask, mask].concat().try_into().unwrap_or_default());
    let mut words = payload.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_ne_bytes(word.try_into().unwrap_or_default()) ^ wide;
        out.extend_from_slice(&word.to_ne_bytes());
    }
    out.extend(words.remainder().iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_without_their_mask() {
        let payloads = [0usize, 1, 7, 125, 126, 1024, 70_000]
            .map(|size| (0..size).map(|at| (at % 253) as u8).collect::<Vec<u8>>());
        let there: Vec<u8> = payloads.iter().flat_map(|payload| masked(payload)).collect();
        let back: Vec<u8> = payloads.iter().flat_map(|payload| unmasked(payload)).collect();
        for size in (1..20).chain([1000, 1033, there.len()]) {
            let (mut echo, mut out, mut messages) = (Echo::default(), Vec::new(), 0);
            for piece in there.chunks(size) {
                messages += echo.push(piece, &mut out).unwrap();
            }
            assert!(out == back, "in pieces of {size}");
            assert_eq!(messages, payloads.len() as u64, "in pieces of {size}");
        }
    }

    #[test]
    fn control_frames_are_answered() {
        let mut out = Vec::new();
        assert_eq!(Echo::default().push(&[0x89, 0x81, 0, 0, 0, 0, b'p'], &mut out), Ok(0));
        assert_eq!(out, [0x8a, 1, b'p']);
        assert_eq!(Echo::default().push(&[0x8a, 0x80, 0, 0, 0, 0], &mut out), Ok(0));
        assert_eq!(out.len(), 3);
        assert!(Echo::default().push(&[0x88, 0x80, 0, 0, 0, 0], &mut out).is_err());
        assert!(Echo::default().push(&[0x82, 0x01, 0, 0, 0, 0], &mut out).is_err());
    }
}
