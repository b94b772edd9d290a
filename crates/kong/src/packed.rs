//! Entities at rest: a complete entity as a short string of bytes.
//!
//! A map of JSON values takes twenty times the room of the text it was read from. A large configuration holds its
//! entities in this form, and one is unpacked while it is looked at.

use std::collections::HashMap;
use std::sync::Arc;

use cardinal_ir::Id;
use serde_json::{Map, Number, Value};

/// Names of fields that are written as a number. Names that are not among them are written out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Names {
    names: Vec<Box<str>>,
    places: HashMap<Box<str>, u64>,
}

impl Names {
    /// A table of these names. Those that come first take the least room.
    pub(crate) fn new(names: impl IntoIterator<Item = impl Into<Box<str>>>) -> Arc<Self> {
        let mut table = Self::default();
        for name in names {
            let name = name.into();
            if !table.places.contains_key(&name) {
                table.places.insert(name.clone(), table.names.len() as u64);
                table.names.push(name);
            }
        }
        Arc::new(table)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }
}

/// An entity's fields in their order, nested values included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed(Box<[u8]>);

/// What a value starts with.
mod tag {
    pub(super) const NULL: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const UNSIGNED: u8 = 3;
    pub(super) const SIGNED: u8 = 4;
    pub(super) const FLOAT: u8 = 5;
    /// Text of a UUID in its usual form.
    pub(super) const ID: u8 = 6;
    pub(super) const TEXT: u8 = 7;
    pub(super) const LIST: u8 = 8;
    pub(super) const MAP: u8 = 9;
}

/// Length of the usual form of a UUID.
const ID_LEN: usize = 36;

impl Packed {
    pub(crate) fn new(fields: &Map<String, Value>, names: &Names) -> Self {
        let mut out = Vec::with_capacity(128);
        write_map(fields, names, &mut out);
        Self(out.into_boxed_slice())
    }

    /// For [`Self::from_bytes`].
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What another one's [`Self::as_bytes`] are.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// One field. `names` must be the table they were packed with.
    pub(crate) fn get(&self, field: &str, names: &Names) -> Option<Value> {
        let mut reader = Reader { rest: &self.0, names };
        let wanted = names.places.get(field).map(|place| place + 1);
        for _ in 0..reader.number()? {
            let found = match reader.number()? {
                0 => reader.text()? == field,
                place => Some(place) == wanted,
            };
            if found {
                return reader.value();
            }
            reader.skip()?;
        }
        None
    }

    /// The fields again. `names` must be the table they were packed with.
    pub(crate) fn unpack(&self, names: &Names) -> Map<String, Value> {
        let mut reader = Reader { rest: &self.0, names };
        // Bytes are written by this module alone, so nothing is missing.
        reader.map().unwrap_or_default()
    }
}

fn write_map(map: &Map<String, Value>, names: &Names, out: &mut Vec<u8>) {
    write_number(map.len() as u64, out);
    for (name, value) in map {
        match names.places.get(name.as_str()) {
            Some(place) => write_number(place + 1, out),
            None => {
                write_number(0, out);
                write_text(name, out);
            }
        }
        write(value, names, out);
    }
}

fn write(value: &Value, names: &Names, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(tag::NULL),
        Value::Bool(false) => out.push(tag::FALSE),
        Value::Bool(true) => out.push(tag::TRUE),
        Value::Number(number) => write_json_number(number, out),
        Value::String(text) => match usual_id(text) {
            Some(id) => {
                out.push(tag::ID);
                out.extend_from_slice(id.as_bytes());
            }
            None => {
                out.push(tag::TEXT);
                write_text(text, out);
            }
        },
        Value::Array(list) => {
            out.push(tag::LIST);
            write_number(list.len() as u64, out);
            list.iter().for_each(|value| write(value, names, out));
        }
        Value::Object(map) => {
            out.push(tag::MAP);
            write_map(map, names, out);
        }
    }
}

