//! Programs and data that tests need from the machine, and the report of tests that were skipped without them.
//!
//! Tools are declared in `scripts/tools.txt`, from which `scripts/install-test-deps.sh` installs them. A test asks with
//! [`tools!`], for optional data with [`data!`]; when something is missing, the skip is printed, and added to the file
//! that `CARDINAL_SKIPS` names. With `CARDINAL_REQUIRE_ALL=1` a missing tool fails the test instead.
//!
//! *Must not know*: what a test does with a tool.
//!
//! Start at [`tools()`]; [`list`] is the format of the file.

mod list;
mod report;

use std::path::{Path, PathBuf};

pub use list::{Probe, Tool, Use, parse};
pub use report::{Need, missing};

/// The list of tools, as it is in the repository.
pub const LIST: &str = include_str!("../../../scripts/tools.txt");

/// The paths of these tools, or `None` if one of them is missing; then the test must end. See [`tools()`].
///
/// ```no_run
/// use cardinal_test_tools::tools;
/// let Some([curl, nginx]) = tools!("curl", "nginx") else { return };
/// ```
#[macro_export]
macro_rules! tools {
    ($($name:expr),+ $(,)?) => { $crate::tools(env!("CARGO_PKG_NAME"), [$($name),+]) };
}

/// The path of optional data, or `None` if it is missing; then the test must end. See [`data()`].
#[macro_export]
macro_rules! data {
    ($path:expr) => {
        $crate::data(env!("CARGO_PKG_NAME"), ::std::path::Path::new(&$path))
    };
}

/// The paths of these tools, or `None` after a report if one of them is missing. `package` is the crate of the test.
///
/// # Panics
/// If a name is not in the list, or if a tool that is not optional is missing and `CARDINAL_REQUIRE_ALL` is set.
#[must_use]
pub fn tools<const N: usize>(package: &str, names: [&str; N]) -> Option<[PathBuf; N]> {
    let found = names.map(|name| (name, find(name)));
    for (name, _) in found.iter().filter(|(_, path)| path.is_none()) {
        let tool = tool(name);
        let need = if tool.uses.contains(&Use::Optional) { Need::Optional } else { Need::Required };
        let advice = if need == Need::Required { "; scripts/install-test-deps.sh installs it" } else { "" };
        missing(package, need, &format!("{name} is not installed{advice}"));
    }
    let paths: Vec<PathBuf> = found.into_iter().filter_map(|(_, path)| path).collect();
    paths.try_into().ok()
}

/// The path of data that may be absent, such as recordings outside the repository; `None` after a report.
#[must_use]
pub fn data(package: &str, path: &Path) -> Option<PathBuf> {
    if path.exists() {
        return Some(path.to_path_buf());
    }
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    missing(package, Need::Optional, &format!("the optional data {name} is not there"));
    None
}

/// The path of a tool; for a Python module that of the interpreter.
///
/// # Panics
/// If the name is not in the list.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    tool(name).probe.find()
}

fn tool(name: &str) -> Tool {
    let all = parse(LIST).unwrap_or_else(|error| panic!("scripts/tools.txt: {error}"));
    let found = all.into_iter().find(|tool| tool.name == name);
    found.unwrap_or_else(|| panic!("`{name}` is not in scripts/tools.txt: declare it there, so that it is installed"))
}

#[cfg(test)]
mod tests;
