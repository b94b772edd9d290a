//! Settings of a Redis server.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// Address and credentials of a server. Users with equal settings share connections.
///
/// Contains a password, which is not printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RedisSettings {
    /// Name or address.
    pub host: Box<str>,
    /// Port.
    pub port: u16,
    /// Timeout of connecting, including TLS and authentication.
    pub connect_timeout: Duration,
    /// Timeout of the replies to a call without its own timeout.
    pub timeout: Duration,
    /// User for `AUTH`; only used with a password.
    pub username: Option<Box<str>>,
    /// Password for `AUTH`.
    pub password: Option<Box<str>>,
    /// Number of the database.
    pub database: i64,
    /// TLS settings, if TLS is used.
    pub tls: Option<RedisTls>,
}

/// TLS settings for a Redis server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedisTls {
    /// Verify the server's certificate by the node's certificate authorities.
    pub verify: bool,
    /// The server name to send and to verify; `None` uses the host.
    pub server_name: Option<Box<str>>,
}

impl RedisSettings {
    /// A server without TLS and without a password.
    pub fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
            username: None,
            password: None,
            database: 0,
            tls: None,
        }
    }

    /// The same server over TLS.
    #[must_use]
    pub fn with_tls(self, verify: bool, server_name: Option<&str>) -> Self {
        Self { tls: Some(RedisTls { verify, server_name: server_name.map(Into::into) }), ..self }
    }

    /// Reads a record that is valid by [`cardinal_schema::typedefs::redis`].
    ///
    /// # Errors
    /// The field and the error message.
    pub fn from_config(record: &Value) -> Result<Self, (&'static str, &'static str)> {
        let text = |field: &str| record.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        let flag = |field: &str| record.get(field).and_then(Value::as_bool).unwrap_or(false);
        let host = text("host").ok_or(("host", "required field missing"))?;
        let port = record.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let mut settings = Self::new(host, port.ok_or(("port", "must be a port"))?);
        if let Some(milliseconds) = record.get("timeout").and_then(Value::as_u64) {
            settings.timeout = Duration::from_millis(milliseconds);
            settings.connect_timeout = settings.timeout;
        }
        settings.username = text("username").map(Into::into);
        settings.password = text("password").map(Into::into);
        settings.database = record.get("database").and_then(Value::as_i64).unwrap_or(0);
        if flag("ssl") {
            settings = settings.with_tls(flag("ssl_verify"), text("server_name"));
        }
        Ok(settings)
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("database", &self.database)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
