//! The PROXY protocol, versions 1 and 2 (haproxy.org, `proxy-protocol.txt`), receiver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Maximum length of a version 1 header, CRLF included.
const V1_MAX: usize = 107;

/// Maximum length of a version 2 header, extensions included.
const V2_MAX: usize = 16 + 4096;

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The content of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Source and destination of the original connection.
    Proxied {
        /// The source address.
        source: SocketAddr,
        /// The destination address.
        destination: SocketAddr,
    },
    /// The proxy itself connected, or the addresses are unspecified: the connection's own addresses apply.
    Local,
}

/// The result of parsing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    /// The header is complete and has this length.
    Complete(usize, Header),
}

/// Why a header is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The signature is missing.
    #[error("not a PROXY protocol header")]
    Signature,
    /// The header is malformed after its signature.
    #[error("malformed PROXY protocol header")]
    Malformed,
    /// The header is longer than allowed.
    #[error("PROXY protocol header too long")]
    TooLong,
}

/// Reads the header at the start of `buf`.
pub fn parse(buf: &[u8]) -> Result<Parsed, ProxyError> {
    let common = buf.len().min(V2_SIGNATURE.len());
    if buf.get(..common) == V2_SIGNATURE.get(..common) {
        return if common < V2_SIGNATURE.len() { Ok(Parsed::Partial) } else { parse_v2(buf) };
    }
    let common = buf.len().min(6);
    if buf.get(..common) != b"PROXY ".get(..common) {
        return Err(ProxyError::Signature);
    }
    match memchr(buf) {
        Some(end) if end < V1_MAX => {
            let line = buf.get(..end).and_then(|l| l.strip_suffix(b"\r")).ok_or(ProxyError::Malformed)?;
            Ok(Parsed::Complete(end + 1, parse_v1(line)?))
        }
        None if buf.len() < V1_MAX => Ok(Parsed::Partial),
        _ => Err(ProxyError::TooLong),
    }
}

fn memchr(buf: &[u8]) -> Option<usize> {
    buf.iter().take(V1_MAX).position(|b| *b == b'\n')
}

/// `PROXY TCP4 1.2.3.4 5.6.7.8 1000 80`, without CRLF.
fn parse_v1(line: &[u8]) -> Result<Header, ProxyError> {
    let text = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let mut parts = text.split(' ').skip(1);
    let family = parts.next().ok_or(ProxyError::Malformed)?;
    if family == "UNKNOWN" {
        return Ok(Header::Local);
    }
    let [source, destination, source_port, destination_port] = [(); 4].map(|()| parts.next().unwrap_or(""));
    if parts.next().is_some() {
        return Err(ProxyError::Malformed);
    }
    let address = |ip: &str, port: &str| -> Option<SocketAddr> {
        let ip: IpAddr = match family {
            "TCP4" => ip.parse::<Ipv4Addr>().ok()?.into(),
            "TCP6" => ip.parse::<Ipv6Addr>().ok()?.into(),
            _ => return None,
        };
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        Some(SocketAddr::new(ip, digits.then(|| port.parse().ok())??))
    };
    match (address(source, source_port), address(destination, destination_port)) {
        (Some(source), Some(destination)) => Ok(Header::Proxied { source, destination }),
        _ => Err(ProxyError::Malformed),
    }
}

