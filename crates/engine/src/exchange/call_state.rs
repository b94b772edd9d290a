//! [`CallState`]: what lasts over all attempts of a request.

use cardinal_base::Permit;
use cardinal_http::{Failure, Side};

use super::filtered_body::FilteredBody;
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
    /// A streamed body that goes through filters, between two attempts.
    pub(crate) filtered: Option<Box<FilteredBody>>,
    /// The request in the counts of its cluster.
    pub(crate) budget: Option<BudgetGuard>,
    /// Its place among the retries of its cluster, from the first retry to the end.
    pub(crate) permit: Option<Permit>,
}

impl CallState {
    /// Takes it out, to be used beside what it belongs to; [`put_back`](Self::put_back) follows.
    #[inline]
    pub(crate) fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    #[inline]
    pub(crate) fn put_back(&mut self, taken: Self) {
        // Mostly there is nothing: then nothing has to be dropped here.
        if let Some(lasting) = taken.0 {
            self.0 = Some(lasting);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        if let Some(lasting) = self.0.take() {
            drop(lasting);
        }
    }

    #[inline]
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

    pub(crate) fn take_filtered(&mut self) -> Option<Box<FilteredBody>> {
        self.0.as_mut()?.filtered.take()
    }

    pub(crate) fn keep_filtered(&mut self, filtered: Option<Box<FilteredBody>>) {
        if filtered.is_some() {
            self.0.get_or_insert_default().filtered = filtered;
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

    /// Whether a failure tells something about the endpoint. That an exchange has reached its maximum lifetime does not, nor
    /// does a limit that has expired while the client was waited for.
    pub(crate) fn blames_upstream(&mut self, failure: &Failure) -> bool {
        let is_excused = |watch: &mut Watch| watch.expired() == Some(Expiry::Stream) || watch.is_upstream_excused();
        failure.kind().side() == Side::Upstream && !self.watch().is_some_and(is_excused)
    }
}
