//! What `request-termination` does with a request. Kong: `kong/plugins/request-termination/handler.lua`.

use std::sync::Arc;

use bytes::Bytes;
use cardinal_http::{is_value, query};
use cardinal_sdk::{BuildCx, BuildError, Filter, Flow, HeadCx, Phases, Reply, ReplyBody};
use serde::Deserialize;
use serde_json::Value;

use super::echo;
use crate::parse_config;

/// Query arguments that are searched for the trigger.
const ARGUMENTS_MAX: usize = 1_000;

#[derive(Deserialize)]
struct Config {
    status_code: u16,
    message: Option<String>,
    content_type: Option<String>,
    body: Option<String>,
    echo: bool,
    trigger: Option<Box<str>>,
}

struct Termination {
    answer: Answer,
    trigger: Option<Trigger>,
}

enum Answer {
    /// The same for all requests.
    Fixed(Reply),
    /// A copy of the request.
    Echo { status: u16, message: Option<String> },
}

/// A header or query argument. As a header, `an_echo` may also be spelt `an-echo`.
struct Trigger {
    name: Box<str>,
    dashed: Box<str>,
}

pub(super) fn build(config: &Value, _cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let config: Config = parse_config(config)?;
    let status = config.status_code;
    if status < 200 {
        return Err(BuildError::new("status_code", "an interim status (below 200) cannot end a request"));
    }
    let message = config.message.or_else(|| standard_message(status).map(str::to_owned));
    let answer = if config.echo {
        Answer::Echo { status, message }
    } else {
        Answer::Fixed(fixed(status, message, config.body, config.content_type)?)
    };
    let trigger = config.trigger.map(|name| Trigger { dashed: name.replace('_', "-").into(), name });
    Ok(Arc::new(Termination { answer, trigger }))
}

fn fixed(
    status: u16,
    message: Option<String>,
    body: Option<String>,
    content_type: Option<String>,
) -> Result<Reply, BuildError> {
    let has_no_content = matches!(status, 204 | 304);
    match (body, message) {
        _ if has_no_content => Ok(Reply::new(status)),
        (Some(body), _) => {
            let mut reply = Reply { body: ReplyBody::Bytes(Bytes::from(body)), ..Reply::new(status) };
            if let Some(content_type) = content_type {
                if !is_value(content_type.as_bytes()) {
                    return Err(BuildError::new("content_type", "must not contain control characters"));
                }
                reply.headers.set(b"Content-Type", content_type.as_bytes());
            }
            Ok(reply)
        }
        (None, Some(message)) => Ok(Reply::message(status, message)),
        (None, None) => Ok(Reply::new(status)),
    }
}

fn standard_message(status: u16) -> Option<&'static str> {
    Some(match status {
        401 => "Unauthorized",
        404 => "Not found",
        405 => "Method not allowed",
        500 => "An unexpected error occurred",
        502 => "Bad Gateway",
        503 => "Service unavailable",
        _ => return None,
    })
}

impl Filter for Termination {
    fn phases(&self) -> Phases {
        Phases::REQUEST
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        if self.trigger.as_ref().is_some_and(|trigger| !trigger.is_pulled(cx)) {
            return Flow::Continue;
        }
        match &self.answer {
            Answer::Fixed(reply) => Flow::reply(reply.clone()),
            Answer::Echo { .. } if cx.body().is_none() => Flow::NeedBody { max: echo::BODY_MAX },
            Answer::Echo { status, message } => Flow::reply(Reply::json(*status, &echo::copy(cx, message.as_deref()))),
        }
    }
}

impl Trigger {
    fn is_pulled(&self, cx: &HeadCx<'_>) -> bool {
        let headers = &cx.request.headers;
        if headers.contains(self.name.as_bytes()) || headers.contains(self.dashed.as_bytes()) {
            return true;
        }
        let query = cx.request.query().unwrap_or_default();
        query::arguments(query, ARGUMENTS_MAX).any(|(name, _)| name == self.name.as_bytes())
    }
}
