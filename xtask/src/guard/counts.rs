//! [`Counts`]: the file of counts; [`Verdict`]: the result of comparing a count with the file.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result, bail, ensure};

/// The path of the file below the root.
pub(super) const FILE: &str = "benches/guard/counts.txt";

/// Maximum deviation of a count from the file, percent.
pub(super) const PERCENT_MAX: u64 = 3;

/// The heading of the rows.
pub(super) const HEADER: &str = "workload        stored          now    change";

const MADE_BY: &str = "# Counted with ";

/// Instructions per request, for each workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Compiler, target and counter.
    pub(super) made_by: String,
    pub(super) of: BTreeMap<String, u64>,
}

impl Counts {
    /// Parses the file: lines with a name and a number, and comments.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut counts = Self::default();
        for (at, line) in (1..).zip(text.lines().map(str::trim)) {
            if let Some(made_by) = line.strip_prefix(MADE_BY) {
                made_by.clone_into(&mut counts.made_by);
            } else if !line.is_empty() && !line.starts_with('#') {
                let (name, count) = line.split_once(' ').with_context(|| format!("line {at}: no number"))?;
                let count = count.trim().parse().with_context(|| format!("line {at}: `{count}` is no number"))?;
                ensure!(count > 0, "line {at}: a request takes some instructions");
                let earlier = counts.of.insert(name.to_owned(), count);
                ensure!(earlier.is_none(), "line {at}: `{name}` a second time");
            }
        }
        Ok(counts)
    }

    /// Updates these counts: replaces all of them, or some that were counted under the same conditions.
    pub(super) fn updated(mut self, now: Self, whole: bool) -> Result<Self> {
        if whole {
            return Ok(now);
        }
        if self.made_by != now.made_by && !self.of.is_empty() {
            bail!("the others were counted with {}, not with {}: update all", self.made_by, now.made_by);
        }
        self.made_by = now.made_by;
        self.of.extend(now.of);
        Ok(self)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "# Instructions of one request in each fixed workload (benches/guard), in the profile `profiling`.\n\
             # `make check` fails when one grows by more than 3 %. `cargo xtask guard --update` writes this file: commit it\n\
             # with the change that made requests cheaper, or dearer, and say why.\n",
        )?;
        writeln!(f, "{MADE_BY}{}", self.made_by)?;
        self.of.iter().try_for_each(|(name, count)| writeln!(f, "{name} {count}"))
    }
}

/// The result of comparing a count with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Within the tolerance.
    Same,
    Grew,
    Shrank,
    /// Not in the file.
    New,
}

impl Verdict {
    pub(super) fn of(stored: Option<u64>, now: u64) -> Self {
        let Some(stored) = stored else { return Self::New };
        let allowed = u128::from(stored) * u128::from(PERCENT_MAX);
        if u128::from(now.abs_diff(stored)) * 100 <= allowed {
            Self::Same
        } else if now > stored {
            Self::Grew
        } else {
            Self::Shrank
        }
    }
}

/// A row of the table.
pub(super) fn row(name: &str, stored: Option<u64>, now: u64) -> String {
    let now_text = grouped(now);
    let Some(stored) = stored else { return format!("{name:<10} {:>11} {now_text:>12}       new", "-") };
    #[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
    let change = (now as f64 / stored as f64 - 1.0) * 100.0;
    format!("{name:<10} {:>11} {now_text:>12} {change:>+7.1} %", grouped(stored))
}

/// A number with spaces between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
