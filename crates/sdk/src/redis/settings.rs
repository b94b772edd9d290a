//! How to reach a Redis server.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// How to reach a server and to log in. Connections are shared by those whose settings are equal in everything.
///
/// Holds a password, which is not printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RedisSettings {
    /// Name or address.
    pub host: Box<str>,
    /// Port.
    pub port: u16,
    /// Limit on connecting, TLS and login included.
    pub connect_timeout: Duration,
    /// Limit on the replies to a call that does not have its own.
    pub timeout: Duration,
    /// User for `AUTH`; only used with a password.
    pub username: Option<Box<str>>,
    /// Password for `AUTH`.
    pub password: Option<Box<str>>,
    /// Number of the database.
    pub database: i64,
    /// TLS, if the server is reached over it.
    pub tls: Option<RedisTls>,
}

/// TLS with a Redis server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedisTls {
    /// Verify the server's certificate by the node's certificate authorities.
    pub verify: bool,
    /// The name to ask for and to verify; the host where there is none.
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

    /// From a record that is valid by [`cardinal_schema::typedefs::redis`].
    ///
    /// # Errors
    /// The field and what is wrong with it.
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
