//! Sizes in bytes as users write them.

use std::str::FromStr;

/// A number of bytes. Parses `8192`, `16k`, `1m`, `2g` (factors of 1024, as nginx and Kong).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// The text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a size: write a number of bytes, or one followed by k, m or g")]
pub struct ParseSizeError(String);

impl FromStr for Size {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, ParseSizeError> {
        let text = text.trim();
        let fail = || ParseSizeError(text.to_owned());
        let (digits, factor) = match text.char_indices().last() {
            Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
            Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
            Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
            _ => (text, 1),
        };
        let number: u64 = digits.parse().map_err(|_| fail())?;
        number.checked_mul(factor).map(Self).ok_or_else(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        assert_eq!("0".parse(), Ok(Size(0)));
        assert_eq!("16k".parse(), Ok(Size(16 * 1024)));
        assert_eq!(" 2M ".parse(), Ok(Size(2 << 20)));
        for bad in ["", "k", "-1", "1t", "99999999999g"] {
            assert!(bad.parse::<Size>().is_err(), "{bad:?}");
        }
    }
}
