//! What a route is indexed by: names and path prefixes, one of which each matching request must have.

use cardinal_ir::{Conditions, Field, HostPattern, Literal, Matches, Op, PathMatch, Predicate};

use crate::pattern::{is_anchored, leading_literals};

/// Keys of a route; an empty list stands for any value.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) snis: Vec<HostPattern>,
    /// Connections without TLS need not have one of the server names.
    pub(crate) clear_without_sni: bool,
    pub(crate) paths: Vec<Box<[u8]>>,
}

/// Alternatives of one predicate that are taken as keys; more are not worth the space.
const ALTERNATIVES_MAX: usize = 64;

impl Keys {
    pub(crate) fn of(matches: &Matches) -> Self {
        match matches {
            Matches::Conditions(conditions) => Self::of_conditions(conditions),
            Matches::Predicate(predicate) => {
                let mut keys = Self::default();
                keys.narrow(predicate);
                keys
            }
        }
    }

    fn of_conditions(conditions: &Conditions) -> Self {
        let paths: Option<Vec<_>> = conditions
            .paths
            .iter()
            .map(|path| match path {
                PathMatch::Prefix(prefix) => Some(vec![prefix.as_bytes().into()]),
                PathMatch::Regex(text) => leading_literals(text),
            })
            .collect();
        Self {
            hosts: conditions.hosts.iter().map(|host| host.host.clone()).collect(),
            snis: conditions.snis.clone(),
            clear_without_sni: true,
            paths: paths.unwrap_or_default().concat(),
        }
    }

    /// Takes keys from the terms that must all hold.
    fn narrow(&mut self, predicate: &Predicate) {
        if let Predicate::All(all) = predicate {
            all.iter().for_each(|term| self.narrow(term));
            return;
        }
        if self.hosts.is_empty() {
            self.hosts = alternatives(predicate, &|term| name_key(term, &Field::Host)).unwrap_or_default();
        }
        if self.snis.is_empty() {
            self.snis = alternatives(predicate, &|term| name_key(term, &Field::Sni)).unwrap_or_default();
        }
        if self.paths.is_empty() {
            self.paths = alternatives(predicate, &path_keys).unwrap_or_default();
        }
    }
}

/// Keys of a term, or of all the terms of which one must hold.
fn alternatives<T>(predicate: &Predicate, key: &impl Fn(&Predicate) -> Option<Vec<T>>) -> Option<Vec<T>> {
    let keys = match predicate {
        Predicate::Any(any) if !any.is_empty() => {
            let mut all = Vec::new();
            for term in any {
                all.extend(alternatives(term, key)?);
            }
            all
        }
        Predicate::All(all) => all.iter().find_map(|term| alternatives(term, key))?,
        term => key(term)?,
    };
    (keys.len() <= ALTERNATIVES_MAX).then_some(keys)
}

fn name_key(term: &Predicate, wanted: &Field) -> Option<Vec<HostPattern>> {
    let Predicate::Compare { field, lower: false, op, value: Literal::Text(text), .. } = term else { return None };
    if field != wanted {
        return None;
    }
    let pattern = match op {
        Op::Equal => HostPattern::Exact(text.clone()),
        Op::EndsWith => HostPattern::Suffix(text.clone()),
        Op::StartsWith => HostPattern::Prefix(text.clone()),
        _ => return None,
    };
    Some(vec![pattern])
}

fn path_keys(term: &Predicate) -> Option<Vec<Box<[u8]>>> {
    match term {
        Predicate::Compare { field: Field::Path, lower: false, op, value: Literal::Text(text), .. } => match op {
            Op::Equal | Op::StartsWith => Some(vec![text.as_bytes().into()]),
            Op::Regex if is_anchored(text) => leading_literals(text),
            _ => None,
        },
        _ => None,
    }
}
