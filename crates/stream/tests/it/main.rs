//! Control planes and data planes over loopback, with TLS.

mod following;
mod site;
mod trust;
