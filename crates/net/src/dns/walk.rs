//! Resolves a name to addresses: determines which record types to query in which order, and follows SRV records and
//! aliases.
//!
//! The rules are those of Kong's resolver. Types are tried in the configured order until one has records; `LAST` stands
//! for the type of the last answer. An SRV answer is reduced to its lowest priority, and each target is resolved to
//! addresses. An alias is followed. A timeout ends the search; after a server failure, the next type is tried, and the
//! last failure is returned.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use cardinal_ir::Resolver;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;

use super::answer::{Record, Records};
use super::hosts::{Family, Hosts};
use super::{DnsError, DnsSettingsError};

/// Maximum number of aliases followed for one name.
const ALIASES_MAX: usize = 8;
/// Maximum number of SRV records followed for one name.
const SRV_MAX: usize = 256;
/// Maximum number of addresses of one name.
const ADDRESSES_MAX: usize = 1_024;
/// Number of SRV targets resolved concurrently.
const SRV_CONCURRENCY: usize = 8;

/// A record type to query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Services: hosts with ports, priorities and weights.
    Srv,
    /// Aliases.
    Cname,
}

/// The result of a query. Never empty: that is [`DnsError::Empty`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The records of the queried type. A client that follows aliases itself returns the records of the alias target.
    pub data: Vec<Data>,
    /// The minimum TTL of all records of the response, in seconds.
    pub ttl_s: u32,
}

/// A record's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// An A or AAAA record.
    Ip(IpAddr),
    /// An SRV record.
    Srv {
        /// Lower values are preferred.
        priority: u16,
        /// Relative share within its priority.
        weight: u16,
        /// Port; 0 means the port of the request.
        port: u16,
        /// Absolute name, with or without a trailing dot.
        target: Box<str>,
    },
    /// A CNAME record's absolute name.
    Cname(Box<str>),
}

/// The DNS client: sends one query to DNS servers. A `name` with a trailing dot is absolute; otherwise, search domains
/// apply.
pub trait Lookup: fmt::Debug + Send + Sync + 'static {
    /// Queries the records of one type.
    fn lookup<'a>(&'a self, name: &'a str, kind: Kind) -> BoxFuture<'a, Result<Found, DnsError>>;

    /// The addresses of the servers, for logs; empty if there are none.
    fn servers(&self) -> Arc<str> {
        Arc::default()
    }
}

/// The addresses of a name with their lifetime.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fetched {
    pub(super) records: Records,
    pub(super) ttl_s: u32,
    pub(super) kind: Kind,
}

/// The configured order of record types.
#[derive(Clone, Debug)]
pub(super) struct Order {
    kinds: Vec<Option<Kind>>,
    /// Families in the order of their types, for the hosts file and SRV targets.
    pub(super) families: Vec<Family>,
}

impl Order {
    /// Reads `LAST`, `SRV`, `A`, `AAAA`, `CNAME` in any case.
    pub(super) fn new(settings: &Resolver) -> Result<Self, DnsSettingsError> {
        let kinds: Vec<Option<Kind>> = settings
            .order
            .iter()
            .map(|text| match text.to_ascii_uppercase().as_str() {
                "LAST" => Ok(None),
                "SRV" => Ok(Some(Kind::Srv)),
                "A" => Ok(Some(Kind::A)),
                "AAAA" => Ok(Some(Kind::Aaaa)),
                "CNAME" => Ok(Some(Kind::Cname)),
                _ => Err(DnsSettingsError::Order(text.clone())),
            })
            .collect::<Result<_, _>>()?;
        if kinds.iter().all(Option::is_none) {
            return Err(DnsSettingsError::OrderEmpty);
        }
        let families = kinds.iter().filter_map(|kind| kind.and_then(Kind::family)).collect();
        Ok(Self { kinds, families })
    }

    /// The types to query, each once.
    fn kinds(&self, last: Option<Kind>) -> Vec<Kind> {
        let mut kinds = Vec::with_capacity(self.kinds.len());
        for kind in self.kinds.iter().filter_map(|kind| kind.or(last)) {
            // A type that has been removed from the order is not queried again.
            if !kinds.contains(&kind) && self.kinds.contains(&Some(kind)) {
                kinds.push(kind);
            }
        }
        kinds
    }
}

impl Kind {
    const fn family(self) -> Option<Family> {
        match self {
            Self::A => Some(Family::V4),
            Self::Aaaa => Some(Family::V6),
            Self::Srv | Self::Cname => None,
        }
    }
}

/// The context of a resolution.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) wire: &'a dyn Lookup,
    pub(super) hosts: &'a Hosts,
    pub(super) order: &'a Order,
}

