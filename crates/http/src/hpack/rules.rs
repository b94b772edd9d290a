//! Properties of header names for the encoder: their entry in the static table, and how often their values repeat.

use crate::headers::Name;

/// How fields of a name are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// Values that come again go into the table.
    Repeats,
    /// There is a new value in each message: none goes into the table.
    Varies,
    /// Secret: never in a table, here or further on, because a sender of other fields on the same connection could
    /// guess the value by probing the table (RFC 7541 section 7.1).
    Secret,
    /// As [`Habit::Secret`] when the value is so short that guesses might succeed, else as [`Habit::Varies`].
    Cookie,
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Its first index in the static table, or 0.
    pub(super) index: u8,
    pub(super) habit: Habit,
}

/// The rule of all other names.
pub(super) const UNKNOWN: Rule = Rule { index: 0, habit: Habit::Repeats };

const fn rule(index: u8, habit: Habit) -> Rule {
    Rule { index, habit }
}

/// Numbers of names: those of [`Name`], of which [`Name::Other`] has 0, and then of two pseudo-header fields.
pub(super) const ID_METHOD: u8 = 30;
pub(super) const ID_AUTHORITY: u8 = 31;
/// How many numbers there are.
pub(super) const IDS: usize = 32;
const _: () = assert!((Name::XRealIp as u8) < ID_METHOD, "more names are known than there are numbers");

/// The rules of names that have numbers.
#[allow(clippy::indexing_slicing, reason = "evaluated at compile time: out of bounds does not compile")]
static BY_ID: [Rule; IDS] = {
    use Habit::{Cookie, Repeats, Secret, Varies};
    let mut rules = [UNKNOWN; IDS];
    rules[ID_METHOD as usize] = rule(2, Repeats);
    rules[ID_AUTHORITY as usize] = rule(1, Repeats);
    rules[Name::Accept as usize] = rule(19, Repeats);
    rules[Name::Authorization as usize] = rule(23, Secret);
    rules[Name::ContentLength as usize] = rule(28, Varies);
    rules[Name::ContentType as usize] = rule(31, Repeats);
    rules[Name::Cookie as usize] = rule(32, Cookie);
    rules[Name::Date as usize] = rule(33, Varies);
    rules[Name::Expect as usize] = rule(35, Repeats);
    rules[Name::Host as usize] = rule(38, Repeats);
    rules[Name::Server as usize] = rule(54, Repeats);
    rules[Name::TransferEncoding as usize] = rule(57, Repeats);
    rules[Name::Via as usize] = rule(60, Repeats);
    rules
};

/// The rule of the name of a number.
#[inline(always)]
pub(super) fn of_id(id: u8) -> Rule {
    BY_ID.get(usize::from(id)).copied().unwrap_or(UNKNOWN)
}

/// The rule of a name, a token in any case, by its [`name_hash`], and the place among the rules counted from 1; 0 and
/// [`UNKNOWN`] if there is none.
#[inline]
pub(super) fn of(name: &[u8], hash: u64) -> (u8, Rule) {
    let place = PLACES.1.get(slot(hash, PLACES.0)).copied().unwrap_or_default();
    match RULES.get(usize::from(place).wrapping_sub(1)) {
        Some((known, rule)) if alike(known.as_bytes(), name) => (place, *rule),
        _ => (0, UNKNOWN),
    }
}

/// The rule of a place.
#[inline]
pub(super) fn at(place: u8) -> Rule {
    RULES.get(usize::from(place).wrapping_sub(1)).map_or(UNKNOWN, |(_, rule)| *rule)
}

