//! The product as users meet it: the binary, its files, signals and sockets.

mod admin;
mod check;
mod cluster;
mod config_state;
mod dbless;
mod descriptors;
mod explain;
mod failures;
mod guides;
mod handover;
mod history;
mod last_good;
mod logs;
mod machines;
mod manual;
mod observability;
mod plugins;
mod process;
mod rbac;
mod reload;
mod run;
mod secrets;
mod stop;
mod store;
mod store_away;
mod store_faults;
mod store_ha;
mod store_unreadable;
mod workspaces;
mod writable;

/// A configuration with an open route and one that wants a key, in front of a backend.
fn kong_yaml(backend: &str) -> String {
    format!(
        "_format_version: '3.0'
services:
- name: backend
  url: {backend}
  routes:
  - name: open
    paths: [/open]
    strip_path: false
  - name: private
    paths: [/private]
    plugins:
    - name: key-auth
      config:
        hide_credentials: true
consumers:
- username: anna
  keyauth_credentials:
  - key: annas-key
"
    )
}
