//! What to do, read from the configuration once.

use cardinal_sdk::BuildError;
use serde_json::Value;

use crate::pairs::{split, texts};
use crate::template::{Environment, Template};

/// A name, and the value that goes with it, if there is one.
pub(super) struct Op {
    pub(super) name: Box<str>,
    pub(super) value: Option<Template>,
}

/// The five things that can be done, in the order they are.
#[derive(Default)]
pub(super) struct Ops {
    pub(super) remove: Vec<Op>,
    pub(super) rename: Vec<Op>,
    pub(super) replace: Vec<Op>,
    pub(super) add: Vec<Op>,
    pub(super) append: Vec<Op>,
}

impl Ops {
    /// Those for `headers`, `querystring` or `body`.
    pub(super) fn read(config: &Value, list: &'static str) -> Result<Self, BuildError> {
        let read = |group: &str| -> Result<Vec<Op>, BuildError> {
            texts(config, group, list)
                .enumerate()
                .map(|(at, text)| {
                    let (name, value) = split(text);
                    let value = match value {
                        "" => None,
                        value => Some(Template::parse(value).map_err(|reason| {
                            let path = format!("config.{group}.{list}[{at}]");
                            BuildError::new(path, format!("the value of '{name}': {reason}"))
                        })?),
                    };
                    Ok(Op { name: name.into(), value })
                })
                .collect()
        };
        Ok(Self {
            remove: read("remove")?,
            rename: read("rename")?,
            replace: read("replace")?,
            add: read("add")?,
            append: read("append")?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        [&self.remove, &self.rename, &self.replace, &self.add, &self.append].iter().all(|ops| ops.is_empty())
    }
}

/// Names with rendered values; ops without a value do nothing.
pub(super) fn rendered<'o>(
    ops: &'o [Op],
    environment: &'o Environment<'_>,
) -> impl Iterator<Item = Result<(&'o str, Vec<u8>), String>> + 'o {
    ops.iter().filter_map(|op| {
        let value = op.value.as_ref()?.render(environment);
        Some(value.map(|value| (&*op.name, value)).map_err(|reason| format!("the value of '{}': {reason}", op.name)))
    })
}
