//! The binary encoding of records: MessagePack with field names. It is canonical (equal records have equal bytes), and
//! readers ignore unknown fields.

use std::io;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// Writes the binary encoding.
///
/// # Errors
/// The error of the writer.
pub fn write(record: &impl Serialize, out: &mut impl io::Write) -> Result<(), rmp_serde::encode::Error> {
    record.serialize(&mut rmp_serde::Serializer::new(out).with_struct_map())
}

/// Returns the binary encoding.
///
/// # Errors
/// If a value cannot be encoded. Records can always be encoded.
pub fn encode(record: &impl Serialize) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec_named(record)
}

/// Decodes the binary encoding.
///
/// # Errors
/// If the bytes are not the encoding of a `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}

/// Serializes a number so that the two zeros, which are equal, have one encoding.
pub(crate) fn one_zero<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(*number + 0.0)
}

/// 128-bit numbers as text of 32 hexadecimal digits: JSON and MessagePack have no integers of this width.
pub(crate) mod wide {
    use std::borrow::Cow;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(number: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:032x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

/// Serializes a free-form value with the keys of its objects in order, independent of the order in which they were
/// written.
pub(crate) fn in_key_order<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    InKeyOrder(value).serialize(serializer)
}

/// The same for a shared value.
pub(crate) fn shared_in_key_order<S: Serializer>(value: &Arc<Value>, serializer: S) -> Result<S::Ok, S::Error> {
    in_key_order(value, serializer)
}

struct InKeyOrder<'v>(&'v Value);

impl Serialize for InKeyOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => {
                let mut out = serializer.serialize_map(Some(map.len()))?;
                for (key, value) in sorted(map) {
                    out.serialize_entry(key, &InKeyOrder(value))?;
                }
                out.end()
            }
            Value::Array(list) => {
                let mut out = serializer.serialize_seq(Some(list.len()))?;
                for value in list {
                    out.serialize_element(&InKeyOrder(value))?;
                }
                out.end()
            }
            Value::Number(number) if number.is_f64() => one_zero(&number.as_f64().unwrap_or_default(), serializer),
            other => other.serialize(serializer),
        }
    }
}

fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}
