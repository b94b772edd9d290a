//! All plugins through the whole stack: a Kong file, real sockets, a backend that reports the requests it received.

mod auth;
mod cache;
mod cors;
mod hmac;
mod jwt;
mod limits;
mod logs;
mod metrics;
mod order;
mod scopes;
mod transform;

use std::sync::Arc;

use anyhow::Result;
use cardinal_base::Clock;
use cardinal_engine::Options;
use cardinal_testkit::{EchoServer, H1Client, H2Client, Response, World};
use serde_json::{Value, json};

use crate::plugins;

/// One service with one route in front of a backend, and a client.
struct Stage {
    echo: EchoServer,
    world: World,
    client: H1Client,
}

impl Stage {
    /// `service_plugins` are configured on the service; `more` is merged into the file.
    async fn start(service_plugins: Value, more: Value) -> Result<Self> {
        Self::with_settings(service_plugins, more, &[]).await
    }

    async fn with_settings(service_plugins: Value, more: Value, settings: &[(&str, &str)]) -> Result<Self> {
        let echo = EchoServer::start("e").await;
        let world = World::start(plugins(), &file(&echo.url(), service_plugins, more), settings)?;
        let client = H1Client::connect(world.http()).await?;
        Ok(Self { echo, world, client })
    }

    /// A stage whose engine uses this clock.
    async fn with_clock(service_plugins: Value, clock: Arc<dyn Clock>) -> Result<Self> {
        let echo = EchoServer::start("e").await;
        let options = Options { clock: Some(clock), ..Options::default() };
        let world = World::start_with(plugins(), &file(&echo.url(), service_plugins, json!({})), &[], options)?;
        let client = H1Client::connect(world.http()).await?;
        Ok(Self { echo, world, client })
    }

    async fn get(&mut self, target: &str, fields: &[(&str, &str)]) -> Result<Response> {
        self.client.get(target, "a.test", fields).await
    }

    /// The status and the message of the response to a `GET`.
    async fn said(&mut self, target: &str, fields: &[(&str, &str)]) -> Result<String> {
        let response = self.get(target, fields).await?;
        if response.status == 200 {
            return Ok("200".to_owned());
        }
        Ok(format!("{} {}", response.status, response.json()["message"].as_str().unwrap_or("?")))
    }

    async fn h2(&self) -> Result<H2Client> {
        H2Client::connect(self.world.http()).await
    }
}

/// A file with the service `s` at `url`, its route `r` for all paths, and the tables of `more`.
fn file(url: &str, service_plugins: Value, more: Value) -> String {
    let mut file = json!({"_format_version": "3.0", "services": [
        {"name": "s", "url": url, "routes": [{"name": "r", "paths": ["/"]}], "plugins": service_plugins}
    ]});
    if let (Value::Object(file), Value::Object(more)) = (&mut file, more) {
        file.extend(more);
    }
    file.to_string()
}

/// The values of a header in a report of the backend.
fn told(report: &Value, name: &str) -> Vec<String> {
    let fields = report["headers"].as_array().expect("a report has headers");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    fields.iter().filter(|f| text(&f[0]).eq_ignore_ascii_case(name)).map(|f| text(&f[1])).collect()
}
