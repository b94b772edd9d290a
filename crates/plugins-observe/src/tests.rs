//! What holds for all plugins of the family.

use serde_json::Value;

use crate::PLUGINS;

#[test]
fn plugins_are_in_alphabetical_order() {
    let names: Vec<_> = PLUGINS.iter().map(|plugin| plugin.name).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(names, sorted);
}

#[test]
fn every_field_has_a_description() {
    for plugin in PLUGINS {
        for row in (plugin.schema)().doc_rows() {
            let said = !row.text.is_empty() || row.path.starts_with("queue");
            assert!(said, "{}: {}", plugin.name, row.path);
        }
    }
}

#[test]
fn manuals_show_configurations_that_are_valid() {
    for plugin in PLUGINS {
        let path = format!("{}/src/{}/README.md", env!("CARGO_MANIFEST_DIR"), plugin.name.replace('-', "_"));
        let manual = std::fs::read_to_string(&path).unwrap();
        let mut shown = 0;
        for block in manual.split("```yaml\n").skip(1) {
            let text = block.split("```").next().unwrap();
            let document: Value = serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{path}: {e}\n{text}"));
            assert_eq!(document["_format_version"], "3.0", "{path}");
            for instance in instances(&document, plugin.name) {
                shown += 1;
                let config = instance.get("config").cloned().unwrap_or_else(|| Value::Object(Default::default()));
                let result = (plugin.schema)().process(&config, &Default::default());
                assert!(result.is_ok(), "{path}: {result:?}\n{text}");
            }
        }
        assert!(shown > 0, "{path} shows no configuration");
    }
}

/// Plugin instances of this name anywhere in a document.
fn instances<'d>(document: &'d Value, name: &str) -> Vec<&'d Value> {
    let mut found = Vec::new();
    match document {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::Array(list) if key == "plugins" => {
                        found.extend(list.iter().filter(|instance| instance["name"] == name));
                    }
                    other => found.extend(instances(other, name)),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|item| found.extend(instances(item, name))),
        _ => {}
    }
    found
}
