//! [`Failure`]: the one error of the request path.

use std::error::Error;
use std::fmt;

/// What went wrong. Closed: the label is the metric label, the log field and the response flag at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The request is not HTTP, or not unambiguous HTTP.
    BadRequest,
    /// Request head over its limit of bytes or fields.
    HeadTooLarge,
    /// Request line over its limit.
    UriTooLong,
    /// The request head did not arrive in time.
    HeadTimeout,
    /// The request body did not arrive in time.
    BodyTimeout,
    /// Request body over its limit.
    BodyTooLarge,
    /// The expectation in `Expect` is not known.
    ExpectationFailed,
    /// The HTTP version is not supported.
    VersionNotSupported,
    /// The client went away.
    ClientClosed,
    /// The client does not read its response.
    ClientTimeout,
    /// TLS with the client failed.
    ClientTls,
    /// No route matches.
    NoRoute,
    /// The route has no backend and no filter answered.
    NoBackend,
    /// No healthy endpoint.
    NoHealthyEndpoint,
    /// The backend's name does not resolve.
    NameResolution,
    /// The resolver itself failed.
    Resolver,
    /// No connection to the upstream.
    UpstreamConnect,
    /// No connection to the upstream in time.
    UpstreamConnectTimeout,
    /// TLS with the upstream failed.
    UpstreamTls,
    /// The upstream closed or reset the connection.
    UpstreamReset,
    /// The upstream sent what is not HTTP.
    UpstreamProtocol,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// The upstream did not take the request in time.
    UpstreamWriteTimeout,
    /// A filter failed.
    Filter,
    /// The head of a message to be sent has bytes that are not allowed in it: a filter or a setting put them there.
    UnsendableHead,
    /// A limit of the upstream is reached.
    CircuitOpen,
    /// A limit of the node is reached.
    Overloaded,
    /// The node is stopping.
    Draining,
}

impl FailureKind {
    /// All kinds, for metrics and documentation.
    pub const ALL: [Self; 28] = [
        Self::BadRequest,
        Self::HeadTooLarge,
        Self::UriTooLong,
        Self::HeadTimeout,
        Self::BodyTimeout,
        Self::BodyTooLarge,
        Self::ExpectationFailed,
        Self::VersionNotSupported,
        Self::ClientClosed,
        Self::ClientTimeout,
        Self::ClientTls,
        Self::NoRoute,
        Self::NoBackend,
        Self::NoHealthyEndpoint,
        Self::NameResolution,
        Self::Resolver,
        Self::UpstreamConnect,
        Self::UpstreamConnectTimeout,
        Self::UpstreamTls,
        Self::UpstreamReset,
        Self::UpstreamProtocol,
        Self::UpstreamTimeout,
        Self::UpstreamWriteTimeout,
        Self::Filter,
        Self::UnsendableHead,
        Self::CircuitOpen,
        Self::Overloaded,
        Self::Draining,
    ];

