//! The access log line in its short form, for a terminal.

use std::io::Write as _;

use cardinal_sdk::{LogCx, log};

/// `127.0.0.1 GET /hello 200 3 ms, route hello, upstream 127.0.0.1:9080`
pub(super) fn write(cx: &LogCx<'_>, out: &mut Vec<u8>) {
    let exchange = cx.exchange;
    // Writing to a vector does not fail.
    write!(out, "{} ", exchange.client.ip).ok();
    if log::is_stream(exchange) {
        write!(out, "{} session", exchange.client.wire.as_str()).ok();
    } else {
        let target = String::from_utf8_lossy(&exchange.original.target);
        write!(out, "{} {target}", exchange.original.method.as_str()).ok();
    }
    write!(out, " {} {} ms", log::status(cx), log::Latencies::of(exchange).request).ok();
    if let Some(route) = &exchange.route {
        match route.name() {
            Some(name) => write!(out, ", route {name}").ok(),
            None => write!(out, ", route {}", route.id()).ok(),
        };
    }
    if let Some(attempt) = exchange.tries.last() {
        write!(out, ", upstream {}", attempt.address).ok();
    }
    if let Some(failure) = exchange.failure {
        write!(out, ", {}", failure.label()).ok();
    }
}
