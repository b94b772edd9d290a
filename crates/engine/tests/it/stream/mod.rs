//! Stream routes: TCP, TLS terminated and passed through, UDP. The IR is built by the tests, so that only the engine is
//! tested.

mod drain;
mod policies;
mod recorder;
mod setup;
mod tcp;
mod tls;
mod udp;