    /// The label: snake case.
    pub const fn label(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::HeadTooLarge => "head_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::ExpectationFailed => "expectation_failed",
            Self::VersionNotSupported => "version_not_supported",
            Self::ClientClosed => "client_closed",
            Self::ClientTimeout => "client_timeout",
            Self::ClientTls => "client_tls",
            Self::NoRoute => "no_route",
            Self::NoBackend => "no_backend",
            Self::NoHealthyEndpoint => "no_peer",
            Self::NameResolution => "name_resolution",
            Self::Resolver => "resolver",
            Self::UpstreamConnect => "upstream_connect",
            Self::UpstreamConnectTimeout => "upstream_connect_timeout",
            Self::UpstreamTls => "upstream_tls",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamWriteTimeout => "upstream_write_timeout",
            Self::Filter => "filter",
            Self::UnsendableHead => "unsendable_head",
            Self::CircuitOpen => "circuit_open",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
        }
    }

    /// The status of the reply, where one can be sent.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::HeadTooLarge | Self::ClientTls => 400,
            Self::UriTooLong => 414,
            Self::HeadTimeout | Self::BodyTimeout | Self::ClientTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::ExpectationFailed => 417,
            Self::VersionNotSupported => 505,
            Self::ClientClosed => 499,
            Self::NoRoute => 404,
            Self::NoBackend
            | Self::NoHealthyEndpoint
            | Self::NameResolution
            | Self::CircuitOpen
            | Self::Overloaded
            | Self::Draining => 503,
            Self::Resolver | Self::Filter | Self::UnsendableHead => 500,
            Self::UpstreamConnect | Self::UpstreamTls | Self::UpstreamReset | Self::UpstreamProtocol => 502,
            Self::UpstreamConnectTimeout | Self::UpstreamTimeout | Self::UpstreamWriteTimeout => 504,
        }
    }

    /// The side that caused it.
    pub const fn side(self) -> Side {
        match self {
            Self::BadRequest
            | Self::HeadTooLarge
            | Self::UriTooLong
            | Self::HeadTimeout
            | Self::BodyTimeout
            | Self::BodyTooLarge
            | Self::ExpectationFailed
            | Self::VersionNotSupported
            | Self::ClientClosed
            | Self::ClientTimeout
            | Self::ClientTls => Side::Downstream,
            Self::NoRoute
            | Self::NoBackend
            | Self::NoHealthyEndpoint
            | Self::NameResolution
            | Self::Resolver
            | Self::Filter
            | Self::UnsendableHead
            | Self::CircuitOpen
            | Self::Overloaded
            | Self::Draining => Side::Local,
            Self::UpstreamConnect
            | Self::UpstreamConnectTimeout
            | Self::UpstreamTls
            | Self::UpstreamReset
            | Self::UpstreamProtocol
            | Self::UpstreamTimeout
            | Self::UpstreamWriteTimeout => Side::Upstream,
        }
    }
}

/// The side that caused a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client's.
    Downstream,
    /// The upstream's.
    Upstream,
    /// The node's or its configuration's.
    Local,
}

/// Whether the request may be tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Retry {
    /// It may have taken effect.
    #[default]
    Never,
    /// If repeating it does no harm: it may have reached an upstream, which did not answer.
    IfIdempotent,
    /// No byte of it reached an upstream.
    Safe,
}

/// Why a request or a connection ended early.
#[derive(Debug)]
pub struct Failure(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: FailureKind,
    retry: Retry,
    detail: &'static str,
    /// The setting that limited a wait, and its value in milliseconds.
    limit: Option<(&'static str, u64)>,
    /// The endpoint that failed, as the log shows it.
    target: Option<Box<str>>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure of this kind that must not be retried.
    pub fn new(kind: FailureKind, detail: &'static str) -> Self {
        Self(Box::new(Inner { kind, retry: Retry::Never, detail, limit: None, target: None, source: None }))
    }

    /// With what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// With the setting that limited the wait which took too long, and its value in milliseconds.
    #[must_use]
    pub fn within(mut self, setting: &'static str, limit_ms: u64) -> Self {
        self.0.limit = Some((setting, limit_ms));
        self
    }

    /// With the endpoint that failed, if none was named before.
    #[must_use]
    pub fn with_target(mut self, target: impl FnOnce() -> Box<str>) -> Self {
        self.0.target.get_or_insert_with(target);
        self
    }

    /// With another verdict on retrying.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> FailureKind {
        self.0.kind
    }

    /// Whether the request may be tried again.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// The endpoint that failed.
    pub fn target(&self) -> Option<&str> {
        self.0.target.as_deref()
    }

    /// A few words for the log. Never sent to a client.
    pub fn detail(&self) -> &'static str {
        self.0.detail
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.label(), self.0.detail)?;
        if let Some((setting, limit_ms)) = self.0.limit {
            write!(f, " within {setting} {limit_ms} ms")?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
