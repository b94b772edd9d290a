//! How a request wants to be answered.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// How a request wants to be answered: words separated by commas, each `name` or `name:value`.
///
/// | word | meaning |
/// |---|---|
/// | `status:503` | this status instead of 200 |
/// | `header:Name=value` | this response field too; may be repeated |
/// | `interim:103` | an informational response before; may be repeated |
/// | `delay:50` | so many milliseconds before the head |
/// | `body:report`, `body:echo`, `body:empty` | what the body is; `echo` sends parts back as they come |
/// | `bytes:1000000` | so many bytes as the body, made as they are sent |
/// | `part:1000` | sends the body in parts of so many bytes (16 KiB otherwise) |
/// | `slow:20` | so many milliseconds before each part |
/// | `framing:length`, `framing:chunked`, `framing:close` | how an HTTP/1.1 body ends |
/// | `trailers` | ends with the trailer `X-Trailer: end` |
/// | `early` | answers before the request body is read |
/// | `close` | closes the connection after the answer |
/// | `cut:start`, `cut:head`, `cut:body` | closes before the first byte, inside the head, or after half of the body |
/// | `reset` | makes such a cut a reset |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Behaviour {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) interim: Vec<u16>,
    pub(crate) delay: Duration,
    pub(crate) body: Body,
    pub(crate) part_bytes: usize,
    pub(crate) slow: Duration,
    pub(crate) framing: Option<Framing>,
    pub(crate) trailers: bool,
    pub(crate) early: bool,
    pub(crate) close: bool,
    pub(crate) cut: Option<Cut>,
    pub(crate) reset: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Report,
    Echo,
    Empty,
    Bytes(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length,
    Chunked,
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Start,
    Head,
    Body,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            interim: Vec::new(),
            delay: Duration::ZERO,
            body: Body::Report,
            part_bytes: 16 * 1024,
            slow: Duration::ZERO,
            framing: None,
            trailers: false,
            early: false,
            close: false,
            cut: None,
            reset: false,
        }
    }
}

impl Behaviour {
    /// What the `X-Echo` field, else the `echo` argument of the query, says. A word that is unknown is an error: a
    /// test that misspells one must not pass.
    pub(crate) fn of(field: Option<&str>, query: Option<&str>) -> Result<Self> {
        let argument = || query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("echo=")));
        match field.or_else(argument) {
            Some(words) => Self::parse(words),
            None => Ok(Self::default()),
        }
    }

    fn parse(words: &str) -> Result<Self> {
        let mut behaviour = Self::default();
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once(':').unwrap_or((word, ""));
            behaviour.set(name, value).with_context(|| format!("`{word}` is not understood"))?;
        }
        Ok(behaviour)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let milliseconds = || Ok::<_, anyhow::Error>(Duration::from_millis(value.parse()?));
        match (name, value) {
            ("status", _) => self.status = value.parse()?,
            ("header", _) => {
                let (name, value) = value.split_once('=').context("Name=value is wanted")?;
                self.headers.push((name.to_owned(), value.to_owned()));
            }
            ("interim", _) => self.interim.push(value.parse()?),
            ("delay", _) => self.delay = milliseconds()?,
            ("slow", _) => self.slow = milliseconds()?,
            ("body", "report") => self.body = Body::Report,
            ("body", "echo") => self.body = Body::Echo,
            ("body", "empty") => self.body = Body::Empty,
            ("bytes", _) => self.body = Body::Bytes(value.parse()?),
            ("part", _) => self.part_bytes = value.parse::<usize>()?.max(1),
            ("framing", "length") => self.framing = Some(Framing::Length),
            ("framing", "chunked") => self.framing = Some(Framing::Chunked),
            ("framing", "close") => self.framing = Some(Framing::Close),
            ("trailers", "") => self.trailers = true,
            ("early", "") => self.early = true,
            ("close", "") => self.close = true,
            ("cut", "start") => self.cut = Some(Cut::Start),
            ("cut", "head") => self.cut = Some(Cut::Head),
            ("cut", "body") => self.cut = Some(Cut::Body),
            ("reset", "") => self.reset = true,
            _ => bail!("no such word"),
        }
        Ok(())
    }
}

/// The trailer that [`Behaviour::trailers`] sends.
pub(super) const TRAILER: (&str, &str) = ("x-trailer", "end");

/// So many bytes of a body that is made as it is sent.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    b"0123456789abcdef".iter().copied().cycle().take(len).collect()
}

/// Waits, if there is anything to wait for: the shortest sleep takes a millisecond.
pub(super) async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