fn parse_v2(buf: &[u8]) -> Result<Parsed, ProxyError> {
    let Some([version_command, family, high, low]) = buf.get(12..16).and_then(|b| <[u8; 4]>::try_from(b).ok()) else {
        return Ok(Parsed::Partial);
    };
    let end = 16 + usize::from(u16::from_be_bytes([high, low]));
    if end > V2_MAX {
        return Err(ProxyError::TooLong);
    }
    if version_command >> 4 != 2 || version_command & 15 > 1 {
        return Err(ProxyError::Malformed);
    }
    let Some(payload) = buf.get(16..end) else { return Ok(Parsed::Partial) };
    if version_command & 15 == 0 {
        return Ok(Parsed::Complete(end, Header::Local));
    }
    let header = match family {
        0x11 | 0x12 => {
            let b: [u8; 12] = first(payload)?;
            let ip = |at: usize| Ipv4Addr::from(slice::<4>(&b, at)).into();
            addresses(ip(0), ip(4), slice(&b, 8), slice(&b, 10))
        }
        0x21 | 0x22 => {
            let b: [u8; 36] = first(payload)?;
            let ip = |at: usize| Ipv6Addr::from(slice::<16>(&b, at)).into();
            addresses(ip(0), ip(16), slice(&b, 32), slice(&b, 34))
        }
        // Unix sockets and unspecified: no IP address is available.
        0x00 | 0x31 | 0x32 => Header::Local,
        _ => return Err(ProxyError::Malformed),
    };
    Ok(Parsed::Complete(end, header))
}

fn first<const N: usize>(payload: &[u8]) -> Result<[u8; N], ProxyError> {
    payload.first_chunk::<N>().copied().ok_or(ProxyError::Malformed)
}

fn slice<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}

fn addresses(source: IpAddr, destination: IpAddr, source_port: [u8; 2], destination_port: [u8; 2]) -> Header {
    Header::Proxied {
        source: SocketAddr::new(source, u16::from_be_bytes(source_port)),
        destination: SocketAddr::new(destination, u16::from_be_bytes(destination_port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expect: Result<Parsed, ProxyError>) {
        assert_eq!(parse(bytes), expect, "{:?}", String::from_utf8_lossy(bytes));
    }

    fn proxied(source: &str, destination: &str) -> Header {
        Header::Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    #[test]
    fn version_1_is_one_line() {
        let line = b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\nGET /";
        check(line, Ok(Parsed::Complete(36, proxied("1.2.3.4:1000", "5.6.7.8:80"))));
        check(b"PROXY TCP6 ::1 ::2 1 2\r\n", Ok(Parsed::Complete(24, proxied("[::1]:1", "[::2]:2"))));
        check(b"PROXY UNKNOWN whatever\r\n", Ok(Parsed::Complete(24, Header::Local)));
        check(b"PROXY TCP4 1.2.3", Ok(Parsed::Partial));
        check(b"", Ok(Parsed::Partial));
        for bad in [
            "PROXY TCP4 1.2.3.4 5.6.7.8 1000\r\n",
            "PROXY TCP4 ::1 ::2 1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        ] {
            check(bad.as_bytes(), Err(ProxyError::Malformed));
        }
        check(b"GET / HTTP/1.1\r\n", Err(ProxyError::Signature));
        check(&[b"PROXY ".as_slice(), &[b'a'; 200]].concat(), Err(ProxyError::TooLong));
    }

    #[test]
    fn version_2_is_binary() {
        let header = |command: u8, family: u8, payload: &[u8]| {
            let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
            [V2_SIGNATURE.as_slice(), &[command, family], &length, payload].concat()
        };
        let v4 = [1, 2, 3, 4, 5, 6, 7, 8, 0x03, 0xe8, 0, 80];
        let whole = header(0x21, 0x11, &v4);
        check(&whole, Ok(Parsed::Complete(28, proxied("1.2.3.4:1000", "5.6.7.8:80"))));
        for end in 0..whole.len() {
            check(&whole[..end], Ok(Parsed::Partial));
        }
        let with_extension = header(0x21, 0x11, &[v4.as_slice(), &[4, 0, 1, 9]].concat());
        check(&with_extension, Ok(Parsed::Complete(32, proxied("1.2.3.4:1000", "5.6.7.8:80"))));
        check(&header(0x20, 0, &[]), Ok(Parsed::Complete(16, Header::Local)));
        check(&header(0x21, 0x11, &v4[..8]), Err(ProxyError::Malformed));
        check(&header(0x11, 0x11, &v4), Err(ProxyError::Malformed));
        check(&header(0x21, 0x77, &v4), Err(ProxyError::Malformed));
        check(&header(0x21, 0x11, &[0; 5000]), Err(ProxyError::TooLong));
    }
}
