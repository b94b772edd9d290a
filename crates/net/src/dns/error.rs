//! Why a name cannot be resolved.

use std::borrow::Cow;

/// The error of a name resolution. The texts are those of `dns` in Kong's target health, if Kong has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The name does not exist.
    #[error("dns server error: 3 name error")]
    NotFound,
    /// The name exists, but has no record of a requested type.
    #[error("dns client error: 101 empty record received")]
    Empty,
    /// A server refused the query or failed.
    #[error("dns server error: {code} {}", response_text(*.code))]
    Server {
        /// The response code (RFC 1035 and its successors): 2 is SERVFAIL.
        code: u16,
    },
    /// No usable response arrived; the label names the cause.
    #[error("no answer from a DNS server: {0}")]
    Unreachable(&'static str),
    /// Aliases or SRV records form a loop, or the chain is too long.
    #[error("recursion detected")]
    Recursion,
    /// The text is not a host name.
    #[error("not a host name")]
    Name,
    /// Too many names are being resolved at once.
    #[error("too many names are being resolved")]
    Busy,
    /// The node has no descriptors, memory or ports left for a query.
    #[error("no resources left for a DNS question: {0}")]
    Local(&'static str),
}

impl DnsError {
    /// The reason in DNS terms, for logs. `servers` are the queried servers; empty if unknown.
    pub fn reason(self, servers: &str) -> Cow<'static, str> {
        let several = servers.contains(',');
        match self {
            Self::NotFound => "NXDOMAIN (no such name)".into(),
            Self::Empty => "no records of the types that are asked for".into(),
            Self::Server { code } if several => {
                format!("one of the DNS servers {servers} answered {}", response_name(code)).into()
            }
            Self::Server { code } if servers.is_empty() => {
                format!("the DNS server answered {}", response_name(code)).into()
            }
            Self::Server { code } => format!("the DNS server {servers} answered {}", response_name(code)).into(),
            Self::Unreachable(what) if several => format!("no answer from the DNS servers {servers}: {what}").into(),
            Self::Unreachable(what) if !servers.is_empty() => {
                format!("no answer from the DNS server {servers}: {what}").into()
            }
            Self::Unreachable(_) | Self::Recursion | Self::Name | Self::Busy | Self::Local(_) => {
                self.to_string().into()
            }
        }
    }

    /// Whether the name is known to have no addresses, as opposed to a failed lookup. Kong answers 503
    /// `name resolution failed` to the former and 500 to the latter.
    pub const fn is_definite(self) -> bool {
        matches!(self, Self::NotFound | Self::Empty)
    }

    /// Whether no query was sent because the node has run out of a resource: the result says nothing about the name.
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Busy | Self::Local(_))
    }
}

/// Invalid settings.
#[derive(Debug, thiserror::Error)]
pub enum DnsSettingsError {
    /// The order contains an unknown record type: not `LAST`, `SRV`, `A`, `AAAA`, `CNAME`.
    #[error("unknown DNS record type {0:?}")]
    Order(Box<str>),
    /// The order contains no record type.
    #[error("no DNS record type to ask for")]
    OrderEmpty,
    /// The DNS client could not be created.
    #[error("cannot make a DNS client")]
    Client(#[source] hickory_resolver::net::NetError),
}

fn response_name(code: u16) -> Cow<'static, str> {
    match code {
        1 => "FORMERR".into(),
        2 => "SERVFAIL".into(),
        3 => "NXDOMAIN".into(),
        4 => "NOTIMP".into(),
        5 => "REFUSED".into(),
        _ => format!("code {code}").into(),
    }
}

fn response_text(code: u16) -> &'static str {
    match code {
        1 => "format error",
        2 => "server failure",
        3 => "name error",
        4 => "not implemented",
        5 => "refused",
        _ => "unknown",
    }
}
