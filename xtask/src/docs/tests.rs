use cardinal_schema::{field, record, string};

use super::*;

const PAGE: &str = "# Title\n\n<!-- generated: a -->\nold\n<!-- end: a -->\n\nby hand\n";

#[test]
fn parts_are_replaced_and_the_rest_stays() {
    let new = replace(PAGE, "a", "| x |\n").unwrap();
    assert_eq!(new, "# Title\n\n<!-- generated: a -->\n\n| x |\n\n<!-- end: a -->\n\nby hand\n");
    assert_eq!(replace(&new, "a", "| x |\n").unwrap(), new, "writing again changes nothing");
}

#[test]
fn a_page_without_the_part_is_an_error() {
    assert!(replace(PAGE, "b", "").is_err());
    assert!(replace("<!-- end: a --><!-- generated: a -->", "a", "").is_err());
}

#[test]
fn fields_become_rows() {
    let schema = record([
        field("a", string().one_of(["x", "y|z"]).default("x").describe("What it is.")),
        field("b", string().required()),
    ]);
    assert_eq!(
        markdown::fields(&schema),
        "| field | type | default | meaning |\n|---|---|---|---|\n\
         | `a` | string | `\"x\"` | What it is. One of `x`, `y\\|z`. |\n\
         | `b` | string | required |  |\n"
    );
}

#[test]
fn every_plugin_and_entity_has_its_table() {
    let parts = parts();
    let text = |name: &str| &parts.iter().find(|part| part.name == name).unwrap().text;
    for (_, plugins) in families() {
        for plugin in plugins {
            assert!(text("plugin-fields").contains(&format!("### {}\n", plugin.name)), "{}", plugin.name);
        }
    }
    for entity in ["services", "routes", "consumers", "upstreams", "plugins"] {
        assert!(text("entities").contains(&format!("### {entity}\n")), "{entity}");
    }
    assert!(text("settings").contains("`proxy_listen`"));
}

#[test]
fn links_of_the_index_lead_somewhere() {
    let root = crate::workspace::root();
    for (family, plugins) in families() {
        for plugin in plugins {
            let path = format!("crates/plugins-{family}/src/{}/README.md", plugin.name.replace('-', "_"));
            assert!(root.join(&path).exists(), "{path}");
        }
    }
}

#[test]
fn the_documentation_is_current() {
    assert_eq!(stale(&crate::workspace::root()).unwrap(), Vec::new());
}

/// Every YAML block in the manuals, and every example file, is a valid configuration.
#[test]
fn what_the_manuals_show_is_valid() {
    let root = crate::workspace::root();
    let plugins: Vec<_> = families().into_iter().flat_map(|(_, plugins)| plugins.iter().copied()).collect();
    let registry = Registry::new(&plugins);
    let mut pages = vec![root.join("README.md")];
    collect(&root.join("docs"), "md", &mut pages);
    collect(&root.join("crates"), "md", &mut pages);
    let mut shown: Vec<_> = pages.iter().flat_map(|page| blocks(page)).collect();
    let mut examples = Vec::new();
    collect(&root.join("examples"), "yaml", &mut examples);
    shown.extend(examples.iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())));
    assert!(shown.len() > 5, "the manuals show something");
    let mut refused = String::new();
    for (place, text) in shown {
        let source = cardinal_kong::Source::new(place, text);
        if let Err(errors) = cardinal_kong::load(&[source], &registry, &cardinal_kong::Settings::default()) {
            refused.push_str(&errors.render());
        }
    }
    assert!(refused.is_empty(), "{refused}");
}

/// Files with this extension below a folder.
fn collect(folder: &Path, extension: &str, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

/// The YAML blocks on a page, with their positions. Lines before a block are kept empty, so that errors refer to its
/// lines.
fn blocks(page: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(page).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for (at, line) in text.lines().enumerate() {
        match &mut open {
            None if line.trim_end() == "```yaml" => open = Some("\n".repeat(at + 1)),
            None => {}
            Some(_) if line.trim_end() == "```" => {
                blocks.extend(open.take().map(|block| (page.display().to_string(), block)));
            }
            Some(block) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    blocks
}

/// Every name in the page of limits is a setting, a failure, a field of services or routes, a plugin or a metric.
#[test]
fn the_page_of_limits_names_what_exists() {
    let page = fs::read_to_string(crate::workspace::root().join("docs/limits.md")).unwrap();
    let plugins: Vec<_> = families().into_iter().flat_map(|(_, plugins)| plugins.iter().copied()).collect();
    let registry = Registry::new(&plugins);
    let is_field = |kind: &str, name: &str| registry.kind(kind).unwrap().schema.field(name).is_some();
    let operation = fs::read_to_string(crate::workspace::root().join("docs/operation.md")).unwrap();
    let names: Vec<_> = page.split('`').skip(1).step_by(2).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let known = settings::table::row(name).is_some()
            || cardinal_http::FailureKind::ALL.iter().any(|kind| kind.label() == name)
            || ["services", "routes"].iter().any(|kind| is_field(kind, name))
            || registry.plugin(name).is_some()
            || operation.contains(&format!("\n| `{name}` | "));
        assert!(known, "`{name}` is nothing that exists");
    }
}

/// The defaults in the page of limits are those of the settings.
#[test]
fn the_page_of_limits_has_the_defaults() {
    let page = fs::read_to_string(crate::workspace::root().join("docs/limits.md")).unwrap();
    let plain = |text: &str| {
        let text = text.replace(" (unlimited)", "").replace([',', ' '], "").replace("KiB", "k").replace("MiB", "m");
        text.trim_end_matches('s').to_owned()
    };
    let mut checked = 0;
    for line in page.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, setting, default, _] = cells.as_slice() else { continue };
        let Some(row) = setting.split('`').nth(1).and_then(settings::table::row) else { continue };
        assert_eq!(plain(default), plain(row.default), "{line}");
        checked += 1;
    }
    assert!(checked > 15, "{checked}");
}
