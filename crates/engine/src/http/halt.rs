//! [`Halt`]: why a request does not get the response of an upstream.

use cardinal_http::{Failure, FailureKind};
use cardinal_sdk::Reply;

/// Why a request does not get the response of an upstream.
#[derive(Debug)]
pub(super) enum Halt {
    /// It failed.
    Failed(Failure),
    /// A filter replied.
    Replied(Box<Reply>),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Halt {
    /// The failure, where a reply is not possible.
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::Replied(_) => Failure::new(FailureKind::Filter, "a plugin replied after the response had begun"),
        }
    }

    /// Replaces the failure.
    pub(super) fn map_failure(self, map: impl FnOnce(Failure) -> Failure) -> Self {
        match self {
            Self::Failed(failure) => Self::Failed(map(failure)),
            replied @ Self::Replied(_) => replied,
        }
    }
}
