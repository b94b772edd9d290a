//! Respond: a local reply. See [`Respond`].

mod echo;

use bytes::Bytes;
use cardinal_http::query;
use cardinal_ir::policy::{Respond, RespondBody};
use cardinal_sdk::{BuildError, Filter, Flow, HeadCx, Phases, Reply, ReplyBody};

use super::building::{check_fields, final_status};

/// Maximum number of query arguments that are searched for the trigger.
const ARGUMENTS_MAX: usize = 1_000;

/// A compiled local reply.
pub(super) struct Responder {
    answer: Answer,
    trigger: Option<Trigger>,
}

enum Answer {
    /// The same reply to all requests.
    Fixed(Reply),
    /// A copy of the request in the body, with this status and these fields.
    Echo { head: Reply, message: Option<Box<str>>, node_key: Box<str> },
}

/// A header or query argument. As a header, `an_echo` may also be spelt `an-echo`.
struct Trigger {
    name: Box<str>,
    dashed: Box<str>,
}

impl Responder {
    pub(super) fn build(spec: &Respond) -> Result<Self, BuildError> {
        check_fields("spec.headers", &spec.headers)?;
        let mut head = Reply::new(final_status("spec.status", spec.status)?);
        for (name, value) in &spec.headers {
            head.headers.append(name.as_bytes(), value.as_bytes());
        }
        let fixed = |body: ReplyBody| Answer::Fixed(Reply { body, ..head.clone() });
        let answer = match &spec.body {
            RespondBody::Echo { message, node_key } => {
                Answer::Echo { head, message: message.clone(), node_key: node_key.clone() }
            }
            _ if matches!(spec.status, 204 | 304) => fixed(ReplyBody::Empty),
            RespondBody::Empty => fixed(ReplyBody::Empty),
            RespondBody::Message(text) => fixed(ReplyBody::Message(text.to_string().into())),
            RespondBody::Text(text) => fixed(ReplyBody::Bytes(Bytes::copy_from_slice(text.as_bytes()))),
        };
        let trigger = |name: &str| Trigger { dashed: name.replace('_', "-").into(), name: name.into() };
        Ok(Self { answer, trigger: spec.trigger.as_deref().map(trigger) })
    }
}

impl Filter for Responder {
    fn phases(&self) -> Phases {
        Phases::REQUEST
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        if self.trigger.as_ref().is_some_and(|trigger| !trigger.is_in(cx)) {
            return Flow::Continue;
        }
        match &self.answer {
            Answer::Fixed(reply) => Flow::reply(reply.clone()),
            Answer::Echo { .. } if cx.body().is_none() => Flow::NeedBody { max: echo::BODY_MAX },
            Answer::Echo { head, message, node_key } => {
                let mut reply = Reply::json(head.status, &echo::copy(cx, message.as_deref(), node_key));
                for (name, value) in head.headers.iter() {
                    reply.headers.append(name, value);
                }
                Flow::reply(reply)
            }
        }
    }
}

impl Trigger {
    fn is_in(&self, cx: &HeadCx<'_>) -> bool {
        let headers = &cx.request.headers;
        if headers.contains(self.name.as_bytes()) || headers.contains(self.dashed.as_bytes()) {
            return true;
        }
        let query = cx.request.query().unwrap_or_default();
        query::arguments(query, ARGUMENTS_MAX).any(|(name, _)| name == self.name.as_bytes())
    }
}

#[cfg(test)]
mod tests;
