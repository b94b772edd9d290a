//! Writes JSON text incrementally. Invalid UTF-8 is replaced by replacement characters.

use serde_json::Value;

/// An object being written.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    pub(super) fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    pub(super) fn close(self) {
        self.out.push(b'}');
    }

    fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        push_text(name.as_bytes(), self.out);
        self.out.push(b':');
        self.out
    }

    pub(super) fn text(&mut self, name: &str, value: &[u8]) {
        push_text(value, self.key(name));
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        push_value(&Value::from(value), self.key(name));
    }

    /// A value that is already JSON text.
    pub(super) fn raw(&mut self, name: &str, json: &[u8]) {
        self.key(name).extend_from_slice(json);
    }

    pub(super) fn value(&mut self, name: &str, value: &Value) {
        push_value(value, self.key(name));
    }

    pub(super) fn object(&mut self, name: &str) -> Object<'_> {
        Object::open(self.key(name))
    }

    pub(super) fn array(&mut self, name: &str) -> Array<'_> {
        Array::open(self.key(name))
    }
}

/// A list being written.
pub(super) struct Array<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Array<'o> {
    fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'[');
        Self { out, empty: true }
    }

    pub(super) fn close(self) {
        self.out.push(b']');
    }

    fn next(&mut self) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out
    }

    pub(super) fn text(&mut self, value: &[u8]) {
        push_text(value, self.next());
    }

    pub(super) fn raw(&mut self, json: &[u8]) {
        self.next().extend_from_slice(json);
    }

    pub(super) fn object(&mut self) -> Object<'_> {
        Object::open(self.next())
    }
}

fn push_text(text: &[u8], out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    serde_json::to_writer(out, &String::from_utf8_lossy(text)).unwrap_or_default();
}

fn push_value(value: &Value, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).unwrap_or_default();
}
