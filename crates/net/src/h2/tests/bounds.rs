//! Limits on the work and memory that a peer can cause.

use super::*;
use crate::h2::driver::READ_MAX;
use crate::h2::error::{Code, H2Error};
use crate::h2::sending::OUT_MAX;

/// Number of times that an action is possible before the connection ends, without elapsed time.
fn until_calmed(mut act: impl FnMut(&mut Hand, u32)) -> u32 {
    let mut hand = Hand::new();
    for round in 0..100_000 {
        act(&mut hand, round);
        if let Some(error) = hand.state.dead {
            assert!(matches!(error, H2Error::Connection(Code::ENHANCE_YOUR_CALM, _)), "{error}");
            return round;
        }
        hand.frames();
    }
    panic!("no end");
}

#[test]
fn streams_that_are_reset_at_once() {
    let rounds = until_calmed(|hand, round| {
        let id = round * 2 + 1;
        hand.request(id, false, &[]);
        hand.send(kind::RST_STREAM, 0, id, &Code::CANCEL.0.to_be_bytes());
        while let Some(accepted) = hand.state.accepted.pop_front() {
            hand.state.release(accepted.slot, 0);
        }
    });
    assert_eq!(rounds, 2_000);
}

/// Reset streams count as long as their tasks run.
#[test]
fn work_on_streams_that_are_reset_is_bounded() {
    let mut hand = Hand::new();
    for id in (1..2_000).step_by(2) {
        hand.request(id, false, &[]);
        hand.send(kind::RST_STREAM, 0, id, &[0; 4]);
    }
    assert_eq!((hand.state.accepted.len(), hand.state.streams.open_count()), (20, 0));
    let (resets, goaway) = hand.codes();
    assert_eq!(goaway, None);
    assert!(resets.len() == 980 && resets.iter().all(|(_, code)| *code == Code::REFUSED_STREAM.0));
}

/// Streams that the server itself has to reset (CVE-2025-8671).
#[test]
fn streams_that_we_are_made_to_reset() {
    let rounds = until_calmed(|hand, round| {
        let id = round * 2 + 1;
        hand.request(id, false, &[]);
        hand.send(kind::WINDOW_UPDATE, 0, id, &[0; 4]);
        while let Some(accepted) = hand.state.accepted.pop_front() {
            hand.state.release(accepted.slot, 0);
        }
    });
    assert_eq!(rounds, 20_000 / 11);
    let rounds = until_calmed(|hand, round| {
        let block = hand.block(&[(":method", "GET")]);
        hand.send(kind::HEADERS, 5, round * 2 + 1, &block);
    });
    assert_eq!(rounds, 2_000);
}

