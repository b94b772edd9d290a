//! Tasks that do not vanish: a panic in one is caught, logged with the task's name, and ends that task alone.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

/// Runs a task on the current runtime, on any of its threads.
#[allow(clippy::disallowed_methods, reason = "the one place that spawns, so that panics are reported")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(Supervised { name, future: Box::pin(future) })
}

/// Runs a task on this thread's local runtime.
#[allow(clippy::disallowed_methods, reason = "the one place that spawns, so that panics are reported")]
pub fn spawn_local<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + 'static,
{
    tokio::task::spawn_local(Supervised { name, future: Box::pin(future) })
}

struct Supervised<F: ?Sized> {
    name: &'static str,
    future: Pin<Box<F>>,
}

impl<F: Future<Output = ()> + ?Sized> Future for Supervised<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let future = self.future.as_mut();
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(poll) => poll,
            Err(panic) => {
                tracing::error!(task = self.name, panic = panic_text(panic.as_ref()), "a task panicked");
                Poll::Ready(())
            }
        }
    }
}

/// The message of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_only_its_task() {
        let broken = spawn("broken", async { panic!("on purpose") });
        assert!(broken.await.is_ok());
    }
}