/// Names of the static table, and others with known properties. The encoder also detects values
/// that vary; those listed here are in most messages.
#[allow(clippy::indexing_slicing, reason = "evaluated at compile time: out of bounds does not compile")]
const RULES: &[(&str, Rule)] = {
    use Habit::{Cookie, Repeats, Secret, Varies};
    &[
        ("accept-charset", rule(15, Repeats)),
        ("accept-encoding", rule(16, Repeats)),
        ("accept-language", rule(17, Repeats)),
        ("accept-ranges", rule(18, Repeats)),
        ("accept", BY_ID[Name::Accept as usize]),
        ("access-control-allow-origin", rule(20, Repeats)),
        ("age", rule(21, Varies)),
        ("allow", rule(22, Repeats)),
        ("authorization", BY_ID[Name::Authorization as usize]),
        ("cache-control", rule(24, Repeats)),
        ("content-disposition", rule(25, Repeats)),
        ("content-encoding", rule(26, Repeats)),
        ("content-language", rule(27, Repeats)),
        ("content-length", BY_ID[Name::ContentLength as usize]),
        ("content-location", rule(29, Varies)),
        ("content-range", rule(30, Varies)),
        ("content-type", BY_ID[Name::ContentType as usize]),
        ("cookie", BY_ID[Name::Cookie as usize]),
        ("date", BY_ID[Name::Date as usize]),
        ("etag", rule(34, Varies)),
        ("expect", BY_ID[Name::Expect as usize]),
        ("expires", rule(36, Varies)),
        ("from", rule(37, Repeats)),
        ("host", BY_ID[Name::Host as usize]),
        ("if-match", rule(39, Varies)),
        ("if-modified-since", rule(40, Varies)),
        ("if-none-match", rule(41, Varies)),
        ("if-range", rule(42, Varies)),
        ("if-unmodified-since", rule(43, Varies)),
        ("last-modified", rule(44, Varies)),
        ("link", rule(45, Repeats)),
        ("location", rule(46, Varies)),
        ("max-forwards", rule(47, Repeats)),
        ("proxy-authenticate", rule(48, Repeats)),
        ("proxy-authorization", rule(49, Secret)),
        ("range", rule(50, Varies)),
        ("referer", rule(51, Varies)),
        ("refresh", rule(52, Repeats)),
        ("retry-after", rule(53, Varies)),
        ("server", BY_ID[Name::Server as usize]),
        ("set-cookie", rule(55, Cookie)),
        ("strict-transport-security", rule(56, Repeats)),
        ("transfer-encoding", BY_ID[Name::TransferEncoding as usize]),
        ("user-agent", rule(58, Repeats)),
        ("vary", rule(59, Repeats)),
        ("via", BY_ID[Name::Via as usize]),
        ("www-authenticate", rule(61, Repeats)),
        ("api-key", rule(0, Secret)),
        ("apikey", rule(0, Secret)),
        ("x-api-key", rule(0, Secret)),
        ("b3", rule(0, Varies)),
        ("correlation-id", rule(0, Varies)),
        ("grpc-timeout", rule(0, Varies)),
        ("kong-request-id", rule(0, Varies)),
        ("ratelimit-remaining", rule(0, Varies)),
        ("ratelimit-reset", rule(0, Varies)),
        ("traceparent", rule(0, Varies)),
        ("tracestate", rule(0, Varies)),
        ("uber-trace-id", rule(0, Varies)),
        ("x-amzn-trace-id", rule(0, Varies)),
        ("x-b3-parentspanid", rule(0, Varies)),
        ("x-b3-spanid", rule(0, Varies)),
        ("x-b3-traceid", rule(0, Varies)),
        ("x-cloud-trace-context", rule(0, Varies)),
        ("x-correlation-id", rule(0, Varies)),
        ("x-kong-proxy-latency", rule(0, Varies)),
        ("x-kong-request-id", rule(0, Varies)),
        ("x-kong-response-latency", rule(0, Varies)),
        ("x-kong-upstream-latency", rule(0, Varies)),
        ("x-request-id", rule(0, Varies)),
    ]
};

const SLOTS: usize = 512;

#[allow(clippy::cast_possible_truncation, reason = "the number is less than 2^32")]
const fn slot(hash: u64, factor: u64) -> usize {
    (hash.wrapping_mul(factor) >> 32) as usize % SLOTS
}

/// A factor with which each of the [`RULES`] has a slot of its own, and their places, counted from 1, by slot.
#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated at compile time: out of bounds does not compile, and all numbers are small"
)]
static PLACES: (u64, [u8; SLOTS]) = {
    let mut hashes = [0; RULES.len()];
    let mut at = 0;
    while at < RULES.len() {
        hashes[at] = name_hash(RULES[at].0.as_bytes());
        at += 1;
    }
    let mut factor = 1_u64;
    loop {
        let mut places = [0; SLOTS];
        let mut at = 0;
        while at < RULES.len() && places[slot(hashes[at], factor)] == 0 {
            places[slot(hashes[at], factor)] = at as u8 + 1;
            at += 1;
        }
        if at == RULES.len() {
            break (factor, places);
        }
        factor += 2;
        assert!(factor < 100_000, "two names have the same hash");
    }
};

const CASE: u64 = u64::from_ne_bytes([0x20; 8]);
const MIX: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93, 0xa076_1d64_78bd_642f];

/// A case-insensitive hash of a name. Of names over 24 bytes it covers only a part, so names are compared as well.
pub(super) const fn name_hash(name: &[u8]) -> u64 {
    let (first, last) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => short(name),
    };
    let hash = fold((first | CASE) ^ MIX[0], (last | CASE) ^ MIX[1].wrapping_mul(name.len() as u64 + 1));
    match name.split_at_checked(8) {
        Some((_, rest)) if name.len() > 16 => match rest.first_chunk::<8>() {
            Some(middle) => fold(hash ^ (u64::from_le_bytes(*middle) | CASE), MIX[2]),
            None => hash,
        },
        _ => hash,
    }
}

