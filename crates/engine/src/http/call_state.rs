//! [`CallState`]: what lasts over all attempts of a request.

use cardinal_base::Permit;
use cardinal_http::{Failure, Side};

use super::forward::Replay;
use super::request_body::FilteredBody;
use crate::policy::retry::BudgetGuard;
use crate::policy::timeouts::{Expiry, Watch};

/// What lasts over all attempts of a request. Requests without such policies have none of it.
#[derive(Default)]
pub(crate) struct CallState(pub(super) Option<Box<Lasting>>);

#[derive(Default)]
pub(super) struct Lasting {
    /// Limits on the request as a whole.
    pub(super) watch: Option<Watch>,
    /// The beginning of a streamed body.
    pub(super) replay: Option<Box<Replay>>,
    /// A streamed body that goes through filters, between two attempts.
    pub(super) filtered: Option<Box<FilteredBody>>,
    /// The request in the counts of its cluster.
    pub(super) budget: Option<BudgetGuard>,
    /// Its place among the retries of its cluster, from the first retry to the end.
    pub(super) permit: Option<Permit>,
}

impl CallState {
    pub(super) fn watch(&mut self) -> Option<&mut Watch> {
        self.0.as_mut()?.watch.as_mut()
    }

    pub(super) fn take_replay(&mut self) -> Option<Box<Replay>> {
        self.0.as_mut()?.replay.take()
    }

    pub(super) fn keep_replay(&mut self, replay: Option<Box<Replay>>) {
        if replay.is_some() {
            self.0.get_or_insert_default().replay = replay;
        }
    }

    pub(super) fn take_filtered(&mut self) -> Option<Box<FilteredBody>> {
        self.0.as_mut()?.filtered.take()
    }

    pub(super) fn keep_filtered(&mut self, filtered: Option<Box<FilteredBody>>) {
        if filtered.is_some() {
            self.0.get_or_insert_default().filtered = filtered;
        }
    }

    pub(super) fn has_permit(&self) -> bool {
        self.0.as_ref().is_some_and(|lasting| lasting.permit.is_some())
    }

    pub(super) fn keep_permit(&mut self, permit: Option<Permit>) {
        if permit.is_some() {
            self.0.get_or_insert_default().permit = permit;
        }
    }

    /// Whether a failure tells something about the endpoint. That an exchange has reached its maximum lifetime does not.
    pub(super) fn blames_upstream(&mut self, failure: &Failure) -> bool {
        let by_lifetime = self.watch().is_some_and(|watch| watch.expired() == Some(Expiry::Stream));
        failure.kind().side() == Side::Upstream && !by_lifetime
    }
}
