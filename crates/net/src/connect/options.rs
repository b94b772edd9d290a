//! Socket options that are set before connecting.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpSocket;

use crate::arrival::set_transparent;

/// Socket options that are set before connecting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Packet mark (`SO_MARK`), which routing and packet filter rules can match: for example, to avoid capturing the
    /// connection again. Requires the capability `CAP_NET_ADMIN`.
    pub mark: Option<u32>,
    /// The source address.
    pub source: Option<Source>,
}

/// The source address of a socket. With port 0, the system chooses the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An address of this machine.
    Own(SocketAddr),
    /// An address that this machine will have later (`IP_FREEBIND`).
    Future(SocketAddr),
    /// An address of another host, usually the client's (`IP_TRANSPARENT`): responses have to be routed back to this
    /// machine. Requires the capability `CAP_NET_ADMIN`.
    Foreign(SocketAddr),
}

/// A socket option that could not be set.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {option}: {error}{advice}")]
pub struct OptionError {
    /// The option.
    pub option: Box<str>,
    /// The error of the system.
    #[source]
    pub error: io::Error,
    /// How to fix it; empty, or starts with a separator.
    advice: &'static str,
}

impl OptionError {
    fn new(option: impl Into<Box<str>>, error: io::Error) -> Self {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let advice = if denied { "; the process needs the capability CAP_NET_ADMIN" } else { "" };
        Self { option: option.into(), error, advice }
    }
}

impl From<OptionError> for io::Error {
    fn from(error: OptionError) -> Self {
        Self::new(error.error.kind(), error)
    }
}

impl SocketOptions {
    /// No options.
    pub const NONE: Self = Self { mark: None, source: None };

    /// Whether a socket with these options can connect to `target`: the source address is of the same family.
    pub(super) fn suit(&self, target: SocketAddr) -> bool {
        self.source.is_none_or(|source| source.address().is_ipv4() == target.is_ipv4())
    }

    /// Sets the options on a socket that is to connect to `target`.
    pub(super) fn set(&self, socket: &TcpSocket, target: SocketAddr) -> io::Result<()> {
        if let Some(mark) = self.mark {
            let set = SockRef::from(socket).set_mark(mark);
            set.map_err(|error| OptionError::new(format!("the socket mark {mark:#x} (SO_MARK)"), error))?;
        }
        self.source.map_or(Ok(()), |source| source.bind(socket, target))
    }
}

impl Source {
    fn address(self) -> SocketAddr {
        match self {
            Self::Own(address) | Self::Future(address) | Self::Foreign(address) => address,
        }
    }

    fn bind(self, socket: &TcpSocket, target: SocketAddr) -> io::Result<()> {
        let (address, options) = (self.address(), SockRef::from(socket));
        let failed = |what: &str, error| OptionError::new(format!("the source address {address}{what}"), error);
        if address.is_ipv4() != target.is_ipv4() {
            let text = format!("it is not of the address family of {target}");
            return Err(failed("", io::Error::new(io::ErrorKind::AddrNotAvailable, text)).into());
        }
        match self {
            Self::Own(_) => {}
            Self::Future(_) => {
                let set = if address.is_ipv4() { options.set_freebind_v4(true) } else { options.set_freebind_v6(true) };
                set.map_err(|error| failed(" (IP_FREEBIND)", error))?;
            }
            Self::Foreign(_) => {
                let set = set_transparent(&options, address.is_ipv6());
                set.map_err(|error| failed(" (IP_TRANSPARENT)", error))?;
            }
        }
        if address.port() != 0 {
            // Allows connections from the same address and port to other targets.
            options.set_reuse_address(true)?;
        }
        socket.bind(address).map_err(|error| failed("", error).into())
    }
}
