//! Literals, names and operators, by the grammar of `atc-router`: ordered choice, greedy, no way back.

use std::net::IpAddr;

use cardinal_ir::{Literal, Op};
use ipnet::IpNet;

use super::error::Mistake;

/// Offset and mistake.
pub(super) type Fault = (usize, Mistake);

/// A place in the text.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// Offset of the next byte.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    /// Takes a token, if it is next.
    pub(super) fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn take_while(&mut self, max: usize, fits: impl Fn(u8) -> bool) -> &'t str {
        let rest = self.rest();
        let len = rest.bytes().take(max).take_while(|byte| byte.is_ascii() && fits(*byte)).count();
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    /// A name of a field or function.
    pub(super) fn name(&mut self) -> Option<&'t str> {
        if !self.rest().starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        Some(self.take_while(usize::MAX, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')))
    }

    pub(super) fn operator(&mut self) -> Option<Op> {
        const OPERATORS: [(&str, Op); 11] = [
            ("==", Op::Equal),
            ("!=", Op::NotEqual),
            ("~", Op::Regex),
            ("^=", Op::StartsWith),
            ("=^", Op::EndsWith),
            (">=", Op::GreaterOrEqual),
            (">", Op::Greater),
            ("<=", Op::LessOrEqual),
            ("<", Op::Less),
            ("in", Op::In),
            ("contains", Op::Contains),
        ];
        if self.take("not") {
            let before = self.at;
            self.skip_space();
            return (self.at > before && self.take("in")).then_some(Op::NotIn);
        }
        OPERATORS.iter().find(|(token, _)| self.take(token)).map(|(_, op)| *op)
    }

    pub(super) fn literal(&mut self) -> Result<Literal, Fault> {
        if self.take("\"") {
            return self.string().map(|text| Literal::Text(text.into()));
        }
        if self.take("r#\"") {
            let start = self.at;
            let Some(len) = self.rest().find("\"#") else { return Err((start, Mistake::OpenString)) };
            let text = self.rest().get(..len).unwrap_or_default();
            self.at += len + 2;
            return Ok(Literal::Text(text.into()));
        }
        if let Some(address) = self.address()? {
            return Ok(address);
        }
        self.int()
    }

    fn string(&mut self) -> Result<String, Fault> {
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.at = start + at + 1;
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, 't')) => text.push('\t'),
                    Some(_) => return Err((start + at, Mistake::Escape)),
                    None => break,
                },
                _ => text.push(char),
            }
        }
        Err((start, Mistake::OpenString))
    }

    /// A network or an address, where the text has the shape of one.
    fn address(&mut self) -> Result<Option<Literal>, Fault> {
        let start = self.at;
        let is_v4 = self.shape_v4();
        if !is_v4 && !self.shape_v6() {
            return Ok(None);
        }
        let ip = self.text.get(start..self.at).unwrap_or_default();
        let ip = if is_v4 { ip.parse().map(IpAddr::V4).ok() } else { ip.parse().map(IpAddr::V6).ok() };
        let before_length = *self;
        let length =
            if self.take("/") { self.take_while(if is_v4 { 2 } else { 3 }, |b| b.is_ascii_digit()) } else { "" };
        let wrong = || (start, Mistake::Address("this is not an IP address"));
        if length.is_empty() {
            *self = before_length;
            return ip.map(|ip| Some(Literal::Ip(ip))).ok_or_else(wrong);
        }
        let ip = ip.ok_or_else(wrong)?;
        let net = length.parse().ok().and_then(|length| IpNet::new(ip, length).ok());
        let net = net.ok_or((start, Mistake::Address("the length of the network is too large")))?;
        if net.trunc() != net {
            return Err((start, Mistake::Address("the address has bits outside of the network's prefix")));
        }
        Ok(Some(Literal::Net(net)))
    }

    fn shape_v4(&mut self) -> bool {
        let start = *self;
        for part in 0..4 {
            if (part > 0 && !self.take(".")) || self.take_while(3, |b| b.is_ascii_digit()).is_empty() {
                *self = start;
                return false;
            }
        }
        true
    }

    fn shape_v6(&mut self) -> bool {
        let start = *self;
        if (self.take(":") || !self.take_while(4, |b| b.is_ascii_hexdigit()).is_empty()) && self.take(":") {
            self.take_while(usize::MAX, |b| b.is_ascii_hexdigit() || b == b':');
            return true;
        }
        *self = start;
        false
    }

    /// Decimal, `0x` hexadecimal, or octal with a leading 0; with a minus sign if need be.
    fn int(&mut self) -> Result<Literal, Fault> {
        let start = self.at;
        let negative = self.take("-");
        let is_octal = |byte: u8| matches!(byte, b'0'..=b'7');
        let rest = self.rest().as_bytes();
        let (digits, radix) = match rest {
            [b'0', next, ..] if is_octal(*next) => (self.take_while(usize::MAX, is_octal), 8),
            [b'0', b'x', next, ..] if next.is_ascii_hexdigit() => {
                self.take("0x");
                (self.take_while(usize::MAX, |b| b.is_ascii_hexdigit()), 16)
            }
            _ => (self.take_while(usize::MAX, |b| b.is_ascii_digit()), 10),
        };
        if digits.is_empty() {
            return Err((start, Mistake::Expected("a string, a number, an IP address or a network")));
        }
        let value = i64::from_str_radix(digits, radix).map_err(|_| (start, Mistake::Number))?;
        Ok(Literal::Int(if negative { -value } else { value }))
    }
}
