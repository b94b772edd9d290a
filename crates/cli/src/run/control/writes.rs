//! [`FilesWriter`]: changes of the Admin API on their way to the source of the configuration, which writes them to files.

use cardinal_control::{FutureOf, WriteError, Writer};
use cardinal_kong::declarative::Change;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

/// Sends changes to the source.
#[derive(Debug)]
pub(super) struct FilesWriter(Sender<WriteRequest>);

/// Changes that are to be written.
#[derive(Debug)]
pub(in crate::run) struct WriteRequest {
    /// The revision of the store that they were decided on.
    pub(in crate::run) revision: u64,
    /// All of them are written, or none.
    pub(in crate::run) changes: Vec<Change>,
    answer: oneshot::Sender<Result<(), WriteError>>,
}

impl WriteRequest {
    /// Tells the client. One that went away needs no answer.
    pub(in crate::run) fn answer(self, result: Result<(), WriteError>) {
        self.answer.send(result).ok();
    }
}

impl FilesWriter {
    pub(super) fn new() -> (Self, Receiver<WriteRequest>) {
        let (requests, received) = channel(1);
        (Self(requests), received)
    }
}

impl Writer for FilesWriter {
    fn write(&self, revision: u64, changes: Vec<Change>) -> FutureOf<'_, Result<(), WriteError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let request = WriteRequest { revision, changes, answer };
            self.0.send(request).await.map_err(|_| WriteError::Ending)?;
            answered.await.map_err(|_| WriteError::Ending)?
        })
    }
}
