//! [`BudgetGuard`]: counts a request for the retry budget of its group.

use std::sync::Arc;

use cardinal_balance::Group;
use cardinal_ir::policy::RetryBudget;

/// Counts a request in progress, and its current retry, until dropped.
pub(crate) struct BudgetGuard {
    group: Arc<Group>,
    worker: usize,
    retrying: bool,
}

impl BudgetGuard {
    /// Counts a request of this worker.
    pub(crate) fn new(group: &Arc<Group>, worker: usize) -> Self {
        group.retries().request_started(worker);
        Self { group: Arc::clone(group), worker, retrying: false }
    }

    /// Starts a retry if the budget allows it; the retry replaces the previous one in the count.
    pub(crate) fn start_retry(&mut self, budget: RetryBudget) -> bool {
        self.end_retry();
        self.retrying = self.group.retries().start_retry(self.worker, budget.percent, budget.min_concurrency);
        self.retrying
    }

    fn end_retry(&mut self) {
        if std::mem::take(&mut self.retrying) {
            self.group.retries().retry_ended(self.worker);
        }
    }
}

impl Drop for BudgetGuard {
    fn drop(&mut self) {
        self.end_retry();
        self.group.retries().request_ended(self.worker);
    }
}
