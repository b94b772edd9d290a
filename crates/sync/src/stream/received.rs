//! What a [`Client`](super::Client) takes and gives: options, generations, errors.

use std::sync::Arc;

use cardinal_ir::{Ir, Secrets};

use super::history::GenerationId;
use super::report::{NodeInfo, ProtocolVersion, Rejection};
use super::wire::SILENCE_MS_MAX;

/// Bytes that a generation may have on the wire.
const GENERATION_BYTES_MAX: usize = 2 << 30;

/// How a [`Client`](super::Client) behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// What it says about its node.
    pub node: NodeInfo,
    /// The version of the protocol.
    pub protocol: ProtocolVersion,
    /// Subscribe to secrets.
    pub with_secrets: bool,
    /// Milliseconds without a message after which the control plane counts as gone.
    pub silence_ms_max: u64,
    /// Bytes that a generation may have on the wire.
    pub generation_bytes_max: usize,
}

impl ClientOptions {
    /// Those of a data plane of this version of the program.
    pub fn new(node: NodeInfo) -> Self {
        Self {
            node,
            protocol: ProtocolVersion::CURRENT,
            with_secrets: true,
            silence_ms_max: SILENCE_MS_MAX,
            generation_bytes_max: GENERATION_BYTES_MAX,
        }
    }
}

/// Why a connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// A message is not one that may come now.
    #[error("the control plane sent a message that is not expected: {0}")]
    Unexpected(&'static str),
    /// The generation is larger than allowed.
    #[error("the generation is larger than {0} bytes")]
    TooLarge(usize),
    /// An older generation than the one that the node has.
    #[error("the control plane sent generation {theirs}, which is older than {ours}")]
    Older {
        /// Its number.
        theirs: u64,
        /// The number of that which the node has.
        ours: u64,
    },
    /// The records are not those that were announced, even after all of them were sent.
    #[error("the records of generation {0} are not those that the control plane announced")]
    Mismatch(u64),
    /// Nothing came for a long time.
    #[error("the control plane sent nothing for {0} ms")]
    Silent(u64),
}

/// A generation that is complete and verified.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its name.
    pub id: GenerationId,
    /// Its records, without those that are left out.
    pub ir: Arc<Ir>,
    /// Its secrets.
    pub secrets: Secrets,
    /// Records that this version of the program cannot serve, and those that refer to them.
    pub left_out: Vec<Rejection>,
    /// The records are, byte for byte, all those of the control plane.
    pub is_exact: bool,
    /// The connection that it came by, and what to acknowledge it with there.
    pub(super) nonce: (u64, String),
}