fn write_json_number(number: &Number, out: &mut Vec<u8>) {
    if let Some(n) = number.as_u64() {
        out.push(tag::UNSIGNED);
        write_number(n, out);
    } else if let Some(n) = number.as_i64() {
        out.push(tag::SIGNED);
        out.extend_from_slice(&n.to_le_bytes());
    } else {
        out.push(tag::FLOAT);
        out.extend_from_slice(&number.as_f64().unwrap_or_default().to_le_bytes());
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_number(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Seven bits a byte, the lowest first.
fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The id that a text is the usual form of.
pub(crate) fn usual_id(text: &str) -> Option<Id> {
    if text.len() != ID_LEN || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    text.parse().ok()
}

struct Reader<'p> {
    rest: &'p [u8],
    names: &'p Names,
}

impl<'p> Reader<'p> {
    fn map(&mut self) -> Option<Map<String, Value>> {
        let len = self.number()?;
        let mut map = Map::with_capacity(len as usize);
        for _ in 0..len {
            let name = match self.number()? {
                0 => self.text()?.to_owned(),
                place => self.names.names.get(place as usize - 1)?.to_string(),
            };
            map.insert(name, self.value()?);
        }
        Some(map)
    }

    fn value(&mut self) -> Option<Value> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(match *first {
            tag::NULL => Value::Null,
            tag::FALSE => false.into(),
            tag::TRUE => true.into(),
            tag::UNSIGNED => self.number()?.into(),
            tag::SIGNED => i64::from_le_bytes(self.array()?).into(),
            tag::FLOAT => f64::from_le_bytes(self.array()?).into(),
            tag::ID => Id::from_bytes(self.array()?).to_string().into(),
            tag::TEXT => self.text()?.into(),
            tag::LIST => {
                let len = self.number()?;
                (0..len).map(|_| self.value()).collect::<Option<Vec<_>>>()?.into()
            }
            _ => Value::Object(self.map()?),
        })
    }

    /// Passes over a value.
    fn skip(&mut self) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        match *first {
            tag::NULL | tag::FALSE | tag::TRUE => {}
            tag::UNSIGNED => drop(self.number()?),
            tag::SIGNED | tag::FLOAT => self.bytes(8).map(drop)?,
            tag::ID => self.bytes(16).map(drop)?,
            tag::TEXT => {
                let len = self.number()? as usize;
                self.bytes(len)?;
            }
            tag::LIST => {
                for _ in 0..self.number()? {
                    self.skip()?;
                }
            }
            _ => {
                for _ in 0..self.number()? {
                    if self.number()? == 0 {
                        self.text()?;
                    }
                    self.skip()?;
                }
            }
        }
        Some(())
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Some(number)
    }

    fn text(&mut self) -> Option<&'p str> {
        let len = self.number()? as usize;
        std::str::from_utf8(self.bytes(len)?).ok()
    }

    fn bytes(&mut self, len: usize) -> Option<&'p [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,40}".prop_map(Value::from),
            any::<u128>().prop_map(|n| Id::from_u128(n).to_string().into()),
            any::<u128>().prop_map(|n| Id::from_u128(n).to_string().to_uppercase().into()),
            any::<u128>().prop_map(|n| Id::from_u128(n).simple().to_string().into()),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec(("[a-z]{0,3}|\\PC{0,9}", inner), 0..6)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn fields_come_back_as_they_were(pairs in proptest::collection::vec(("[a-d]{0,2}", values()), 0..8)) {
            let fields: Map<String, Value> = pairs.into_iter().collect();
            let names = Names::new(["a", "b", "aa", "id"]);
            let packed = Packed::new(&fields, &names);
            let again = packed.unpack(&names);
            for (name, value) in &fields {
                let found = packed.get(name, &names);
                prop_assert_eq!(found.as_ref(), Some(value));
            }
            prop_assert_eq!(packed.get("none", &names), None);
            prop_assert_eq!(&again, &fields);
            prop_assert!(again.keys().eq(fields.keys()), "the order stays");
        }
    }
}
