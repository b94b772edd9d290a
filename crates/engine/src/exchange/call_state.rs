//! [`CallState`]: the state that all attempts of a request share.

use cardinal_base::Permit;
use cardinal_http::{Failure, Side};

use super::filtered_body::FilteredBody;
use super::replay::Replay;
use crate::policy::retry::BudgetGuard;
use crate::policy::timeouts::{Expiry, Watch};

/// The state shared by all attempts of a request. Requests without retries, budgets or limits do not allocate it.
#[derive(Default)]
pub(crate) struct CallState(pub(crate) Option<Box<Lasting>>);

#[derive(Default)]
pub(crate) struct Lasting {
    /// Limits on the request as a whole.
    pub(crate) watch: Option<Watch>,
    /// The beginning of a streamed body.
    pub(crate) replay: Option<Box<Replay>>,
    /// A streamed body that passes through filters, between two attempts.
    pub(crate) filtered: Option<Box<FilteredBody>>,
    /// Counts the request as active in its cluster, for the retry budget.
    pub(crate) budget: Option<BudgetGuard>,
    /// The permit of a retry in its cluster, from the first retry to the end.
    pub(crate) permit: Option<Permit>,
}

impl CallState {
    /// Takes the state out, so that it can be used in parallel with the rest of the scratch;
    /// [`put_back`](Self::put_back) must follow.
    #[inline]
    pub(crate) fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    #[inline]
    pub(crate) fn put_back(&mut self, taken: Self) {
        // The value is usually empty, which avoids drop code here.
        if let Some(lasting) = taken.0 {
            self.0 = Some(lasting);
        }
    }

    /// Resets the state.
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

    /// Whether a failure counts against the endpoint. The expiry of the maximum lifetime does not, nor does a limit
    /// that expired while waiting for the client.
    pub(crate) fn blames_upstream(&mut self, failure: &Failure) -> bool {
        let is_excused = |watch: &mut Watch| watch.expired() == Some(Expiry::Stream) || watch.is_upstream_excused();
        failure.kind().side() == Side::Upstream && !self.watch().is_some_and(is_excused)
    }
}
