//! Commands for a Redis server.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;

/// A server-side script. The server caches scripts, so calls only send the digest; if the server does not know the
/// script, its text is sent.
#[derive(Debug, PartialEq, Eq)]
pub struct RedisScript {
    text: Box<str>,
    sha1: Box<str>,
}

impl RedisScript {
    /// A script in Lua.
    pub fn new(text: &str) -> Arc<Self> {
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let mut sha1 = String::with_capacity(40);
        for byte in digest.as_ref() {
            sha1.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default()));
        }
        Arc::new(Self { text: text.into(), sha1: sha1.into() })
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-1 of the text in hexadecimal digits, by which the server identifies the script.
    pub fn sha1(&self) -> &str {
        &self.sha1
    }
}

/// Commands that are sent in one batch. Other calls may run between them; a script runs atomically.
///
/// ```
/// use std::time::Duration;
/// use cardinal_sdk::redis::{RedisCall, RedisScript};
///
/// let script = RedisScript::new("return redis.call('GET', KEYS[1])");
/// let mut call = RedisCall::new();
/// call.command("SET").arg("key").arg("value").arg("PX").integer(500);
/// call.script(&script, &["key"]);
/// let call = call.within(Duration::from_millis(100));
/// assert_eq!(call.commands().count(), 2);
/// ```
#[derive(Clone)]
pub struct RedisCall {
    /// The arguments of all commands, one after the other.
    data: Vec<u8>,
    /// The end of each argument in `data`.
    ends: Vec<usize>,
    commands: Vec<Entry>,
    timeout: Option<Duration>,
    repeats: bool,
}

#[derive(Clone)]
struct Entry {
    script: Option<Arc<RedisScript>>,
    /// Index of its first argument in `ends`.
    first: usize,
}

impl RedisCall {
    /// An empty call, with capacity for a few short commands, so that they need no further allocation.
    pub fn new() -> Self {
        let (data, ends, commands) = (Vec::with_capacity(192), Vec::with_capacity(8), Vec::with_capacity(2));
        Self { data, ends, commands, timeout: None, repeats: false }
    }

    /// Sets a timeout for the replies, in place of the one in the settings of the server. Connecting has a separate
    /// timeout there.
    #[must_use]
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Sends the commands once more if a reused connection ends before all replies have arrived: the server closed an
    /// idle connection, or was restarted. The server may then run the commands twice, so they must be safe to repeat.
    #[must_use]
    pub fn repeatable(self) -> Self {
        Self { repeats: true, ..self }
    }

    /// Adds a command.
    pub fn command(&mut self, name: &str) -> &mut Self {
        self.commands.push(Entry { script: None, first: self.ends.len() });
        self.arg(name)
    }

    /// Adds a command that runs a script on these keys.
    pub fn script(&mut self, script: &Arc<RedisScript>, keys: &[impl AsRef<[u8]>]) -> &mut Self {
        self.commands.push(Entry { script: Some(Arc::clone(script)), first: self.ends.len() });
        self.integer(keys.len());
        for key in keys {
            self.arg(key);
        }
        self
    }

    /// Adds an argument to the last command.
    pub fn arg(&mut self, value: impl AsRef<[u8]>) -> &mut Self {
        self.data.extend_from_slice(value.as_ref());
        self.ends.push(self.data.len());
        self
    }

    /// Adds a number to the last command.
    pub fn integer(&mut self, value: impl fmt::Display) -> &mut Self {
        // Writing to a vector does not fail.
        write!(self.data, "{value}").unwrap_or_default();
        self.ends.push(self.data.len());
        self
    }

    /// The commands, in order.
    pub fn commands(&self) -> impl ExactSizeIterator<Item = RedisCommand<'_>> {
        self.commands.iter().enumerate().map(|(at, entry)| {
            let end = self.commands.get(at + 1).map_or(self.ends.len(), |next| next.first);
            let start = entry.first.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
            let ends = self.ends.get(entry.first..end).unwrap_or_default();
            RedisCommand { script: entry.script.as_deref(), args: RedisArgs { data: &self.data, start, ends } }
        })
    }

    /// The timeout for the replies, if it differs from the server's.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Whether the commands may be sent again.
    pub fn is_repeatable(&self) -> bool {
        self.repeats
    }
}

impl Default for RedisCall {
    fn default() -> Self {
        Self::new()
    }
}

/// Values are not printed, because they may be secrets.
impl fmt::Debug for RedisCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCall").field("commands", &self.commands.len()).finish_non_exhaustive()
    }
}

/// A command of a call.
#[derive(Clone)]
pub struct RedisCommand<'c> {
    /// The script, if the command runs one.
    pub script: Option<&'c RedisScript>,
    /// The name and the arguments; for a script, the number of keys, the keys and the arguments.
    pub args: RedisArgs<'c>,
}

/// The arguments of a command.
#[derive(Clone)]
pub struct RedisArgs<'c> {
    data: &'c [u8],
    start: usize,
    ends: &'c [usize],
}

impl RedisArgs<'_> {
    /// Total size of the remaining arguments, bytes.
    pub fn bytes(&self) -> usize {
        self.ends.last().map_or(0, |end| end - self.start)
    }
}

impl<'c> Iterator for RedisArgs<'c> {
    type Item = &'c [u8];

    fn next(&mut self) -> Option<&'c [u8]> {
        let (end, rest) = self.ends.split_first()?;
        let arg = self.data.get(self.start..*end)?;
        (self.start, self.ends) = (*end, rest);
        Some(arg)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.ends.len(), Some(self.ends.len()))
    }
}

impl ExactSizeIterator for RedisArgs<'_> {}
