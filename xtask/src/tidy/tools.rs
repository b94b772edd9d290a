//! Programs that tests run: each has to be listed in `scripts/tools.txt`, so that it is installed before.

use std::path::Path;

use anyhow::Result;

use super::read;
use crate::problem::Problem;

/// Checks the sources of one test file. For programs with a path, the file name is looked up, too.
pub(super) fn check(place: &str, path: &Path, problems: &mut Vec<Problem>) -> Result<()> {
    for (at, line) in read(path)?.lines().enumerate() {
        let Some(program) = program(line) else { continue };
        let message = format!(
            "runs `{program}`: declare it in scripts/tools.txt and ask for it with `cardinal_test_tools::tools!`"
        );
        problems.push(Problem::new(format!("{place}:{}", at + 1), message));
    }
    Ok(())
}

/// The program that a line runs by a literal name. A shell is part of every system.
fn program(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(concat!("Command::", "new(\""))?;
    let (program, _) = rest.split_once('"')?;
    (!matches!(program, "sh" | "/bin/sh" | "/bin/bash")).then_some(program)
}
