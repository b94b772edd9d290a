//! [`Resource`]: what spans are of, and who made them.

use cardinal_ir::Telemetry;
use cardinal_sdk::Services;

/// What spans are of, and who made them.
pub(super) struct Resource {
    /// In the order of the record, then what was absent there.
    pub(super) attributes: Vec<(Box<str>, Box<str>)>,
    /// Of the program.
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

/// Name and version of the program, as the maker of spans.
pub(super) const NAME: &str = "cardinal";
const VERSION: &str = env!("CARGO_PKG_VERSION");
