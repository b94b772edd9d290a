//! Parses chunked bodies; only the number of bytes is kept.

/// The position of the next byte in the coding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// In the digits of a chunk size.
    #[default]
    Size,
    /// After the digits, in extensions or before the line feed.
    Line,
    Data,
    /// After the data of a chunk, before its line feed.
    DataEnd,
    /// At the start of a line after the last chunk.
    Trailer,
    /// Further inside such a line.
    TrailerLine,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chunked {
    at: At,
    /// Remaining bytes of the chunk.
    left: u64,
}

impl Chunked {
    /// Parses bytes; returns how many of them belong to the body, and whether the body is complete.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(u64, bool), &'static str> {
        let mut body = 0;
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.at == At::Data {
                let n = self.left.min(bytes.len() as u64);
                body += n;
                self.left -= n;
                bytes = bytes.get(n as usize..).unwrap_or_default();
                if self.left == 0 {
                    self.at = At::DataEnd;
                }
                continue;
            }
            bytes = rest;
            if self.at == At::Trailer && byte == b'\n' {
                return if bytes.is_empty() { Ok((body, true)) } else { Err("bytes follow the last chunk") };
            }
            self.step(byte)?;
        }
        Ok((body, false))
    }

    fn step(&mut self, byte: u8) -> Result<(), &'static str> {
        self.at = match (self.at, byte) {
            (At::Size | At::Line, b'\n') if self.left == 0 => At::Trailer,
            (At::Size | At::Line, b'\n') => At::Data,
            (At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self.left.checked_mul(16).ok_or("a chunk is too long")? + u64::from(digit);
                At::Size
            }
            (At::Size, b'\r' | b';' | b' ') | (At::Line, _) => At::Line,
            (At::Size, _) => return Err("a chunk has no size"),
            (At::DataEnd, b'\n') => At::Size,
            (At::DataEnd, b'\r') => At::DataEnd,
            (At::DataEnd, _) => return Err("a chunk does not end"),
            (At::TrailerLine, b'\n') | (At::Trailer, b'\r') => At::Trailer,
            (At::Trailer | At::TrailerLine | At::Data, _) => At::TrailerLine,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_counted() {
        let text = b"3\r\nabc\r\n0A;name=value\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
        for size in 1..=text.len() {
            let mut chunked = Chunked::default();
            let mut sum = 0;
            for (at, piece) in text.chunks(size).enumerate() {
                let (more, complete) = chunked.push(piece).unwrap();
                sum += more;
                assert_eq!(complete, (at + 1) * size >= text.len(), "in pieces of {size}");
            }
            assert_eq!(sum, 13, "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_chunk_is_an_error() {
        assert!(Chunked::default().push(b"x\r\n").is_err());
        assert!(Chunked::default().push(b"1\r\nab").is_err());
        assert!(Chunked::default().push(b"11111111111111111111\r\n").is_err());
        assert!(Chunked::default().push(b"0\r\n\r\nmore").is_err());
    }
}
