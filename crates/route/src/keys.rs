//! What a route is indexed by: names and path prefixes, one of which each matching request must have.

use std::borrow::Cow;

use cardinal_ir::{Conditions, Field, HostPattern, Literal, Matches, Op, PathMatch, Predicate};
use smallvec::SmallVec;

use crate::checks::{Checks, PathLen};
use crate::pattern::{is_anchored, leading_literals};

/// Bytes of a path that are a key, and how deep a tree of paths can be. What a longer one has more is compared.
pub(crate) const PATH_LEN_MAX: usize = 256;

/// Keys of a route, borrowed from it; an empty list means any value.
#[derive(Debug, Default)]
pub(crate) struct Keys<'r> {
    pub(crate) hosts: List<NameKey<'r>>,
    pub(crate) snis: List<NameKey<'r>>,
    /// Connections without TLS need not have one of the server names.
    pub(crate) clear_without_sni: bool,
    pub(crate) paths: List<Cow<'r, [u8]>>,
    /// A request with one of the hosts matches the route's condition on hosts.
    pub(crate) hosts_decide: bool,
    /// A request with the path, which is the only one, matches the route's condition on paths with this length.
    pub(crate) path_decides: Option<PathLen>,
}

type List<T> = SmallVec<[T; 2]>;

/// A name or a family of names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NameKey<'r> {
    Exact(&'r str),
    Suffix(&'r str),
    Prefix(&'r str),
}

/// Alternatives of one predicate that are taken as keys; more are not worth the space.
const ALTERNATIVES_MAX: usize = 64;

impl<'r> Keys<'r> {
    pub(crate) fn of(matches: &'r Matches) -> Self {
        match matches {
            Matches::Conditions(conditions) => Self::of_conditions(conditions),
            Matches::Predicate(predicate) => {
                let mut keys = Self::default();
                keys.narrow(predicate);
                keys
            }
        }
    }

    /// What is left to check of a request that was found by a key, not by lack of one.
    pub(crate) fn checks(&self, matches: &Matches) -> Checks {
        let all = Checks::of(matches);
        if self.path_decides.is_some() { all.without_path() } else { all }
    }

    fn of_conditions(conditions: &'r Conditions) -> Self {
        let mut paths = List::new();
        for path in &conditions.paths {
            match path {
                PathMatch::Prefix(text) | PathMatch::Exact(text) => paths.push(Cow::Borrowed(text.as_bytes())),
                PathMatch::SegmentPrefix(text) => paths.push(Cow::Borrowed(PathMatch::segments(text).as_bytes())),
                PathMatch::Regex(text) | PathMatch::FullRegex(text) => match leading_literals(text) {
                    Some(literals) => paths.extend(literals.into_iter().map(|text| Cow::Owned(text.into_vec()))),
                    None => {
                        paths.clear();
                        break;
                    }
                },
            }
        }
        let path_decides = match &conditions.paths[..] {
            [PathMatch::Prefix(prefix)] => (prefix.len() <= PATH_LEN_MAX).then(|| PathLen::of(prefix.len())).flatten(),
            _ => None,
        };
        Self {
            hosts: conditions.hosts.iter().map(|host| (&host.host).into()).collect(),
            snis: conditions.snis.iter().map(NameKey::from).collect(),
            clear_without_sni: true,
            paths,
            hosts_decide: conditions.hosts.iter().all(|host| host.port.is_none()),
            path_decides,
        }
    }

    /// Takes keys from the terms that must all hold.
    fn narrow(&mut self, predicate: &'r Predicate) {
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

impl<'r> From<&'r HostPattern> for NameKey<'r> {
    fn from(pattern: &'r HostPattern) -> Self {
        match pattern {
            HostPattern::Exact(text) => Self::Exact(text),
            HostPattern::Suffix(text) => Self::Suffix(text),
            HostPattern::Prefix(text) => Self::Prefix(text),
        }
    }
}

/// Keys of a term, or of all the terms of which one must hold.
fn alternatives<'r, T>(predicate: &'r Predicate, key: &impl Fn(&'r Predicate) -> Option<List<T>>) -> Option<List<T>> {
    let keys = match predicate {
        Predicate::Any(any) if !any.is_empty() => {
            let mut all = List::new();
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

fn name_key<'r>(term: &'r Predicate, wanted: &Field) -> Option<List<NameKey<'r>>> {
    let Predicate::Compare { field, lower: false, op, value: Literal::Text(text), .. } = term else { return None };
    if field != wanted {
        return None;
    }
    let key = match op {
        Op::Equal => NameKey::Exact(text),
        Op::EndsWith => NameKey::Suffix(text),
        Op::StartsWith => NameKey::Prefix(text),
        _ => return None,
    };
    Some(List::from_iter([key]))
}

fn path_keys(term: &Predicate) -> Option<List<Cow<'_, [u8]>>> {
    match term {
        Predicate::Compare { field: Field::Path, lower: false, op, value: Literal::Text(text), .. } => match op {
            Op::Equal | Op::StartsWith => Some(List::from_iter([Cow::Borrowed(text.as_bytes())])),
            Op::Regex if is_anchored(text) => {
                leading_literals(text).map(|all| all.into_iter().map(|text| Cow::Owned(text.into_vec())).collect())
            }
            _ => None,
        },
        _ => None,
    }
}