/// A hash of a field of this [`name_hash`] and value. It need not be secret: a table of hashes has a fixed size, and
/// what it finds is compared.
#[inline]
pub(super) fn field_hash(name: u64, value: &[u8]) -> u64 {
    let mut hash = name ^ (value.len() as u64).wrapping_mul(MIX[1]);
    let (pieces, _) = value.as_chunks::<16>();
    for piece in pieces {
        hash = mix(hash, piece);
    }
    // What is left, together with some of what was before it.
    let (first, last) = match (value.first_chunk::<8>(), value.last_chunk::<8>()) {
        _ if value.len() > 16 => return value.last_chunk::<16>().map_or(hash, |piece| mix(hash, piece)),
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => short(value),
    };
    fold(first ^ hash, last ^ MIX[2])
}

#[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
fn mix(hash: u64, piece: &[u8; 16]) -> u64 {
    let both = u128::from_le_bytes(*piece);
    fold(both as u64 ^ hash, (both >> 64) as u64 ^ MIX[2])
}

/// The bytes of what has at most seven.
const fn short(text: &[u8]) -> (u64, u64) {
    match (text.first_chunk::<4>(), text.last_chunk::<4>(), text) {
        (Some(first), Some(last), _) => (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64),
        (_, _, [a, b, c]) => (u32::from_le_bytes([*a, *b, *c, 0]) as u64, 0),
        (_, _, [a, b]) => (u32::from_le_bytes([*a, *b, 0, 0]) as u64, 0),
        (_, _, [a]) => (*a as u64, 0),
        _ => (0, 0),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// Whether two tokens are the same but for case, of which the first has letters, digits and hyphens alone: what differs
/// from those in the bit of the case only is no character of tokens.
#[inline]
fn alike(known: &[u8], name: &[u8]) -> bool {
    known.len() == name.len() && eights(known, name, |known, name| known | CASE == name | CASE)
}

/// Whether two names are the same but for case; it seldom differs.
#[inline]
pub(super) fn same_name(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (eights(a, b, |a, b| a == b) || a.eq_ignore_ascii_case(b))
}

/// Whether two texts of the same length agree in all their pieces of eight bytes, of which the last may overlap.
#[inline(always)]
fn eights(a: &[u8], b: &[u8], agree: impl Fn(u64, u64) -> bool) -> bool {
    let (Some(a_end), Some(b_end)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) else {
        let (a, b) = (short(a), short(b));
        return agree(a.0, b.0) && agree(a.1, b.1);
    };
    let agree = |a: &[u8; 8], b: &[u8; 8]| agree(u64::from_le_bytes(*a), u64::from_le_bytes(*b));
    agree(a_end, b_end) && a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0).all(|(a, b)| agree(a, b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::known;

    #[test]
    fn names_are_compared_to_their_last_byte() {
        let name = b"abcdefghijklmnopqrstuvwxyz-01234";
        for len in 0..name.len() {
            let name = &name[..len];
            assert!(same_name(name, name) && alike(name, name));
            let upper = name.to_ascii_uppercase();
            assert!(same_name(name, &upper) && alike(name, &upper));
            for at in 0..len {
                let mut other = name.to_vec();
                other[at] = b'_';
                assert!(!same_name(name, &other) && !alike(name, &other), "{}", other.escape_ascii());
            }
            assert!(!same_name(name, &[name, b"a"].concat()) && !alike(name, &[name, b"a"].concat()));
        }
        assert!(!same_name(b"x-@", b"x-`") && !same_name(b"x-^-long-name", b"x-~-long-name"));
    }

    #[test]
    fn every_name_of_the_static_table_has_its_first_index() {
        let named = known::TABLE.iter().enumerate().filter(|(_, known)| known.label.pseudo.is_none());
        for (index, known) in named {
            let (place, of_text) = of(known.name, name_hash(known.name));
            assert_eq!(at(place), of_text);
            assert_eq!(usize::from(of_text.index), index + 1, "{}", known.name.escape_ascii());
            let upper = known.name.to_ascii_uppercase();
            assert_eq!(of(&upper, name_hash(&upper)), (place, of_text));
            let name = Name::of(known.name);
            if name != Name::Other {
                assert_eq!(of_id(name as u8), of_text);
            }
            assert_eq!(known.label.known, name);
        }
        assert_eq!(RULES.iter().filter(|(_, rule)| rule.index != 0).count(), 61 - 14);
    }

    #[test]
    fn other_names_have_no_rule() {
        for name in ["", "a", "x-", "accepu", "accept-", "x-request-ie", "\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}"] {
            assert_eq!(of(name.as_bytes(), name_hash(name.as_bytes())), (0, UNKNOWN), "{name}");
        }
    }
}
