//! Ends of streams and of connections.

use super::*;
use crate::h2::error::{Code, H2Error};
use crate::h2::state::Leaving;

#[test]
fn a_goodbye_has_two_steps() {
    let mut hand = Hand::new();
    let slot = hand.open(1, true);
    hand.state.start_graceful_shutdown();
    hand.state.start_graceful_shutdown();
    let frames = hand.frames();
    assert_eq!(frames.len(), 2);
    assert_eq!((frames[0].kind, frames[0].number(0), frames[0].number(4)), (kind::GOAWAY, 0x7fff_ffff, 0));
    assert_eq!(frames[1].kind, kind::PING);
    // Opened before the client received the GOAWAY.
    let late = hand.open(3, true);
    // The acknowledgement of another PING has no effect.
    hand.send(kind::PING, flag::ACK, 0, &[0; 8]);
    assert_eq!(hand.state.leaving, Leaving::Announced);
    hand.send(kind::PING, flag::ACK, 0, &frames[1].payload);
    let frames = hand.frames();
    assert_eq!((frames[0].kind, frames[0].number(0), frames[0].number(4)), (kind::GOAWAY, 3, 0));
    // Too late: ignored without an error; the header tables stay in sync.
    hand.request(5, false, &[("x", "y")]);
    hand.send(kind::DATA, flag::END_STREAM, 5, b"late");
    assert!(hand.frames().is_empty() && hand.state.accepted.is_empty());
    for slot in [slot, late] {
        hand.answer(slot, true);
        hand.state.release(slot, 0);
    }
    assert_eq!((hand.state.streams.used_count(), hand.state.dead), (0, None));
    // A later error does not announce a higher last stream id than the GOAWAY did.
    hand.send(kind::PING, 0, 0, b"");
    let frames = hand.frames();
    let goaway = frames.iter().find(|f| f.kind == kind::GOAWAY).unwrap();
    assert_eq!((goaway.number(0), goaway.number(4)), (3, Code::FRAME_SIZE_ERROR.0));
}

#[test]
fn an_answer_before_the_request_is_over_ends_it_without_error() {
    let mut hand = Hand::new();
    let slot = hand.open(1, false);
    hand.send(kind::DATA, 0, 1, &[0; 1000]);
    hand.answer(slot, true);
    hand.state.release(slot, 0);
    assert_eq!(hand.codes(), (vec![(1, Code::NO_ERROR.0)], None));
    // Late frames of the stream.
    hand.send(kind::DATA, 0, 1, b"late");
    let block = hand.block(&[("x", "y")]);
    hand.send(kind::HEADERS, 5, 1, &block);
    hand.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 1, 0]);
    hand.send(kind::RST_STREAM, 0, 1, &[0; 4]);
    assert_eq!((hand.codes(), hand.state.dead), ((vec![], None), None));
}

#[test]
fn who_gives_up_cancels() {
    let mut hand = Hand::new();
    let slot = hand.open(1, true);
    hand.answer(slot, false);
    hand.state.release(slot, 0);
    let slot = hand.open(3, true);
    hand.state.reset(slot, Code::INTERNAL_ERROR);
    hand.state.reset(slot, Code::INTERNAL_ERROR);
    hand.state.release(slot, 0);
    assert_eq!(hand.codes().0, [(1, Code::CANCEL.0), (3, Code::INTERNAL_ERROR.0)]);
}

#[test]
fn who_holds_a_stream_learns_of_its_end() {
    let mut hand = Hand::new();
    let slot = hand.open(1, false);
    hand.send(kind::RST_STREAM, 0, 1, &Code::CANCEL.0.to_be_bytes());
    assert_eq!(hand.state.streams.get(slot).unwrap().error, Some(H2Error::Reset(Code::CANCEL)));
    assert!(hand.state.send_response(slot, &ResponseHead::new(200), true).is_err());
    hand.state.release(slot, 0);
    let slot = hand.open(3, false);
    hand.give(&[0; 9]);
    assert_eq!(hand.state.streams.get(slot).unwrap().error, hand.state.dead);
    assert!(hand.state.dead.is_some());
    hand.state.release(slot, 0);
    // GOAWAY is the last frame.
    let frames = hand.frames();
    assert_eq!(frames.last().unwrap().kind, kind::GOAWAY);
}

/// The slot of a stream may belong to another one when the rest of its DATA arrives.
#[test]
fn data_of_a_stream_that_was_dropped_in_its_middle_goes_nowhere() {
    let mut hand = Hand::new();
    let slot = hand.open(1, false);
    let mut data = Vec::new();
    frame::head(&mut data, 1_000, kind::DATA, flag::END_STREAM, 1);
    data.extend_from_slice(&[1; 400]);
    hand.give(&data);
    assert_eq!(hand.state.streams.get(slot).unwrap().body.len(), 400);
    hand.state.release(slot, 0);
    let other = hand.state.streams.open(crate::h2::streams::Stream { id: 3, held: true, ..Default::default() });
    assert_eq!(other, slot);
    hand.give(&[1; 600]);
    let stream = hand.state.streams.get(other).unwrap();
    assert_eq!((stream.body.len(), stream.receive_done, hand.state.dead), (0, false, None));
    hand.send(kind::PING, 0, 0, &[0; 8]);
    assert_eq!(hand.frames().last().unwrap().kind, kind::PING);
}
