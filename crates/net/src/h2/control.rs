//! Control frames: settings, window updates, resets, pings.

use super::budget::Cost;
use super::error::{Code, H2Error};
use super::frame::{self, FrameHead, PAYLOAD_MAX, WINDOW_MAX, flag, setting};
use super::state::{Leaving, Role, SHUTDOWN_PING, State, broken, protocol};

impl State {
    pub(super) fn on_priority(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), H2Error> {
        let Some(dependency) = payload.first_chunk::<4>().filter(|_| payload.len() == 5) else {
            return Err(broken(Code::FRAME_SIZE_ERROR, "PRIORITY"));
        };
        if head.stream == 0 || u32::from_be_bytes(*dependency) & 0x7fff_ffff == head.stream {
            return Err(protocol("PRIORITY"));
        }
        self.budget.spend(Cost::Frame)
    }

    pub(super) fn on_reset(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), H2Error> {
        let Ok(code) = <[u8; 4]>::try_from(payload) else { return Err(broken(Code::FRAME_SIZE_ERROR, "RST_STREAM")) };
        if head.stream == 0 {
            return Err(protocol("RST_STREAM on no stream"));
        }
        let Some(slot) = self.streams.find(head.stream) else {
            self.check_not_idle(head.stream)?;
            return self.budget.spend(Cost::Frame);
        };
        // On a stream opened by this side, or completed on both sides, a reset only means that no more data is wanted:
        // gRPC servers that respond before the end of the request reset each call this way.
        let expected = self.role == Role::Client
            || self.streams.get(slot).is_some_and(|stream| stream.receive_done && stream.send_done);
        self.end_early(slot, H2Error::Reset(Code(u32::from_be_bytes(code))));
        self.budget.spend(if expected { Cost::Frame } else { Cost::Stream })
    }

    pub(super) fn on_settings(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), H2Error> {
        if head.stream != 0 {
            return Err(protocol("SETTINGS on a stream"));
        }
        let ack = head.has(flag::ACK);
        if (ack && !payload.is_empty()) || !payload.len().is_multiple_of(6) {
            return Err(broken(Code::FRAME_SIZE_ERROR, "SETTINGS"));
        }
        if std::mem::replace(&mut self.settings_seen, true) {
            self.budget.spend(Cost::Frame)?;
        }
        if ack {
            return Ok(());
        }
        for parameter in payload.as_chunks::<6>().0 {
            let [a, b, value @ ..] = *parameter;
            self.on_setting(u16::from_be_bytes([a, b]), u32::from_be_bytes(value))?;
        }
        frame::settings_ack(&mut self.out);
        for opener in self.openers.drain(..) {
            opener.wake();
        }
        Ok(())
    }

    fn on_setting(&mut self, name: u16, value: u32) -> Result<(), H2Error> {
        match name {
            setting::HEADER_TABLE_SIZE => self.encoder.set_table_max(value),
            setting::ENABLE_PUSH if value > 1 || (value == 1 && self.role == Role::Client) => {
                return Err(protocol("ENABLE_PUSH"));
            }
            setting::MAX_CONCURRENT_STREAMS => self.peer_streams_max = value,
            setting::INITIAL_WINDOW_SIZE => {
                let window = i64::from(value);
                let too_large = broken(Code::FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE");
                if window > WINDOW_MAX {
                    return Err(too_large);
                }
                let change = window - std::mem::replace(&mut self.peer_window, window);
                for stream in self.streams.iter_mut().filter(|stream| stream.id != 0) {
                    stream.send_window += change;
                    if stream.send_window > WINDOW_MAX {
                        return Err(too_large);
                    }
                    if change > 0 {
                        stream.wake();
                    }
                }
            }
            setting::MAX_FRAME_SIZE => match usize::try_from(value) {
                // Larger frames would only make streams wait longer for each other.
                Ok(PAYLOAD_MAX..=0xff_ffff) => {}
                _ => return Err(protocol("MAX_FRAME_SIZE")),
            },
            // MAX_HEADER_LIST_SIZE is advisory; unknown settings are ignored.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn on_ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), H2Error> {
        let Ok(data) = <[u8; 8]>::try_from(payload) else { return Err(broken(Code::FRAME_SIZE_ERROR, "PING")) };
        if head.stream != 0 {
            return Err(protocol("PING on a stream"));
        }
        self.budget.spend(Cost::Frame)?;
        if !head.has(flag::ACK) {
            frame::ping(&mut self.out, flag::ACK, data);
        } else if self.leaving == Leaving::Announced && data == SHUTDOWN_PING {
            self.leaving = Leaving::Final;
            self.announced_last = self.last_id;
            frame::goaway(&mut self.out, self.last_id, Code::NO_ERROR.0, "");
        }
        Ok(())
    }

    pub(super) fn on_goaway(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), H2Error> {
        let [last, code] = match payload.first_chunk::<8>() {
            Some([a, b, c, d, code @ ..]) => [u32::from_be_bytes([*a, *b, *c, *d]), u32::from_be_bytes(*code)],
            None => return Err(broken(Code::FRAME_SIZE_ERROR, "GOAWAY")),
        };
        if head.stream != 0 {
            return Err(protocol("GOAWAY on a stream"));
        }
        self.budget.spend(Cost::Frame)?;
        self.peer_leaves = true;
        if self.role == Role::Client {
            let unseen: Vec<u32> =
                self.streams.open_slots().filter(|(id, _)| *id > last & 0x7fff_ffff).map(|(_, slot)| slot).collect();
            for slot in unseen {
                self.end_early(slot, H2Error::GoAway(Code(code)));
            }
            for opener in self.openers.drain(..) {
                opener.wake();
            }
        }
        Ok(())
    }

    pub(super) fn on_window_update(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), H2Error> {
        /// Increments below this are not worth a frame.
        const SMALL: i64 = 256;
        let Ok(step) = <[u8; 4]>::try_from(payload) else {
            return Err(broken(Code::FRAME_SIZE_ERROR, "WINDOW_UPDATE"));
        };
        let step = i64::from(u32::from_be_bytes(step) & 0x7fff_ffff);
        if step < SMALL {
            self.budget.spend(Cost::Frame)?;
        }
        if head.stream == 0 {
            self.send_window += step;
            return match step {
                0 => Err(protocol("WINDOW_UPDATE by nothing")),
                _ if self.send_window > WINDOW_MAX => Err(broken(Code::FLOW_CONTROL_ERROR, "WINDOW_UPDATE")),
                _ => Ok(()),
            };
        }
        let Some(slot) = self.streams.find(head.stream) else {
            return self.check_not_idle(head.stream);
        };
        let Some(stream) = self.streams.get_mut(slot) else { return Ok(()) };
        let blocked = stream.send_window <= 0;
        stream.send_window += step;
        match step {
            0 => self.stream_error(slot, Code::PROTOCOL_ERROR, "WINDOW_UPDATE by nothing"),
            _ if stream.send_window > WINDOW_MAX => {
                self.stream_error(slot, Code::FLOW_CONTROL_ERROR, "a window over its limit")
            }
            _ => {
                if blocked {
                    stream.wake();
                }
                Ok(())
            }
        }
    }
}
