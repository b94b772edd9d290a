//! A connection to a server: login, calls, and the limit on what replies may hold.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cardinal_base::descriptors;
use cardinal_net::Io;
use cardinal_net::tls::io_text;
use cardinal_sdk::redis::{RedisCall, RedisCommand, RedisError, RedisReply, RedisSettings};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, RedisConnectionInfo, ServerError, Value};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An authenticated connection.
pub(super) struct Connection {
    commands: MultiplexedConnection,
    /// Number of the authorities that verified the server.
    pub(super) trust: u64,
    used: AtomicBool,
    /// Number of bytes received since a call was completed.
    arrived: Arc<AtomicU64>,
    arrived_max: u64,
}

/// The future that performs the I/O of a connection, until it fails or its last handle is dropped.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Authenticates and selects the database.
pub(super) async fn log_in(
    io: Io,
    settings: &RedisSettings,
    trust: u64,
    arrived_max: u64,
) -> Result<(Connection, Driver), RedisError> {
    let mut login = RedisConnectionInfo::default().set_db(settings.database).set_skip_set_lib_name();
    if let Some(password) = &settings.password {
        login = login.set_password(password);
        if let Some(username) = &settings.username {
            login = login.set_username(username);
        }
    }
    let arrived = Arc::<AtomicU64>::default();
    let io = Limited { io, arrived: Arc::clone(&arrived), arrived_max };
    // Calls have their own timeouts.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let (commands, driver) =
        MultiplexedConnection::new_with_config(&login, io, config).await.map_err(|error| login_error(&error))?;
    let connection = Connection { commands, trust, used: AtomicBool::new(true), arrived, arrived_max };
    Ok((connection, Box::pin(driver)))
}

impl Connection {
    /// Sends the commands of a call and awaits their replies. Scripts unknown to the server are sent again with their
    /// text.
    pub(super) async fn run(&self, call: &RedisCall) -> Result<Vec<RedisReply>, RedisError> {
        let mut replies = self.send(call.commands().map(|command| (command, false))).await?;
        let unknown: Vec<usize> = call
            .commands()
            .zip(&replies)
            .enumerate()
            .filter(|(_, (command, reply))| command.script.is_some() && wants_text(reply))
            .map(|(at, _)| at)
            .collect();
        if !unknown.is_empty() {
            let again = call.commands().enumerate().filter(|(at, _)| unknown.contains(at));
            let answers = self.send(again.map(|(_, command)| (command, true))).await?;
            for (at, answer) in unknown.into_iter().zip(answers) {
                if let Some(reply) = replies.get_mut(at) {
                    *reply = answer;
                }
            }
        }
        Ok(replies)
    }

    /// Sends commands in one batch; scripts with their text if the flag is set.
    async fn send(
        &self,
        commands: impl Iterator<Item = (RedisCommand<'_>, bool)>,
    ) -> Result<Vec<RedisReply>, RedisError> {
        let mut pipeline = Pipeline::with_capacity(commands.size_hint().0);
        let mut count = 0;
        for (command, with_text) in commands {
            pipeline.add_command(encode(command, with_text));
            count += 1;
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        let values = self.commands.clone().send_packed_commands(&pipeline, 0, count).await;
        let arrived = self.arrived.swap(0, Ordering::Relaxed);
        match values {
            Ok(values) => Ok(values.into_iter().map(reply).collect()),
            // The library only reports that the connection has ended.
            Err(_) if arrived > self.arrived_max => {
                Err(RedisError::Broken(format!("the reply is larger than {} bytes", self.arrived_max)))
            }
            Err(error) => Err(RedisError::Broken(text(&error))),
        }
    }

    /// Records that a call uses the connection.
    pub(super) fn note_use(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether a call has used the connection since the last query.
    pub(super) fn take_use(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }
}

fn encode(command: RedisCommand<'_>, with_text: bool) -> Cmd {
    let (name, script) = match command.script {
        Some(script) if with_text => ("EVAL", script.text()),
        Some(script) => ("EVALSHA", script.sha1()),
        None => ("", ""),
    };
    let mut cmd = Cmd::with_capacity(command.args.len() + 2, command.args.bytes() + name.len() + script.len());
    if command.script.is_some() {
        cmd.arg(name).arg(script);
    }
    for arg in command.args {
        cmd.arg(arg);
    }
    cmd
}

/// Whether a script must be sent with its text: the server has not seen it since it was started or its scripts were
/// flushed, or the user may only run `EVAL`.
fn wants_text(reply: &RedisReply) -> bool {
    matches!(reply, RedisReply::Error { code, .. } if matches!(&**code, "NOSCRIPT" | "NOPERM"))
}

fn reply(value: Value) -> RedisReply {
    let list = |values: Vec<Value>| RedisReply::List(values.into_iter().map(reply).collect());
    match value {
        Value::Nil => RedisReply::Nil,
        Value::Int(number) => RedisReply::Integer(number),
        Value::Boolean(flag) => RedisReply::Integer(flag.into()),
        Value::BulkString(bytes) | Value::BigNumber(bytes) => RedisReply::Bytes(bytes.into()),
        Value::VerbatimString { text, .. } => RedisReply::Bytes(text.into()),
        Value::Double(number) => RedisReply::Bytes(number.to_string().into()),
        Value::SimpleString(text) => RedisReply::Status(text.into()),
        Value::Okay => RedisReply::Status("OK".into()),
        Value::Array(values) | Value::Set(values) => list(values),
        Value::Map(pairs) => list(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
        Value::Attribute { data, .. } => reply(*data),
        Value::Push { data, .. } => list(data),
        Value::ServerError(error) => refusal(&error),
        // A type of a newer protocol version, which is not negotiated.
        _ => RedisReply::Bytes(Bytes::new()),
    }
}

fn refusal(error: &ServerError) -> RedisReply {
    RedisReply::Error { code: error.code().into(), message: error.details().unwrap_or_default().into() }
}

fn login_error(error: &redis::RedisError) -> RedisError {
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    match error.kind() {
        ErrorKind::Io if io.is_some_and(descriptors::is_local) => RedisError::Local(text(error)),
        ErrorKind::Io | ErrorKind::Parse => RedisError::Unreachable(format!("login: {}", text(error))),
        _ => RedisError::Auth(text(error)),
    }
}

fn text(error: &redis::RedisError) -> String {
    match std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(error) => io_text(error).to_string(),
        None => error.to_string(),
    }
}

/// A stream that fails if too many bytes arrive for one reply: replies are held in memory until they are complete.
struct Limited {
    io: Io,
    arrived: Arc<AtomicU64>,
    arrived_max: u64,
}

impl AsyncRead for Limited {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let count = (buf.filled().len() - before) as u64;
        if this.arrived.fetch_add(count, Ordering::Relaxed) + count > this.arrived_max {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Limited {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
