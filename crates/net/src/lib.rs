//! Listeners, TLS, H1/H2 connections, upstream pools, DNS, PROXY protocol.
