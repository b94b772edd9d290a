//! [`Fingerprint`]: what two nodes compare to know that they have the same records.

use std::fmt;
use std::str::FromStr;

use cardinal_ir::{Digest, Id, Ir, RecordKind, SecretRef};
use sha2::{Digest as _, Sha256};

use super::wire::SECRET_TYPE;

/// The sum of the hashes of all records, with their types and ids. A change of one record changes the sum by two hashes,
/// whatever the number of records: [`Ir::digest`] reads them all.
///
/// It protects against mistakes, not against a peer that looks for collisions: both sides are authenticated.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    low: u128,
    high: u128,
}

impl Fingerprint {
    /// Of all records.
    pub fn of(ir: &Ir) -> Self {
        let mut sum = Self::default();
        each_version(ir, &mut |kind, id, version| sum.add(kind.type_name(), id, version));
        sum
    }

    /// Adds a record.
    pub fn add(&mut self, type_name: &str, id: Id, version: Digest) {
        self.plus(hash(type_name, id.as_bytes(), version.as_bytes()));
    }

    /// Takes a record out.
    pub fn subtract(&mut self, type_name: &str, id: Id, version: Digest) {
        self.minus(hash(type_name, id.as_bytes(), version.as_bytes()));
    }

    /// Adds a secret. Its reference is derived from it and stands for its version.
    pub fn add_secret(&mut self, reference: SecretRef) {
        self.plus(hash(SECRET_TYPE, reference.to_string().as_bytes(), b""));
    }

    /// Takes a secret out.
    pub fn subtract_secret(&mut self, reference: SecretRef) {
        self.minus(hash(SECRET_TYPE, reference.to_string().as_bytes(), b""));
    }

    /// As bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let both = self.low.to_be_bytes().into_iter().chain(self.high.to_be_bytes());
        bytes.iter_mut().zip(both).for_each(|(to, from)| *to = from);
        bytes
    }

    /// From its bytes; `None` if there are not 32.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (low, high) = bytes.split_first_chunk::<16>()?;
        let high: [u8; 16] = high.try_into().ok()?;
        Some(Self { low: u128::from_be_bytes(*low), high: u128::from_be_bytes(high) })
    }

    fn plus(&mut self, other: Self) {
        self.low = self.low.wrapping_add(other.low);
        self.high = self.high.wrapping_add(other.high);
    }

    fn minus(&mut self, other: Self) {
        self.low = self.low.wrapping_sub(other.low);
        self.high = self.high.wrapping_sub(other.high);
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}{:032x}", self.low, self.high)
    }
}

/// A text is not a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits")]
pub struct NoFingerprint;

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    /// Reads what a fingerprint is displayed as.
    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let (low, high) = text.split_at_checked(32).filter(|_| text.len() == 64).ok_or(NoFingerprint)?;
        let number = |digits| u128::from_str_radix(digits, 16).map_err(|_| NoFingerprint);
        Ok(Self { low: number(low)?, high: number(high)? })
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hash(type_name: &str, name: &[u8], version: &[u8]) -> Fingerprint {
    // Names and versions of a type have one length each.
    let bytes =
        Sha256::new_with_prefix(type_name).chain_update([0]).chain_update(name).chain_update(version).finalize();
    Fingerprint::from_bytes(&bytes).unwrap_or_default()
}

/// Calls `visit` with kind, id and version of each record.
pub(super) fn each_version(ir: &Ir, visit: &mut dyn FnMut(RecordKind, Id, Digest)) {
    let result = ir.for_each_encoded(&mut |kind, id, bytes| {
        visit(kind, id, Digest::of_encoded(bytes));
        Ok::<_, rmp_serde::encode::Error>(())
    });
    // A record that has no binary form does not exist.
    debug_assert!(result.is_ok(), "{result:?}");
}

#[cfg(test)]
mod tests {
    use cardinal_ir::PrincipalGroup;

    use super::*;

    #[test]
    fn a_changed_record_changes_the_sum_as_a_new_sum_would() {
        let (id, mut ir) = (Id::from_u128, Ir::default());
        let group = |name: &str| PrincipalGroup { name: name.into(), ..PrincipalGroup::default() };
        assert_eq!(Fingerprint::of(&ir), Fingerprint::default());
        for number in 0..10 {
            ir.groups.insert(id(number), group("a"));
        }
        let mut sum = Fingerprint::of(&ir);
        let old = ir.get(RecordKind::PrincipalGroup, &id(3)).unwrap();
        ir.groups.insert(id(3), group("b"));
        let new = ir.get(RecordKind::PrincipalGroup, &id(3)).unwrap();
        sum.subtract("PrincipalGroup", id(3), old.digest());
        assert_ne!(sum, Fingerprint::of(&ir));
        sum.add("PrincipalGroup", id(3), new.digest());
        assert_eq!(sum, Fingerprint::of(&ir));
        assert_eq!(Fingerprint::from_bytes(&sum.to_bytes()), Some(sum));
        assert_eq!(Fingerprint::from_bytes(&sum.to_bytes()[1..]), None);
    }
}
