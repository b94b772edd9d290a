//! Stream routes: TCP, TLS opened and not, UDP. The IR is written by hand, so that nothing but the engine is tested.

mod drain;
mod policies;
mod recorder;
mod setup;
mod tcp;
mod tls;
mod udp;
