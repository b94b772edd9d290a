//! Control planes and data planes over loopback, with TLS.

mod following;
mod joining;
mod site;
mod trust;
