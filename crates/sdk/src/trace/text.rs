//! Formats and parses numbers in headers.

/// The text of a header value, on the stack.
pub(super) struct Text {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl Text {
    /// The longest value is that of [`TraceFormat::Aws`](cardinal_ir::TraceFormat::Aws): 74 bytes.
    const MAX: usize = 96;

    pub(super) const fn new() -> Self {
        Self { bytes: [0; Self::MAX], len: 0 }
    }

    /// Adds bytes, up to the capacity.
    pub(super) fn push(&mut self, bytes: &[u8]) -> &mut Self {
        debug_assert!(self.len + bytes.len() <= Self::MAX, "a header value is longer than any should be");
        for (place, byte) in self.bytes.iter_mut().skip(self.len).zip(bytes) {
            *place = *byte;
        }
        self.len = (self.len + bytes.len()).min(Self::MAX);
        self
    }

    /// Adds the 16 lower-case hex digits of a number.
    pub(super) fn hex(&mut self, number: u64) -> &mut Self {
        let mut digits = [0; 16];
        for (place, shift) in digits.iter_mut().zip((0..16).rev()) {
            *place = b"0123456789abcdef".get((number >> (shift * 4) & 15) as usize).copied().unwrap_or(b'0');
        }
        self.push(&digits)
    }

    /// Adds a number in decimal digits.
    pub(super) fn decimal(&mut self, number: u64) -> &mut Self {
        let (mut digits, mut start, mut rest) = ([b'0'; 20], 19, number);
        for (at, place) in digits.iter_mut().enumerate().rev() {
            (*place, rest, start) = (b'0' + (rest % 10) as u8, rest / 10, at);
            if rest == 0 {
                break;
            }
        }
        self.push(digits.get(start..).unwrap_or_default())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Parses 1 to 32 hex digits in any case.
pub(super) fn parse_hex(digits: &[u8]) -> Option<u128> {
    if digits.is_empty() || digits.len() > 32 {
        return None;
    }
    digits.iter().try_fold(0_u128, |number, digit| Some(number << 4 | u128::from(char::from(*digit).to_digit(16)?)))
}

/// Parses exactly 16 hex digits.
pub(super) fn parse_hex_16(digits: &[u8]) -> Option<u64> {
    if digits.len() == 16 { u64::try_from(parse_hex(digits)?).ok() } else { None }
}

/// Parses a trace id of 16 or 32 hex digits.
pub(super) fn parse_hex_16_or_32(digits: &[u8]) -> Option<u128> {
    if matches!(digits.len(), 16 | 32) { parse_hex(digits) } else { None }
}

/// Parses a decimal number without sign.
pub(super) fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(char::from(*digit).to_digit(10)?))
    })
}
