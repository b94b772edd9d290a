//! What is set on a socket before it connects.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpSocket;

use crate::arrival::set_transparent;

/// What is set on a socket before it connects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Mark of its packets (`SO_MARK`), by which rules of routing and of the packet filter tell them from others: for
    /// example not to capture them again. Needs the capability `CAP_NET_ADMIN`.
    pub mark: Option<u32>,
    /// Address that it connects from.
    pub source: Option<Source>,
}

/// Address that a socket connects from. Port 0 lets the system choose one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// One of the machine's.
    Own(SocketAddr),
    /// One that the machine will have (`IP_FREEBIND`).
    Future(SocketAddr),
    /// Somebody else's, usually the client's (`IP_TRANSPARENT`): the answers have to be routed back to this machine. Needs
    /// the capability `CAP_NET_ADMIN`.
    Foreign(SocketAddr),
}

/// An option that could not be set on a socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {option}: {error}{advice}")]
pub struct OptionError {
    /// The option.
    pub option: Box<str>,
    /// What the system said.
    #[source]
    pub error: io::Error,
    /// What to do about it; empty, or starts with a separator.
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
    /// None.
    pub const NONE: Self = Self { mark: None, source: None };

    /// Whether a socket with them can connect to `target`: the source address is of its family.
    pub(super) fn suit(&self, target: SocketAddr) -> bool {
        self.source.is_none_or(|source| source.address().is_ipv4() == target.is_ipv4())
    }

    /// Sets them on a socket that is to connect to `target`.
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
            // The same address and port may have connections to other targets.
            options.set_reuse_address(true)?;
        }
        socket.bind(address).map_err(|error| failed("", error).into())
    }
}
