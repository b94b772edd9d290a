//! Records one at a time in their binary encoding, for files and streams with whole generations.

use crate::tables::Visit;
use crate::{Id, Ir, RecordKind, Row, Table, binary};

/// Receives the table, the id and the binary encoding of a record.
pub type VisitEncoded<'v, E> = dyn FnMut(RecordKind, Id, &[u8]) -> Result<(), E> + 'v;

impl Ir {
    /// Calls `visit` with the [binary encoding](crate::binary) of each record, table by table and in the order of ids,
    /// until it fails. [`Ir::insert_encoded`] is the inverse.
    ///
    /// The first error of `visit`, or an encoding error.
    /// The first one of `visit`, or that a record has no binary form.
    pub fn for_each_encoded<E: From<rmp_serde::encode::Error>>(
        &self,
        visit: &mut VisitEncoded<'_, E>,
    ) -> Result<(), E> {
        let mut writer = Writer { visit, buffer: Vec::new(), result: Ok(()) };
        self.visit(&mut writer);
        writer.result
    }
}

struct Writer<'w, 'v, E> {
    visit: &'w mut VisitEncoded<'v, E>,
    buffer: Vec<u8>,
    result: Result<(), E>,
}

impl<E: From<rmp_serde::encode::Error>> Visit for Writer<'_, '_, E> {
    fn table<T: Row>(&mut self, table: &Table<T>) {
        for (id, row) in table.iter() {
            if self.result.is_err() {
                return;
            }
            self.buffer.clear();
            self.result = match binary::write(&**row, &mut self.buffer) {
                Ok(()) => (self.visit)(T::KIND, *id, &self.buffer),
                Err(error) => Err(error.into()),
            };
        }
    }
}
