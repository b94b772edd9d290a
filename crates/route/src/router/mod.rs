//! [`Router`]: the routes of one generation, ready to be matched.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use cardinal_ir::{Code, Diagnostic, Id, Ir, Route, Severity, Traffic};

use crate::explain::{Explanation, explain};
use crate::index::Index;
use crate::pattern::Captures;
use crate::request::Request;
use crate::rule::{Compiled, PathTrace};

/// Routes in falling [`Rank`](cardinal_ir::Rank), and the index over them. Immutable; finding takes no lock.
#[derive(Debug, Default)]
pub struct Router {
    routes: Vec<Arc<Compiled>>,
    index: Index,
}

/// A route that a request matched.
#[derive(Clone, Copy, Debug)]
pub struct Match<'r> {
    /// Id of the record.
    pub id: Id,
    /// The route.
    pub route: &'r Arc<Route>,
    /// Position in the order of ranks; all positions are below [`Router::len`].
    pub index: usize,
    /// Length of the text that a path condition matched, from the start of the path for prefixes and patterns; `None`
    /// where the path did not decide.
    pub path_len: Option<usize>,
    trace: PathTrace<'r>,
}

impl Match<'_> {
    /// What the groups of the pattern that matched the path hold, as ranges of the path; `None` where there are none.
    /// Computed on demand, as few requests need it. `path` is that of the request.
    pub fn captures(&self, path: &[u8]) -> Option<Captures> {
        self.trace.pattern?.captures(path)
    }

    /// Whether [`captures`](Self::captures) would find groups.
    pub fn has_captures(&self) -> bool {
        self.trace.pattern.is_some_and(|pattern| pattern.has_groups())
    }
}

impl Router {
    /// The routes of a generation that are about one kind of traffic. A route whose pattern cannot be used is left
    /// out, and told about; the others work.
    pub fn build(ir: &Ir, traffic: Traffic) -> (Self, Vec<Diagnostic>) {
        Self::default().rebuild(ir, traffic)
    }

    /// Like [`build`](Self::build), taking compiled patterns over from `self` for the records that both share.
    pub fn rebuild(&self, ir: &Ir, traffic: Traffic) -> (Self, Vec<Diagnostic>) {
        let routes = ir.routes.iter().filter(|(_, route)| route.traffic == traffic);
        self.rebuild_from(routes.map(|(id, route)| (*id, Arc::clone(route))))
    }

    /// A router over any routes.
    pub fn from_routes(routes: impl IntoIterator<Item = (Id, Arc<Route>)>) -> (Self, Vec<Diagnostic>) {
        Self::default().rebuild_from(routes)
    }

    fn rebuild_from(&self, routes: impl IntoIterator<Item = (Id, Arc<Route>)>) -> (Self, Vec<Diagnostic>) {
        let old: HashMap<Id, usize> = self.routes.iter().enumerate().map(|(at, old)| (old.id, at)).collect();
        // What stays is kept in its order, so that there is little to sort.
        let mut kept = vec![None; self.routes.len()];
        let mut compiled = Vec::new();
        let mut diagnostics = Vec::new();
        for (id, route) in routes {
            let same = old.get(&id).and_then(|at| Some((kept.get_mut(*at)?, self.routes.get(*at)?)));
            if let Some((slot, same)) = same.filter(|(_, same)| Arc::ptr_eq(&same.route, &route)) {
                *slot = Some(Arc::clone(same));
                continue;
            }
            let origin = route.origin.clone();
            match Compiled::new(id, route) {
                Ok(route) => compiled.push(Arc::new(route)),
                Err(error) => diagnostics.push(Diagnostic {
                    severity: Severity::Error,
                    code: Code::Pattern,
                    origin,
                    path: error.path,
                    message: error.message,
                    hint: None,
                }),
            }
        }
        let mut routes: Vec<Arc<Compiled>> = kept.into_iter().flatten().chain(compiled).collect();
        routes.sort_by_key(|compiled| Reverse((compiled.rank, compiled.id)));
        let index = Index::build(routes.iter().map(|compiled| &compiled.keys));
        (Self { routes, index }, diagnostics)
    }

    /// The route of highest rank that fits.
    pub fn find<'r>(&'r self, request: &Request<'_>) -> Option<Match<'r>> {
        self.index.candidates(request).find_map(|number| {
            let index = usize::try_from(number).ok()?;
            let compiled = self.routes.get(index)?;
            let trace = compiled.matches(request)?;
            Some(Match { id: compiled.id, route: &compiled.route, index, path_len: trace.len, trace })
        })
    }

    /// The route that fits, and up to `losers_max` others that came closest, each with the reasons. Looks at all
    /// routes, so it is for people who ask and not for each request.
    pub fn explain<'r>(&'r self, request: &Request<'_>, losers_max: usize) -> Explanation<'r> {
        explain(self, request, losers_max)
    }

    /// The routes in falling rank, by [`Match::index`].
    pub fn routes(&self) -> impl ExactSizeIterator<Item = (Id, &Arc<Route>)> {
        self.routes.iter().map(|compiled| (compiled.id, &compiled.route))
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    pub(crate) fn compiled(&self) -> &[Arc<Compiled>] {
        &self.routes
    }
}

#[cfg(test)]
mod tests;