impl Walk<'_> {
    /// Resolves a name.
    pub(super) async fn resolve(&self, host: &str, last: Option<Kind>) -> Result<Fetched, DnsError> {
        let mut name: Box<str> = host.into();
        let mut ttl_s = u32::MAX;
        let mut first_kind = None;
        for _ in 0..=ALIASES_MAX {
            let kinds = self.order.kinds(if first_kind.is_none() { last } else { None });
            let (kind, found) = self.first(&name, &kinds).await?;
            let first_kind = *first_kind.get_or_insert(kind);
            ttl_s = ttl_s.min(found.ttl_s);
            let records = match (kind, found.data.first()) {
                (Kind::Cname, Some(Data::Cname(target))) => {
                    let target = absolute(target);
                    if let Some(ip) = self.known(&target) {
                        vec![Record::plain(ip)]
                    } else {
                        name = target;
                        continue;
                    }
                }
                (Kind::Srv, _) => self.services(&name, &found.data, &mut ttl_s).await?,
                _ => ips(&found.data).map(Record::plain).take(ADDRESSES_MAX).collect(),
            };
            if records.is_empty() {
                return Err(DnsError::Empty);
            }
            return Ok(Fetched { records: Records::Many(records.into()), ttl_s, kind: first_kind });
        }
        Err(DnsError::Recursion)
    }

    /// Queries the types in order, until one has records.
    async fn first(&self, name: &str, kinds: &[Kind]) -> Result<(Kind, Found), DnsError> {
        let mut failure = DnsError::Empty;
        for kind in kinds {
            match self.wire.lookup(name, *kind).await {
                Ok(found) if found.data.is_empty() => failure = DnsError::Empty,
                Ok(found) if *kind == Kind::Srv && leads_back(&found.data, name) => failure = DnsError::Recursion,
                Ok(found) => return Ok((*kind, found)),
                Err(error @ (DnsError::NotFound | DnsError::Empty | DnsError::Server { .. } | DnsError::Recursion)) => {
                    failure = error;
                }
                Err(error @ (DnsError::Unreachable(_) | DnsError::Name | DnsError::Busy | DnsError::Local(_))) => {
                    return Err(error);
                }
            }
        }
        Err(failure)
    }

    /// Resolves the targets of the preferred SRV records. Targets that do not resolve are left out if others do.
    async fn services(&self, name: &str, data: &[Data], ttl_s: &mut u32) -> Result<Vec<Record>, DnsError> {
        let preferred =
            data.iter().filter_map(|d| if let Data::Srv { priority, .. } = d { Some(*priority) } else { None });
        let preferred = preferred.min().unwrap_or(0);
        let services: Vec<(u16, u16, Box<str>)> = data
            .iter()
            .filter_map(|d| match d {
                Data::Srv { priority, weight, port, target } if *priority == preferred => {
                    Some((*weight, *port, absolute(target)))
                }
                Data::Srv { .. } | Data::Ip(_) | Data::Cname(_) => None,
            })
            .filter(|(_, _, target)| **target != *absolute(name))
            .take(SRV_MAX)
            .collect();
        let mut questions = Vec::with_capacity(services.len());
        for (_, _, target) in &services {
            questions.push(self.addresses(target));
        }
        let answers: Vec<_> = stream::iter(questions).buffered(SRV_CONCURRENCY).collect().await;
        let mut failure = DnsError::Empty;
        let mut records = Vec::new();
        for ((weight, port, target), answer) in services.iter().zip(answers) {
            match answer {
                Ok((ips, target_ttl_s)) => {
                    *ttl_s = (*ttl_s).min(target_ttl_s);
                    let target: Arc<str> = target.strip_suffix('.').unwrap_or(target).into();
                    let shared_by = u32::try_from(ips.len()).unwrap_or(u32::MAX);
                    records.extend(ips.into_iter().map(|ip| Record {
                        ip,
                        port: *port,
                        weight: Some(u32::from(*weight)),
                        priority: preferred,
                        srv_target: Some(Arc::clone(&target)),
                        shared_by,
                    }));
                }
                // The target may have addresses: a partial answer must not be cached as complete.
                Err(error) if error.is_local() => return Err(error),
                Err(error) => failure = error,
            }
        }
        records.truncate(ADDRESSES_MAX);
        if records.is_empty() { Err(failure) } else { Ok(records) }
    }

    /// The addresses of an SRV record's target, which has address records of its own (RFC 2782).
    async fn addresses(&self, target: &str) -> Result<(Vec<IpAddr>, u32), DnsError> {
        if let Some(ip) = self.known(target) {
            return Ok((vec![ip], u32::MAX));
        }
        let families: Vec<Kind> =
            self.order.kinds.iter().flatten().copied().filter(|kind| kind.family().is_some()).collect();
        let (_, found) = self.first(target, &families).await?;
        Ok((ips(&found.data).take(ADDRESSES_MAX).collect(), found.ttl_s))
    }

    /// The address of a name that needs no query.
    fn known(&self, name: &str) -> Option<IpAddr> {
        let name = name.strip_suffix('.').unwrap_or(name);
        name.parse().ok().or_else(|| self.hosts.get(name, &self.order.families))
    }
}

fn ips(data: &[Data]) -> impl Iterator<Item = IpAddr> {
    data.iter().filter_map(|d| if let Data::Ip(ip) = d { Some(*ip) } else { None })
}

/// Whether the target of all SRV records is the name itself.
fn leads_back(data: &[Data], name: &str) -> bool {
    let name = absolute(name);
    data.iter().all(|d| matches!(d, Data::Srv { target, .. } if *absolute(target) == *name))
}

/// Lower-case with a trailing dot, so that no search domain applies.
fn absolute(name: &str) -> Box<str> {
    let mut name = name.to_ascii_lowercase();
    if !name.ends_with('.') {
        name.push('.');
    }
    name.into()
}
