//! The front end from the outside: what a Kong build answered to the same files, goldens, and properties.

mod conformance;
mod goldens;
mod plugins;
mod properties;
mod routing;
mod secrets;
