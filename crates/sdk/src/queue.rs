//! Batching queues for what is shipped elsewhere: bounded, retried, drained in the background.
