//! Connections to Redis servers, one for each server and user, shared by the plugins that use it.
//!
//! Commands of many requests share a connection, which runs on the control runtime. A connection that fails is
//! reopened by the next command; when that fails too, commands fail immediately for [`PAUSE`], so that requests do not
//! queue up for a server that is down. That the node itself has run out of descriptors, memory or ports is no failure
//! of the server, and is not remembered. Every wait has the configured timeout.

mod tls;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError, Weak};
use std::time::Duration;

use cardinal_base::descriptors;
use cardinal_sdk::Services;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, RedisConnectionInfo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

#[cfg(test)]
pub(crate) mod server;

/// How long after a failed attempt no other is made.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

/// How to reach a server: Kong's `redis` record. Holds a password, so it cannot be printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Settings {
    host: String,
    port: u16,
    timeout: Duration,
    username: Option<String>,
    password: Option<String>,
    database: i64,
    tls: Option<Tls>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Tls {
    verify: bool,
    server_name: Option<String>,
}

impl Settings {
    /// From a `redis` record that is valid.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub(crate) fn from_config(record: &Value) -> Result<Self, (&'static str, &'static str)> {
        let text = |field: &str| record.get(field).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned);
        let flag = |field: &str| record.get(field).and_then(Value::as_bool).unwrap_or(false);
        let port = record.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let milliseconds = record.get("timeout").and_then(Value::as_u64).unwrap_or(2_000);
        Ok(Self {
            host: text("host").ok_or(("host", "required field missing"))?,
            port: port.ok_or(("port", "must be a port"))?,
            timeout: Duration::from_millis(milliseconds),
            username: text("username"),
            password: text("password"),
            database: record.get("database").and_then(Value::as_i64).unwrap_or(0),
            tls: flag("ssl").then(|| Tls { verify: flag("ssl_verify"), server_name: text("server_name") }),
        })
    }
}

/// A connection to a server.
pub(crate) struct Client {
    settings: Settings,
    runtime: tokio::runtime::Handle,
    link: Mutex<Link>,
}

/// Why there is no connection.
struct Failed {
    /// For the log.
    reason: String,
    /// The node has run out of a resource; not a failure of the server.
    is_local: bool,
}

impl Failed {
    fn io(reason: &str, error: &io::Error) -> Self {
        Self { reason: reason.to_owned(), is_local: descriptors::is_local(error) }
    }
}

impl From<String> for Failed {
    fn from(reason: String) -> Self {
        Self { reason, is_local: false }
    }
}

#[derive(Default)]
struct Link {
    connection: Option<MultiplexedConnection>,
    failed: Option<(Instant, String)>,
    /// Counts connections, so that only the one that failed is given up.
    number: u64,
}

#[derive(Default)]
struct Clients(SyncMutex<HashMap<Settings, Weak<Client>>>);

impl Client {
    /// The client of these settings; its connection ends when the last holder drops it.
    pub(crate) fn shared(services: &Services, settings: Settings) -> Arc<Self> {
        let clients = services.shared.get_or_insert("redis clients", Clients::default);
        let mut clients = clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|_, client| client.strong_count() > 0);
        if let Some(client) = clients.get(&settings).and_then(Weak::upgrade) {
            return client;
        }
        let client =
            Arc::new(Self { settings: settings.clone(), runtime: services.runtime.clone(), link: Mutex::default() });
        clients.insert(settings, Arc::downgrade(&client));
        client
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    /// Runs commands that answer numbers or nothing, from any thread.
    ///
    /// # Errors
    /// Why there is no answer, for the log.
    pub(crate) async fn query(self: &Arc<Self>, pipeline: Pipeline) -> Result<Vec<Option<i64>>, String> {
        let client = Arc::clone(self);
        // The connection's sockets and timers belong to the control runtime, whichever thread calls.
        match self.runtime.spawn(async move { client.run(&pipeline).await }).await {
            Ok(result) => {
                result.map_err(|reason| format!("redis {}:{}: {reason}", self.settings.host, self.settings.port))
            }
            Err(error) => Err(format!("redis: {error}")),
        }
    }

    async fn run(&self, pipeline: &Pipeline) -> Result<Vec<Option<i64>>, String> {
        let mut may_retry = true;
        loop {
            let (mut connection, number, fresh) = self.connection().await?;
            let error = match timeout(self.settings.timeout, pipeline.query_async(&mut connection)).await {
                Ok(Ok(answers)) => return Ok(answers),
                Ok(Err(error)) => {
                    if error.is_unrecoverable_error() {
                        self.give_up(number).await;
                    }
                    error
                }
                Err(_) => {
                    self.give_up(number).await;
                    return Err("timeout".to_owned());
                }
            };
            // A server closes idle connections: that is seen only now.
            if fresh || !may_retry || !error.is_connection_dropped() {
                return Err(error.to_string());
            }
            may_retry = false;
        }
    }

    /// A connection, its number, and whether it was made just now.
    async fn connection(&self) -> Result<(MultiplexedConnection, u64, bool), String> {
        let mut link = self.link.lock().await;
        if let Some(connection) = &link.connection {
            return Ok((connection.clone(), link.number, false));
        }
        if let Some((when, reason)) = &link.failed
            && when.elapsed() < PAUSE
        {
            return Err(reason.clone());
        }
        let attempt = timeout(self.settings.timeout, self.connect()).await;
        match attempt.unwrap_or_else(|_| Err("timeout while connecting".to_owned().into())) {
            Ok(connection) => {
                link.number += 1;
                link.failed = None;
                link.connection = Some(connection.clone());
                Ok((connection, link.number, true))
            }
            Err(Failed { reason, is_local }) => {
                if !is_local {
                    link.failed = Some((Instant::now(), reason.clone()));
                }
                Err(reason)
            }
        }
    }

    async fn give_up(&self, number: u64) {
        let mut link = self.link.lock().await;
        if link.number == number {
            link.connection = None;
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Failed> {
        let settings = &self.settings;
        let connected = TcpStream::connect((settings.host.as_str(), settings.port)).await;
        let socket = connected.map_err(|error| {
            // The system's resolver hides the cause of its failure.
            let error = TcpSocket::new_v4().err().filter(descriptors::is_local).unwrap_or(error);
            Failed::io(&format!("cannot connect: {error}"), &error)
        })?;
        socket.set_nodelay(true).map_err(|error| Failed::io(&error.to_string(), &error))?;
        match &settings.tls {
            None => self.greet(socket).await,
            Some(tls) => {
                let name = tls.server_name.as_deref().unwrap_or(&settings.host);
                self.greet(tls::handshake(socket, name, tls.verify).await?).await
            }
        }
    }

    /// Logs in and chooses the database.
    async fn greet<S>(&self, socket: S) -> Result<MultiplexedConnection, Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let settings = &self.settings;
        let mut login = RedisConnectionInfo::default().set_db(settings.database).set_skip_set_lib_name();
        if let Some(password) = &settings.password {
            login = login.set_password(password);
            if let Some(username) = &settings.username {
                login = login.set_username(username);
            }
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(settings.timeout));
        let (connection, driver) = MultiplexedConnection::new_with_config(&login, socket, config)
            .await
            .map_err(|error| format!("cannot log in: {error}"))?;
        // It ends when the last handle to the connection is dropped.
        drop(cardinal_base::task::spawn("redis connection", driver));
        Ok(connection)
    }
}
