//! [`Resource`]: the OpenTelemetry resource and instrumentation scope of spans.

use cardinal_ir::Telemetry;
use cardinal_sdk::Services;

/// The OpenTelemetry resource and instrumentation scope of spans.
pub(super) struct Resource {
    /// In the order of the record, followed by defaults that the record lacks.
    pub(super) attributes: Vec<(Box<str>, Box<str>)>,
    /// Version of the program.
    pub(super) version: &'static str,
}

impl Resource {
    pub(super) fn new(record: &Telemetry, services: &Services) -> Self {
        let mut attributes = record.resource.clone();
        let own = [
            ("service.name", "cardinal".to_owned()),
            ("service.version", VERSION.to_owned()),
            ("service.instance.id", services.node_id.to_string()),
        ];
        for (name, value) in own {
            if attributes.iter().all(|(known, _)| **known != *name) {
                attributes.push((name.into(), value.into()));
            }
        }
        Self { attributes, version: VERSION }
    }

    pub(super) fn service_name(&self) -> &str {
        self.attributes.iter().find(|(name, _)| **name == *"service.name").map_or("", |(_, value)| value)
    }
}

/// The name of the program as the instrumentation scope.
pub(super) const NAME: &str = "cardinal";
const VERSION: &str = env!("CARGO_PKG_VERSION");
