//! A server and its connection, which is opened on demand and shared by all calls.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use cardinal_base::{Clock, Tick, task, timeout};
use cardinal_sdk::redis::{RedisCall, RedisError, RedisReply, RedisSettings};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::connection::{self, Connection, Driver};
use super::shared::Shared;
use crate::connector::Tls;

/// Minimum time between a failed connection attempt and the next one.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// A server, kept alive by the handles that send calls to it.
pub(super) struct Server {
    shared: Arc<Shared>,
    settings: RedisSettings,
    name: Box<str>,
    /// The connection for calls; `None` if it failed or was idle for too long.
    current: ArcSwapOption<Connection>,
    /// Held while connecting, so that there is one attempt at a time. Contains the last attempt, if it failed because
    /// of the server.
    connecting: Mutex<Option<(Tick, RedisError)>>,
}

impl Server {
    pub(super) fn new(shared: Arc<Shared>, settings: RedisSettings) -> Self {
        let name = format!("{}:{}", settings.host, settings.port).into();
        Self { shared, settings, name, current: ArcSwapOption::empty(), connecting: Mutex::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.shared.runtime
    }

    /// Runs a call on the control runtime.
    pub(super) async fn run(self: &Arc<Self>, call: &RedisCall) -> Result<Vec<RedisReply>, RedisError> {
        let _place = self.shared.enter()?;
        let limit = call.timeout().unwrap_or(self.settings.timeout);
        let mut may_repeat = call.is_repeatable();
        loop {
            let (connection, is_fresh) = self.connection().await?;
            let outcome = timeout(self.clock(), limit, connection.run(call)).await;
            let error = match outcome.unwrap_or(Err(RedisError::Timeout("waiting for the reply"))) {
                Ok(replies) => return Ok(replies),
                Err(error) => error,
            };
            // Late replies would be assigned to later calls.
            self.give_up(Arc::as_ptr(&connection));
            if is_fresh || !may_repeat || !matches!(error, RedisError::Broken(_)) {
                return Err(error);
            }
            may_repeat = false;
        }
    }

    /// The current connection, and whether it was just opened.
    async fn connection(self: &Arc<Self>) -> Result<(Arc<Connection>, bool), RedisError> {
        if let Some(connection) = self.usable() {
            return Ok((connection, false));
        }
        let late = |_| RedisError::Timeout("while connecting");
        let limit = self.settings.connect_timeout;
        let mut failed = timeout(self.clock(), limit, self.connecting.lock()).await.map_err(late)?;
        if let Some(connection) = self.usable() {
            return Ok((connection, false));
        }
        if let Some((when, error)) = &*failed
            && self.clock().tick().since(*when) < PAUSE
        {
            return Err(error.clone());
        }
        match timeout(self.clock(), limit, self.connect()).await.map_err(late).flatten() {
            Ok(connection) => {
                *failed = None;
                self.current.store(Some(Arc::clone(&connection)));
                Ok((connection, true))
            }
            Err(error) => {
                if !error.is_local() {
                    *failed = Some((self.clock().tick(), error.clone()));
                }
                Err(error)
            }
        }
    }

    fn clock(&self) -> &dyn Clock {
        &**self.shared.connector.clock()
    }

    fn usable(&self) -> Option<Arc<Connection>> {
        let connection = self.current.load_full()?;
        // Other certificate authorities might not verify the server.
        if connection.trust != self.trust() {
            return None;
        }
        connection.note_use();
        Some(connection)
    }

    /// The number of the authorities that verify the server; 0 if it is not verified.
    fn trust(&self) -> u64 {
        let verifies = self.settings.tls.as_ref().is_some_and(|tls| tls.verify);
        if verifies { self.shared.connector.trust_number() } else { 0 }
    }

    async fn connect(self: &Arc<Self>) -> Result<Arc<Connection>, RedisError> {
        let settings = &self.settings;
        let trust = self.trust();
        let tls = settings
            .tls
            .as_ref()
            .map(|tls| Tls { verify: tls.verify, server_name: tls.server_name.as_deref().unwrap_or(&settings.host) });
        let connected = self.shared.connector.connect(&settings.host, settings.port, tls).await;
        let io = match connected {
            Ok(connected) => connected.io,
            Err(failure) if failure.is_local => return Err(RedisError::Local(failure.reason)),
            Err(failure) => return Err(RedisError::Unreachable(failure.reason)),
        };
        let (connection, driver) = connection::log_in(io, settings, trust, self.shared.limits.reply_bytes_max).await?;
        let connection = Arc::new(connection);
        let (server, weak, idle) = (Arc::downgrade(self), Arc::downgrade(&connection), self.shared.limits.idle_timeout);
        let clock = Arc::clone(self.shared.connector.clock());
        task::spawn("redis connection", drive(driver, server, weak, (clock, idle)));
        Ok(connection)
    }

    /// Removes the connection for later calls. It is closed when the current calls have ended.
    fn give_up(&self, connection: *const Connection) {
        drop(self.current.compare_and_swap(connection, None));
    }
}

/// Drives a connection to its end: it fails, is idle for too long, or has no more handles.
async fn drive(
    mut driver: Driver,
    server: Weak<Server>,
    connection: Weak<Connection>,
    (clock, idle_timeout): (Arc<dyn Clock>, Duration),
) {
    let give_up = || {
        if let Some(server) = server.upgrade() {
            server.give_up(connection.as_ptr());
        }
    };
    while timeout(&*clock, idle_timeout, &mut driver).await.is_err() {
        if connection.upgrade().is_some_and(|connection| !connection.take_use()) {
            give_up();
        }
    }
    give_up();
}
