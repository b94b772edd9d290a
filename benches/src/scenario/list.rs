//! The scenarios, in the order of the page, and Cardinal's targets.

use super::{Aim, Group, Measure, Scenario};
use crate::load::{Direction, Kind, Work};
use crate::metric::Metric;
use crate::peers::Program::{self, Baseline, Cardinal, Envoy, Haproxy, Nginx, Relay};
use crate::peers::{KEY, Setup};

/// Number of connections of HTTP/2 clients, and of streams on each.
const H2_CONNECTIONS: usize = 8;
const H2_STREAMS: usize = 8;
/// Number of connections with bodies of 10 MiB.
const LONG_CONNECTIONS: usize = 8;
/// Number of connections of many clients.
const MANY: usize = 2000;
/// Programs that proxy TCP.
const TCP: &[Program] = &[Nginx, Haproxy, Envoy, Relay, Baseline, Cardinal];

/// A minimum ratio of requests per CPU-second.
const fn cpu(to: Program, at: f64) -> Aim {
    Aim { metric: Metric::PerCpuSecond, to: Some(to), at }
}

/// A minimum ratio of bytes per CPU-second.
const fn bytes(to: Program, at: f64) -> Aim {
    Aim { metric: Metric::MibPerCpuSecond, to: Some(to), at }
}

/// A maximum ratio.
const fn at_most(metric: Metric, to: Program, at: f64) -> Aim {
    Aim { metric, to: Some(to), at }
}

const fn throughput(work: fn() -> Work, setup: Setup) -> Measure {
    Measure::Throughput { work, setup, programs: Program::PROXIES }
}

fn plain() -> Work {
    Work::plain(1024)
}

fn of_kind(kind: Kind) -> Work {
    Work { kind, ..plain() }
}

fn over_h2(kind: Kind) -> Work {
    Work { kind, connections: H2_CONNECTIONS, streams: H2_STREAMS, ..plain() }
}

fn with_key() -> Work {
    Work { headers: vec![(KEY.0.to_owned(), KEY.1.to_owned())], ..plain() }
}

fn body_64k(direction: Direction) -> Work {
    Work { direction, ..Work::plain(64 << 10) }
}

