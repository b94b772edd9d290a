//! Reads and rewrites the list of plugins in a family's `lib.rs` as text.

use anyhow::{Context as _, Result, bail};

const DECLARATION: &str = "PLUGINS: &[&PluginDef] =";
const WIDTH_MAX: usize = 120;

/// The modules whose `PLUGIN` is registered, in the order of the list. Empty if there is no list.
pub(crate) fn plugins(lib: &str) -> Vec<String> {
    list(lib).map(|(start, end)| modules(lib.get(start..end).unwrap_or_default())).unwrap_or_default()
}

/// `lib` with a module declared and its `PLUGIN` registered, both in alphabetical order.
pub(super) fn with_plugin(lib: &str, module: &str) -> Result<String> {
    let (start, end) = list(lib).context("lib.rs has no list `PLUGINS: &[&PluginDef] = &[...];`")?;
    let mut modules = modules(lib.get(start..end).unwrap_or_default());
    if modules.iter().any(|m| m == module) {
        bail!("{module} is registered already");
    }
    let at = modules.iter().position(|m| m.as_str() > module).unwrap_or(modules.len());
    modules.insert(at, module.to_owned());
    let (head, tail) = (lib.get(..start).unwrap_or_default(), lib.get(end..).unwrap_or_default());
    let declared = declare(head, module);
    let column = declared.len() - declared.rfind('\n').map_or(0, |at| at + 1);
    Ok(format!("{declared}{}{tail}", expression(&modules, column)))
}

/// The list in rustfmt's format after a `=` that ends at `column`.
fn expression(modules: &[String], column: usize) -> String {
    let items: Vec<_> = modules.iter().map(|m| format!("&{m}::PLUGIN")).collect();
    let one_line = format!("&[{}]", items.join(", "));
    // Either on the same line, with a space before and a semicolon after it, or on a separate line with four spaces
    // before it.
    if column + one_line.len() + 2 <= WIDTH_MAX {
        format!(" {one_line}")
    } else if one_line.len() + 5 <= WIDTH_MAX {
        format!("\n    {one_line}")
    } else {
        format!(" &[\n    {},\n]", items.join(",\n    "))
    }
}

/// The start of the list, just after `=`, and its end, just before `;`.
fn list(lib: &str) -> Option<(usize, usize)> {
    let start = lib.find(DECLARATION)? + DECLARATION.len();
    let end = start + lib.get(start..)?.find(';')?;
    Some((start, end))
}

fn modules(list: &str) -> Vec<String> {
    let inside = list.trim().trim_start_matches("&[").trim_end_matches(']');
    let items = inside.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| item.trim_start_matches('&').trim_end_matches("::PLUGIN").to_owned()).collect()
}

/// Adds `pub mod module;` in order among the module declarations, or after the imports.
fn declare(head: &str, module: &str) -> String {
    let lines: Vec<_> = head.split_inclusive('\n').collect();
    let name_of = |line: &str| {
        let rest = line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod "))?;
        rest.trim_end().strip_suffix(';').filter(|name| *name != "tests").map(str::to_owned)
    };
    let declarations: Vec<_> = lines.iter().enumerate().filter_map(|(at, line)| Some((at, name_of(line)?))).collect();
    let (at, text) = if let Some((at, _)) = declarations.iter().find(|(_, name)| name.as_str() > module) {
        (*at, format!("pub mod {module};\n"))
    } else if let Some((at, _)) = declarations.last() {
        (at + 1, format!("pub mod {module};\n"))
    } else if let Some(import) = lines.iter().rposition(|line| line.starts_with("use ")) {
        (import + 1, format!("\npub mod {module};\n"))
    } else {
        let comment = lines.iter().rposition(|line| line.starts_with("//!")).map_or(0, |at| at + 1);
        (comment, format!("\npub mod {module};\n"))
    };
    let (before, after) = lines.split_at(at.min(lines.len()));
    format!("{}{text}{}", before.concat(), after.concat())
}
