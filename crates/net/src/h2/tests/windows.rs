//! Flow control in both directions.

use super::*;

fn window_updates(frames: &[Frame], stream: u32) -> u32 {
    frames.iter().filter(|f| f.kind == kind::WINDOW_UPDATE && f.stream == stream).map(|f| f.number(0)).sum()
}

#[test]
fn what_is_used_may_be_sent_again() {
    let mut hand = Hand::new();
    let slot = hand.open(1, false);
    (0..4).for_each(|_| hand.send(kind::DATA, 0, 1, &[0; 16_000]));
    assert!(hand.frames().is_empty());
    hand.state.used_up(Some(slot), 32_000);
    assert_eq!(window_updates(&hand.frames(), 1), 0);
    hand.state.used_up(Some(slot), 32_000);
    let frames = hand.frames();
    assert_eq!((window_updates(&frames, 1), window_updates(&frames, 0)), (64_000, 0));
    (0..4).for_each(|_| hand.send(kind::DATA, 0, 1, &[0; 16_000]));
    assert_eq!(hand.state.dead, None);
    // The connection's window is restored, too.
    hand.state.used_up(Some(slot), 64_000);
    (0..3).for_each(|_| hand.send(kind::DATA, 0, 1, &[0; 16_000]));
    hand.state.used_up(Some(slot), 48_000);
    assert!(window_updates(&hand.frames(), 0) >= 131_072);
}

/// No window is lost to streams that are dropped, reset, refused or unknown, with or without padding.
#[test]
fn the_window_of_the_connection_does_not_leak() {
    let mut hand = Hand::new();
    for round in 0..400_u32 {
        let id = round * 2 + 1;
        hand.now_ms += 1_000;
        let slot = hand.open(id, false);
        hand.send(kind::DATA, flag::PADDED, id, &[&[200][..], &[0; 5_200]].concat());
        match round % 5 {
            0 => hand.state.release(slot, 0),
            1 => {
                hand.send(kind::RST_STREAM, 0, id, &[0; 4]);
                hand.state.release(slot, 0);
            }
            2 => {
                hand.send(kind::WINDOW_UPDATE, 0, id, &[0; 4]);
                hand.send(kind::DATA, 0, id, &[0; 3_000]);
                hand.state.release(slot, 0);
            }
            3 => {
                // A handle has received them without consuming them.
                let stream = hand.state.streams.get_mut(slot).unwrap();
                let taken = std::mem::take(&mut stream.body);
                hand.state.release(slot, taken.len());
                hand.send(kind::DATA, 0, id, &[0; 3_000]);
            }
            _ => {
                let taken = std::mem::take(&mut hand.state.streams.get_mut(slot).unwrap().body);
                hand.state.used_up(Some(slot), taken.len());
                hand.answer(slot, true);
                hand.state.release(slot, 0);
                hand.send(kind::DATA, flag::END_STREAM | flag::PADDED, id, &[9; 3_000]);
            }
        }
        hand.frames();
        assert_eq!(hand.state.dead, None, "round {round}");
    }
    assert_eq!(hand.state.window_balance(), i64::from(SETTINGS.connection_window));
}

#[test]
fn nothing_is_sent_over_a_window() {
    let mut hand = Hand::new();
    hand.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]);
    let slot = hand.open(1, true);
    hand.answer(slot, false);
    assert_eq!(hand.body(slot, &[0; 100]), 10);
    assert_eq!(hand.body(slot, &[0; 100]), 0);
    // The window becomes negative.
    hand.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 3]);
    hand.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 7]);
    assert_eq!(hand.body(slot, &[0; 100]), 0);
    hand.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
    assert_eq!(hand.body(slot, &[0; 100]), 1);
    hand.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 3, 0, 0]);
    hand.frames();
    // The connection's window: 65,535 in all.
    let mut sent = 11;
    while let count @ 1.. = hand.body(slot, &[0; 20_000]) {
        sent += count;
        hand.frames();
    }
    assert_eq!(sent, 65_535);
    hand.send(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 5]);
    hand.state.go_on();
    assert_eq!(hand.body(slot, &[0; 100]), 5);
}

/// Streams that wait for the same window send one frame each in turn.
#[test]
fn streams_share_the_connection() {
    let mut hand = Hand::new();
    hand.send(kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 0, 0, 0]);
    hand.frames();
    let slots: Vec<u32> = (0..5).map(|at| hand.open(at * 2 + 1, true)).collect();
    slots.iter().for_each(|slot| hand.answer(*slot, false));
    let mut sent = [0_usize; 5];
    let mut order = slots.clone();
    for _ in 0..2_000 {
        // Each stream sends as much as it may, like a task, in the order of waking.
        for slot in order {
            while let count @ 1.. = hand.body(slot, &[0; 30_000]) {
                sent[slots.iter().position(|s| *s == slot).unwrap()] += count;
            }
        }
        order = hand.state.waiting.iter().copied().collect();
        hand.frames();
        hand.send(kind::WINDOW_UPDATE, 0, 0, &20_000_u32.to_be_bytes());
        hand.state.go_on();
    }
    let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
    assert!(most - least < 200_000 && *least > 5_000_000, "{sent:?}");
}

/// A stream whose window is reduced while it waits for the connection does not block the streams behind it.
#[test]
fn who_may_not_send_does_not_hold_up_others() {
    let mut hand = Hand::new();
    hand.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]);
    let slots: Vec<u32> = (0..9).map(|at| hand.open(at * 2 + 1, true)).collect();
    slots.iter().for_each(|slot| hand.answer(*slot, false));
    for slot in &slots {
        while hand.body(*slot, &[0; 30_000]) > 0 {
            hand.frames();
        }
    }
    hand.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let last = slots[8];
    hand.send(kind::WINDOW_UPDATE, 0, 17, &400_000_u32.to_be_bytes());
    hand.send(kind::WINDOW_UPDATE, 0, 0, &20_000_u32.to_be_bytes());
    hand.frames();
    hand.state.go_on();
    // The others now wait for their own windows.
    slots[..8].iter().for_each(|slot| assert_eq!(hand.body(*slot, &[0; 30_000]), 0));
    let first = hand.body(last, &[0; 30_000]);
    hand.state.go_on();
    assert_eq!((first, first + hand.body(last, &[0; 30_000])), (16_384, 20_000));
}
