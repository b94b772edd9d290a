//! [`CallState`]: what lasts over all attempts of a request.

use cardinal_base::Permit;
use cardinal_http::{Failure, Side};

use super::replay::Replay;
use crate::policy::retry::BudgetGuard;
use crate::policy::timeouts::{Expiry, Watch};

/// What lasts over all attempts of a request. Requests without such policies have none of it.
#[derive(Default)]
pub(crate) struct CallState(pub(crate) Option<Box<Lasting>>);

#[derive(Default)]
pub(crate) struct Lasting {
    /// Limits on the request as a whole.
    pub(crate) watch: Option<Watch>,
    /// The beginning of a streamed body.
    pub(crate) replay: Option<Box<Replay>>,
    /// The request in the counts of its cluster.
    pub(crate) budget: Option<BudgetGuard>,
    /// Its place among the retries of its cluster, from the first retry to the end.
    pub(crate) permit: Option<Permit>,
}

impl CallState {
    pub(crate) fn watch(&mut self) -> Option<&mut Watch> {
        self.0.as_mut()?.watch.as_mut()
    }

    pub(crate) fn take_replay(&mut self) -> Option<Box<Replay>> {
        self.0.as_mut()?.replay.take()
    }

    pub(crate) fn keep_replay(&mut self, replay: Option<Box<Replay>>) {
        if replay.is_some() {
            self.0.get_or_insert_default().replay = replay;
        }
    }

    pub(crate) fn has_permit(&self) -> bool {
        self.0.as_ref().is_some_and(|lasting| lasting.permit.is_some())
    }

    pub(crate) fn keep_permit(&mut self, permit: Option<Permit>) {
        if permit.is_some() {
            self.0.get_or_insert_default().permit = permit;
        }
    }

    /// Whether a failure tells something about the endpoint. That an exchange has reached its maximum lifetime does not.
    pub(crate) fn blames_upstream(&mut self, failure: &Failure) -> bool {
        let by_lifetime = self.watch().is_some_and(|watch| watch.expired() == Some(Expiry::Stream));
        failure.kind().side() == Side::Upstream && !by_lifetime
    }
}