fn body_10m(direction: Direction) -> Work {
    Work { direction, connections: LONG_CONNECTIONS, ..Work::plain(10 << 20) }
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "plain",
        title: "HTTP/1.1 keep-alive, 1 KiB",
        about: "64 connections stay; GET, answers of 1 KiB. The relay copies bytes and looks at nothing: no proxy can be \
                cheaper.",
        group: Group::Requests,
        measure: Measure::Throughput { work: plain, setup: Setup::Http, programs: Program::ALL },
        headline: Metric::PerCpuSecond,
        aims: &[cpu(Nginx, 1.4), cpu(Haproxy, 1.9), cpu(Envoy, 5.0), cpu(Relay, 0.72)],
    },
    Scenario {
        name: "plugins",
        title: "HTTP/1.1 keep-alive, Cardinal with three plugins",
        about: "The same; Cardinal also checks a key (`key-auth`), counts against a limit (`rate-limiting`, local) and \
                gives ids (`correlation-id`). The others do what they do without.",
        group: Group::Requests,
        measure: throughput(with_key, Setup::Plugins),
        headline: Metric::PerCpuSecond,
        aims: &[cpu(Nginx, 1.15), cpu(Haproxy, 1.6), cpu(Envoy, 4.0)],
    },
    Scenario {
        name: "busy2000",
        title: "HTTP/1.1 keep-alive, 2,000 busy connections",
        about: "As plain, with 2,000 connections each with a request in progress.",
        group: Group::Requests,
        measure: throughput(|| Work { connections: MANY, ..plain() }, Setup::Http),
        headline: Metric::PerCpuSecond,
        aims: &[at_most(Metric::Rss, Nginx, 1.8), at_most(Metric::Rss, Haproxy, 1.1), at_most(Metric::Rss, Envoy, 0.3)],
    },
    Scenario {
        name: "fresh",
        title: "HTTP/1.1, a new connection for each request",
        about: "Clients ask to close after each answer; connections to the upstream stay.",
        group: Group::Requests,
        measure: throughput(|| of_kind(Kind::H1Fresh), Setup::Http),
        headline: Metric::PerCpuSecond,
        aims: &[],
    },
    Scenario {
        name: "down64k",
        title: "Answers of 64 KiB",
        about: "64 connections stay.",
        group: Group::Bodies,
        measure: throughput(|| body_64k(Direction::Down), Setup::Http),
        headline: Metric::PerCpuSecond,
        aims: &[cpu(Nginx, 1.35), cpu(Haproxy, 1.35), cpu(Envoy, 2.0)],
    },
    Scenario {
        name: "up64k",
        title: "Requests of 64 KiB",
        about: "64 connections stay.",
        group: Group::Bodies,
        measure: throughput(|| body_64k(Direction::Up), Setup::Http),
        headline: Metric::PerCpuSecond,
        aims: &[cpu(Nginx, 1.35), cpu(Haproxy, 1.35), cpu(Envoy, 2.0)],
    },
    Scenario {
        name: "down10m",
        title: "Answers of 10 MiB",
        about: "8 connections stay. The peak tells how much of the bodies is held.",
        group: Group::Bodies,
        measure: throughput(|| body_10m(Direction::Down), Setup::Http),
        headline: Metric::MibPerCpuSecond,
        aims: &[bytes(Nginx, 1.1), bytes(Haproxy, 1.1), bytes(Envoy, 1.3)],
    },
    Scenario {
        name: "up10m",
        title: "Requests of 10 MiB",
        about: "8 connections stay. The peak tells how much of the bodies is held.",
        group: Group::Bodies,
        measure: throughput(|| body_10m(Direction::Up), Setup::Http),
        headline: Metric::MibPerCpuSecond,
        aims: &[bytes(Nginx, 1.1), bytes(Haproxy, 1.1), bytes(Envoy, 1.3)],
    },
    Scenario {
        name: "tls",
        title: "HTTP/1.1 keep-alive over TLS, 1 KiB",
        about: "64 connections stay. TLS 1.3 to the clients, none to the upstream.",
        group: Group::Tls,
        measure: throughput(|| of_kind(Kind::H1Tls), Setup::Http),
        headline: Metric::PerCpuSecond,
        aims: &[cpu(Nginx, 1.5), cpu(Haproxy, 1.6), cpu(Envoy, 4.0)],
    },
    Scenario {
        name: "handshakes",
        title: "Full TLS handshakes",
        about: "A new connection for each request, and no session is resumed. The key is ECDSA P-256.",
        group: Group::Tls,
        measure: throughput(|| of_kind(Kind::TlsFull), Setup::Http),
        headline: Metric::PerCpuSecond,
        aims: &[cpu(Nginx, 1.7), cpu(Haproxy, 1.8), cpu(Envoy, 2.0)],
    },
    Scenario {
        name: "h2",
        title: "HTTP/2 to HTTP/1.1, 1 KiB",
        about: "8 connections with 8 streams each, without TLS; the upstream speaks HTTP/1.1.",
        group: Group::Http2,
        measure: throughput(|| over_h2(Kind::H2), Setup::Http),
        headline: Metric::PerCpuSecond,
        aims: &[cpu(Nginx, 1.3), cpu(Haproxy, 1.05), cpu(Envoy, 2.8)],
    },
    Scenario {
        name: "grpc",
        title: "gRPC, unary",
        about: "8 connections with 8 streams each; HTTP/2 on both sides, without TLS. Messages of 1 KiB come back.",
        group: Group::Http2,
        measure: throughput(|| Work { direction: Direction::Both, ..over_h2(Kind::Grpc) }, Setup::Grpc),
        headline: Metric::PerCpuSecond,
        aims: &[cpu(Nginx, 1.3), cpu(Haproxy, 1.0), cpu(Envoy, 2.5)],
    },
    Scenario {
        name: "tcp",
        title: "TCP, messages of 1 KiB",
        about: "64 connections; the upstream sends each message back. No HTTP: HAProxy in its TCP mode, nginx with its \
                stream module.",
        group: Group::Streams,
        measure: Measure::Throughput { work: || of_kind(Kind::Tcp), setup: Setup::Tcp, programs: TCP },
        headline: Metric::PerCpuSecond,
        aims: &[cpu(Haproxy, 1.05), cpu(Envoy, 2.0)],
    },
    Scenario {
        name: "websocket",
        title: "WebSocket, messages of 1 KiB",
        about: "64 connections; the upstream sends each message back.",
        group: Group::Streams,
        measure: throughput(|| of_kind(Kind::WebSocket), Setup::WebSocket),
        headline: Metric::PerCpuSecond,
        aims: &[],
    },
    Scenario {
        name: "latency",
        title: "Latency at 2,000 requests a second",
        about: "64 connections stay; GET, answers of 1 KiB. What is added is over the latency of the upstream without a \
                proxy, measured in the same round.",
        group: Group::Latency,
        measure: Measure::Latency,
        headline: Metric::AddedP50,
        aims: &[
            at_most(Metric::AddedP50, Nginx, 1.05),
            at_most(Metric::AddedP50, Haproxy, 1.05),
            at_most(Metric::AddedP50, Envoy, 0.7),
        ],
    },
    Scenario {
        name: "idle",
        title: "Idle connections",
        about: "Connections that did one request each, read at rest; once.",
        group: Group::Memory,
        measure: Measure::Idle,
        headline: Metric::Rss64,
        aims: &[
            at_most(Metric::Rss64, Nginx, 1.3),
            at_most(Metric::Rss64, Haproxy, 0.8),
            at_most(Metric::Rss64, Envoy, 0.25),
            Aim { metric: Metric::IdleKib, to: None, at: 6.0 },
        ],
    },
    Scenario {
        name: "routes",
        title: "Cardinal with up to 100,000 routes",
        about: "As plain, with requests spread over all routes (over 10,000 of 100,000).",
        group: Group::Routes,
        measure: Measure::Routes,
        headline: Metric::PerCpuSecond,
        aims: &[],
    },
    Scenario {
        name: "reload",
        title: "A change of the configuration each half second, at 2,000 requests a second",
        about: "As latency. The file is replaced with one that has another route; Cardinal sees that itself, nginx gets a \
                signal.",
        group: Group::Changes,
        measure: Measure::Reload,
        headline: Metric::P99,
        aims: &[],
    },
    Scenario {
        name: "cold",
        title: "From the start of the program to its first answer",
        about: "With the sixteen routes.",
        group: Group::Start,
        measure: Measure::Cold,
        headline: Metric::Start,
        aims: &[],
    },
];