#[test]
fn frames_of_no_use() {
    let frames: [(u8, u8, u32, &[u8]); 8] = [
        (kind::PING, 0, 0, &[0; 8]),
        (kind::SETTINGS, 0, 0, &[]),
        (kind::PRIORITY, 0, 9, &[0; 5]),
        (kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        (kind::DATA, 0, 1, &[]),
        (kind::DATA, flag::PADDED, 1, &[3, 0, 0, 0]),
        (99, 0, 0, &[]),
        (kind::GOAWAY, 0, 0, &[0; 8]),
    ];
    for (kind, flags, stream, payload) in frames {
        let rounds = until_calmed(|hand, round| {
            if round == 0 {
                hand.open(1, false);
            }
            hand.send(kind, flags, stream, payload);
        });
        assert_eq!(rounds, 20_000, "{kind}");
    }
}

#[test]
fn time_and_service_make_good() {
    let mut hand = Hand::new();
    for round in 0..20_000 {
        let slot = hand.open(round * 4 + 1, true);
        hand.answer(slot, true);
        hand.state.release(slot, 0);
        hand.request(round * 4 + 3, false, &[]);
        let slot = hand.accept().slot;
        hand.send(kind::RST_STREAM, 0, round * 4 + 3, &[0; 4]);
        hand.state.release(slot, 0);
        hand.frames();
    }
    assert_eq!(hand.state.dead, None);
    for _ in 0..100 {
        hand.now_ms += 1_000;
        (0..2_000).for_each(|_| hand.send(kind::PING, 0, 0, &[0; 8]));
        hand.frames();
    }
    assert_eq!(hand.state.dead, None);
}

#[test]
fn header_blocks_without_end() {
    let mut hand = Hand::new();
    hand.send(kind::HEADERS, 0, 1, b"");
    (0..65).for_each(|_| hand.send(kind::CONTINUATION, 0, 1, b""));
    assert_eq!(hand.codes().1, Some(Code::ENHANCE_YOUR_CALM.0));
    let mut hand = Hand::new();
    hand.send(kind::HEADERS, 0, 1, &[0; 16_000]);
    hand.send(kind::CONTINUATION, 0, 1, &[0; 16_000]);
    assert_eq!(hand.codes().1, Some(Code::ENHANCE_YOUR_CALM.0));
}

#[test]
fn heads_over_the_limit_are_told_and_cost_no_memory() {
    let mut hand = Hand::new();
    let value = "v".repeat(100);
    let fields: Vec<(&str, &str)> = (0..90).map(|_| ("x-long-name", value.as_str())).collect();
    hand.request(1, true, &fields);
    let accepted = hand.accept();
    assert!(accepted.info.oversized && accepted.head.headers.capacity() < 32 * 1024);
    // References of one byte each to a long entry: a header bomb.
    let mut hand = Hand::new();
    let mut block = vec![0x82, 0x84, 0x86, 0x40, 1, b'a', 0x7f, 0x81, 0x1e];
    block.extend_from_slice(&[b'b'; 4_000]);
    block.extend_from_slice(&[0xbe; 10_000]);
    hand.send(kind::HEADERS, 5, 1, &block);
    let accepted = hand.accept();
    assert!(accepted.info.oversized && accepted.head.headers.capacity() < 32 * 1024);
    assert_eq!(hand.state.dead, None);
}

#[test]
fn more_streams_than_allowed_are_refused() {
    let mut hand = Hand::new();
    (0..12).for_each(|at| hand.request(at * 2 + 1, false, &[]));
    assert_eq!(hand.codes(), (vec![(21, 7), (23, 7)], None));
    // These frames were sent before the peer received the resets.
    hand.send(kind::DATA, flag::END_STREAM, 23, b"late");
    assert_eq!(hand.codes(), (vec![], None));
    let slot = hand.accept().slot;
    hand.answer(slot, true);
    hand.state.release(slot, 0);
    hand.request(25, true, &[]);
    assert_eq!(hand.codes().0, [(1, 0)]);
    assert_eq!(hand.state.accepted.len(), 10);
}

#[test]
fn what_waits_to_leave_is_bounded() {
    let mut hand = Hand::new();
    hand.send(kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    hand.send(kind::WINDOW_UPDATE, 0, 0, &[0x70, 0, 0, 0]);
    hand.frames();
    let slot = hand.open(1, true);
    hand.answer(slot, false);
    let mut sent = 0;
    loop {
        match hand.body(slot, &[0; 100_000]) {
            0 => break,
            count => sent += count,
        }
    }
    assert!((OUT_MAX..OUT_MAX + 16_384).contains(&sent), "{sent}");
    const { assert!(READ_MAX > OUT_MAX + 16_384, "answers to frames leave no room") };
    hand.frames();
    hand.state.go_on();
    assert!(hand.body(slot, b"more") > 0);
}

/// Slots, queue entries and memory of streams are released.
#[test]
fn a_long_life_leaves_nothing_behind() {
    let mut hand = Hand::new();
    hand.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    for round in 0..3_000_u32 {
        let ids: Vec<u32> = (0..10).map(|at| (round * 10 + at) * 2 + 1).collect();
        let slots: Vec<u32> = ids.iter().map(|id| hand.open(*id, id % 4 == 1)).collect();
        for (id, slot) in ids.iter().zip(slots) {
            match id % 6 {
                1 => hand.answer(slot, true),
                3 => {
                    hand.answer(slot, false);
                    assert_eq!(hand.body(slot, b"blocked"), 0);
                }
                _ => {}
            }
            hand.state.release(slot, 0);
        }
        hand.now_ms += 1_000;
        hand.frames();
    }
    assert_eq!(hand.state.dead, None);
    let streams = &hand.state.streams;
    assert_eq!((streams.open_count(), streams.used_count(), hand.state.waiting.len()), (0, 0, 0));
}
