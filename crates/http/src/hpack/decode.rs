//! [`Decoder`]: header blocks in, fields out.

use super::known::{KNOWN, TABLE};
use super::table::{Label, Table};
use super::{Field, HpackError, TABLE_DEFAULT, huffman};

/// Reads the header blocks of one connection.
pub struct Decoder {
    table: Table,
    table_max: usize,
    name: Scratch,
    value: Scratch,
}

impl Decoder {
    /// `table_max` is the `SETTINGS_HEADER_TABLE_SIZE` that we send, in bytes of RFC accounting: the peer may choose
    /// any size up to it, and has 4096 until it does.
    pub fn new(table_max: usize) -> Self {
        let table = Table::new(TABLE_DEFAULT);
        Self { table, table_max, name: Scratch::default(), value: Scratch::default() }
    }

    /// Reads one complete header block and calls `each` with its fields in order. The whole block is always read, so
    /// that the table stays in step: limits are kept by a caller that counts and then ignores what is too much.
    ///
    /// # Errors
    ///
    /// The connection must be closed; fields may have been passed to `each` before.
    pub fn decode<F: FnMut(Field<'_>)>(&mut self, block: &[u8], mut each: F) -> Result<(), HpackError> {
        let result = self.read(block, &mut each);
        self.name.trim();
        self.value.trim();
        result
    }

    /// Bytes of memory held: at most twice what the table may hold, rounded up to what vectors allocate, and its
    /// entries, and 32 KiB.
    pub fn capacity(&self) -> usize {
        self.table.capacity() + self.name.0.capacity() + self.value.0.capacity()
    }

    fn read<F: FnMut(Field<'_>)>(&mut self, block: &[u8], each: &mut F) -> Result<(), HpackError> {
        let mut rest = if let [0x20..=0x3f, ..] = block { self.size_updates(block)? } else { block };
        while let Some((&first, after)) = rest.split_first() {
            if first & 0x80 != 0 {
                let (index, after) = number(first, 0x7f, after)?;
                rest = after;
                each(self.indexed(index)?);
                continue;
            }
            let (form, mask) = match first >> 4 {
                4.. => (Form::Indexed, 0x3f),
                2..4 => return Err(HpackError::SizeUpdateLate),
                1 => (Form::Never, 0x0f),
                0 => (Form::Plain, 0x0f),
            };
            let (index, after) = number(first, mask, after)?;
            rest = after;
            each(self.literal(form, index, &mut rest)?);
        }
        Ok(())
    }

    /// Reads the updates at the start of a block; what is behind them is returned.
    fn size_updates<'b>(&mut self, mut block: &'b [u8]) -> Result<&'b [u8], HpackError> {
        while let Some((&first @ 0x20..=0x3f, after)) = block.split_first() {
            let (size, after) = number(first, 0x1f, after)?;
            if size > self.table_max {
                return Err(HpackError::SizeUpdateTooLarge);
            }
            self.table.resize(size);
            block = after;
        }
        Ok(block)
    }

    #[inline(always)]
    fn indexed(&self, index: usize) -> Result<Field<'_>, HpackError> {
        // Index 0 becomes the largest number there is.
        let index = index.wrapping_sub(1);
        if let Some(known) = TABLE.get(index) {
            return Ok(field(known.name, known.value, false, known.label));
        }
        let (name, value, label) = self.table.get(index.wrapping_sub(KNOWN)).ok_or(HpackError::NoSuchEntry)?;
        Ok(field(name, value, false, label))
    }

    /// A field of which at least the value is in the block, whose name has this index.
    fn literal<'a, 'b: 'a>(
        &'a mut self,
        form: Form,
        index: usize,
        rest: &mut &'b [u8],
    ) -> Result<Field<'a>, HpackError> {
        let Self { table, name: name_scratch, value: value_scratch, .. } = self;
        let (name, label) = if index == 0 {
            let (text, coded) = string(rest)?;
            let name = if coded { name_scratch.decode(text)? } else { text };
            (name, Label::of(name))
        } else if let Some(known) = TABLE.get(index - 1) {
            (known.name, known.label)
        } else {
            let (name, _, label) = table.get(index - 1 - KNOWN).ok_or(HpackError::NoSuchEntry)?;
            // The entry may have to go for the new one.
            (name_scratch.copy(name), label)
        };
        let (text, coded) = string(rest)?;
        let value = if coded { value_scratch.decode(text)? } else { text };
        let label = label.with_value(value);
        if form == Form::Indexed {
            table.insert(name, value, label);
        }
        Ok(field(name, value, form == Form::Never, label))
    }
}

/// What is to become of a field that is written out (RFC 7541 section 6.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// It goes into the table.
    Indexed,
    /// It does not.
    Plain,
    /// It must not, here or further on.
    Never,
}

#[inline(always)]
fn field<'x>(name: &'x [u8], value: &'x [u8], sensitive: bool, label: Label) -> Field<'x> {
    Field { name, value, sensitive, known: label.known, pseudo: label.pseudo, legal: label.is_legal() }
}

/// A number of which the first byte holds the bits of the mask (RFC 7541 section 5.1), and what is behind it.
#[inline(always)]
fn number(first: u8, mask: u8, rest: &[u8]) -> Result<(usize, &[u8]), HpackError> {
    if first & mask < mask { Ok((usize::from(first & mask), rest)) } else { long_number(mask, rest) }
}

#[cold]
fn long_number(mask: u8, mut rest: &[u8]) -> Result<(usize, &[u8]), HpackError> {
    let mut value = u64::from(mask);
    // Five bytes are 35 bits; no number in use needs more, and zeros in front would be without an end.
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, after) = rest.split_first().ok_or(HpackError::Truncated)?;
        rest = after;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| HpackError::NumberTooLarge)?;
            return Ok((value as usize, rest));
        }
    }
    Err(HpackError::NumberTooLarge)
}

/// Takes a string off the front: its bytes, and whether they are in the Huffman code (RFC 7541 section 5.2).
#[inline]
fn string<'b>(rest: &mut &'b [u8]) -> Result<(&'b [u8], bool), HpackError> {
    let (&first, after) = rest.split_first().ok_or(HpackError::Truncated)?;
    let (len, after) = number(first, 0x7f, after)?;
    let (text, after) = after.split_at_checked(len).ok_or(HpackError::Truncated)?;
    *rest = after;
    Ok((text, first & 0x80 != 0))
}

/// Memory for a string that is not in the block as it is. Its length is that of the longest so far, so that it need not
/// be zeroed each time.
#[derive(Default)]
struct Scratch(Vec<u8>);

impl Scratch {
    /// What is kept from block to block.
    const KEPT_MAX: usize = 16 * 1024;

    fn decode(&mut self, text: &[u8]) -> Result<&[u8], HpackError> {
        let room = huffman::room(text.len());
        if self.0.len() < room {
            self.0.resize(room, 0);
        }
        let len = huffman::decode(text, &mut self.0)?;
        Ok(self.0.get(..len).unwrap_or_default())
    }

    fn copy(&mut self, text: &[u8]) -> &[u8] {
        if self.0.len() < text.len() {
            self.0.resize(text.len(), 0);
        }
        let Some((room, _)) = self.0.split_at_mut_checked(text.len()) else { return &[] };
        room.copy_from_slice(text);
        room
    }

    #[inline]
    fn trim(&mut self) {
        if self.0.len() > Self::KEPT_MAX {
            self.0 = Vec::new();
        }
    }
}
