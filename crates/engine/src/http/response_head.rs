//! Waits for the head of an upstream's response, over HTTP/1 or HTTP/2.

use std::task::{Context, Poll};

use cardinal_http::h1::{HeadError, HeadLimits, Parsed, parse_response};
use cardinal_http::{Failure, FailureKind, ResponseHead, Retry};
use cardinal_ir::Limits;
use cardinal_net::h1::H1;
use cardinal_net::{NetError, Peer};

/// The failure for an error while waiting for a response head.
pub(super) fn head_failure(error: NetError, limits: &HeadLimits) -> Failure {
    let kind = match &error {
        error if error.is_local() => FailureKind::Overloaded,
        NetError::Head(_) | NetError::BufferFull => FailureKind::UpstreamProtocol,
        NetError::H2(error) if !error.is_disconnect() => FailureKind::UpstreamProtocol,
        _ => FailureKind::UpstreamReset,
    };
    let retry = match &error {
        // The upstream guarantees that it has not processed the request.
        NetError::H2(error) if error.is_refusal() => Retry::Safe,
        // The upstream may have received the request, so only idempotent requests are retried.
        _ => Retry::IfIdempotent,
    };
    let failure = match error {
        NetError::Head(HeadError::TooLarge | HeadError::LineTooLong) | NetError::BufferFull => {
            let text = format!("larger than upstream_max_head_size ({} bytes)", limits.head_bytes_max);
            Failure::new(kind, "response head too large").with_source(text)
        }
        NetError::Head(HeadError::TooMany) => {
            let text = format!("more than client_max_headers ({})", limits.header_count_max);
            Failure::new(kind, "too many fields in the response head").with_source(text)
        }
        error => Failure::new(kind, "waiting for the response").with_source(error),
    };
    failure.with_retry(retry)
}

pub(super) fn head_limits(limits: &Limits) -> HeadLimits {
    let head_bytes_max = limits.response_head_bytes_max as usize;
    HeadLimits { head_bytes_max, line_bytes_max: head_bytes_max, header_count_max: limits.header_count_max as usize }
}

pub(super) fn poll_head(
    cx: &mut Context<'_>,
    up: &mut Peer,
    head: &mut ResponseHead,
    limits: &HeadLimits,
) -> Poll<Result<(), NetError>> {
    match up {
        Peer::H1(h1) => poll_h1_head(cx, h1, head, limits),
        Peer::H2(h2) => h2.poll_response(cx, head),
    }
}

fn poll_h1_head(
    cx: &mut Context<'_>,
    h1: &mut H1,
    head: &mut ResponseHead,
    limits: &HeadLimits,
) -> Poll<Result<(), NetError>> {
    loop {
        if !h1.unread().is_empty() {
            head.clear();
            match parse_response(h1.unread(), limits, head) {
                Ok(Parsed::Complete(length)) => {
                    h1.consume_head(length);
                    return Poll::Ready(Ok(()));
                }
                Ok(Parsed::Partial) => {}
                Err(error) => return Poll::Ready(Err(NetError::Head(error))),
            }
        }
        match std::task::ready!(h1.poll_read_more(cx, limits.head_bytes_max)) {
            Ok(0) => return Poll::Ready(Err(NetError::Closed)),
            Ok(_) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}
