//! What of a route a request has still to be compared with.

use cardinal_ir::Matches;

use crate::explain::Kind;

/// A set of kinds of conditions. A predicate is one [`Kind::Expression`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checks(u16);

/// Kinds by bit, those that are cheap to check first.
const KINDS: [Kind; 10] = [
    Kind::Protocol,
    Kind::Method,
    Kind::Host,
    Kind::Path,
    Kind::Sni,
    Kind::Source,
    Kind::Destination,
    Kind::Header,
    Kind::Query,
    Kind::Expression,
];
const HOST: u16 = 1 << 2;
const PATH: u16 = 1 << 3;
const EXPRESSION: u16 = 1 << 9;

impl Checks {
    /// The kinds of a condition that are not empty.
    pub(crate) fn of(matches: &Matches) -> Self {
        let Matches::Conditions(conditions) = matches else { return Self(EXPRESSION) };
        let kinds = [
            !conditions.wires.is_empty(),
            !conditions.methods.is_empty(),
            !conditions.hosts.is_empty(),
            !conditions.paths.is_empty(),
            !conditions.snis.is_empty(),
            !conditions.sources.is_empty(),
            !conditions.destinations.is_empty(),
            !conditions.headers.is_empty(),
            !conditions.queries.is_empty(),
        ];
        Self(kinds.into_iter().enumerate().fold(0, |bits, (bit, is_there)| bits | u16::from(is_there) << bit))
    }

    pub(crate) fn without_host(self) -> Self {
        Self(self.0 & !HOST)
    }

    pub(crate) fn without_path(self) -> Self {
        Self(self.0 & !PATH)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds, those that are cheap to check first.
    pub(crate) fn kinds(self) -> impl Iterator<Item = Kind> {
        KINDS.into_iter().enumerate().filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, kind)| kind)
    }
}

/// The length of a part of a path, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathLen(u16);

impl PathLen {
    /// No part.
    pub(crate) const NONE: Self = Self(u16::MAX);

    /// `None` where it is too long to be noted.
    pub(crate) fn of(len: usize) -> Option<Self> {
        u16::try_from(len).ok().map(Self).filter(|len| *len != Self::NONE)
    }

    pub(crate) fn get(self) -> Option<usize> {
        (self != Self::NONE).then_some(self.0.into())
    }
}
