//! Parses metadata entries: a key, a type id and a value.
//!
//! Source of the layout: the GGUF document of the ggml project, `docs/gguf.md`.

use super::cursor::{Cursor, Place};
use super::{Array, GgufError, Value, ValueType};

/// Smallest size of an entry in bytes: the length of its key, one character, a type id and one byte.
pub(super) const LEAST_ENTRY: u64 = 8 + 1 + 4 + 1;

/// Largest accepted depth of nested arrays. The document sets no limit; known files have one level.
pub(super) const MAX_DEPTH: u32 = 8;

/// Reads one entry. Returns its key, its value, and true if invalid UTF-8 in the value was replaced.
pub(super) fn entry(cursor: &mut Cursor<'_>, index: u64) -> Result<(String, Value, bool), GgufError> {
    let key = cursor.name(Place::Key(index))?;
    let mut reader = ValueReader { cursor, key: &key, lossy: false };
    let value = reader.value()?;
    let lossy = reader.lossy;
    Ok((key, value, lossy))
}

struct ValueReader<'a, 'b> {
    cursor: &'a mut Cursor<'b>,
    key: &'a str,
    lossy: bool,
}

impl<'a> ValueReader<'a, '_> {
    fn place(&self) -> Place<'a> {
        Place::Value(self.key)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let place = self.place();
        self.cursor.array(place)
    }

    fn value_type(&mut self) -> Result<ValueType, GgufError> {
        let id = u32::from_le_bytes(self.fixed()?);
        ValueType::from_id(id).ok_or_else(|| GgufError::ValueType {
            file: self.cursor.file(),
            key: self.key.to_owned(),
            id,
        })
    }

    fn value(&mut self) -> Result<Value, GgufError> {
        Ok(match self.value_type()? {
            ValueType::U8 => Value::U8(u8::from_le_bytes(self.fixed()?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(self.fixed()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.fixed()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.fixed()?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(self.fixed()?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.fixed()?)),
            ValueType::U64 => Value::U64(u64::from_le_bytes(self.fixed()?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.fixed()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.fixed()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.fixed()?)),
            ValueType::Bool => {
                let [byte] = self.fixed()?;
                Value::Bool(self.truth(byte)?)
            }
            ValueType::String => Value::String(self.text()?),
            ValueType::Array => Value::Array(self.array(1)?),
        })
    }

    /// The document says that any other byte means a damaged file or a faulty reader.
    fn truth(&self, byte: u8) -> Result<bool, GgufError> {
        match byte {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(GgufError::Bool { file: self.cursor.file(), key: self.key.to_owned(), value }),
        }
    }

    fn text(&mut self) -> Result<String, GgufError> {
        let place = self.place();
        String::from_utf8(self.cursor.string(place)?).or_else(|error| {
            self.lossy = true;
            Ok(replace_invalid(error.as_bytes()))
        })
    }

    /// Reads an array. `depth` is its nesting depth, 1 for the outermost.
    fn array(&mut self, depth: u32) -> Result<Array, GgufError> {
        if depth > MAX_DEPTH {
            return Err(GgufError::Depth {
                file: self.cursor.file(),
                key: self.key.to_owned(),
                limit: MAX_DEPTH,
            });
        }
        let element = self.value_type()?;
        let count = u64::from_le_bytes(self.fixed()?);
        Ok(match element {
            ValueType::U8 => Array::U8(self.numbers(count, u8::from_le_bytes)?),
            ValueType::I8 => Array::I8(self.numbers(count, i8::from_le_bytes)?),
            ValueType::U16 => Array::U16(self.numbers(count, u16::from_le_bytes)?),
            ValueType::I16 => Array::I16(self.numbers(count, i16::from_le_bytes)?),
            ValueType::U32 => Array::U32(self.numbers(count, u32::from_le_bytes)?),
            ValueType::I32 => Array::I32(self.numbers(count, i32::from_le_bytes)?),
            ValueType::U64 => Array::U64(self.numbers(count, u64::from_le_bytes)?),
            ValueType::I64 => Array::I64(self.numbers(count, i64::from_le_bytes)?),
            ValueType::F32 => Array::F32(self.numbers(count, f32::from_le_bytes)?),
            ValueType::F64 => Array::F64(self.numbers(count, f64::from_le_bytes)?),
            ValueType::Bool => {
                let bytes = self.numbers(count, u8::from_le_bytes)?;
                let mut values = self.vec(count, 0)?;
                for byte in bytes {
                    values.push(self.truth(byte)?);
                }
                Array::Bool(values)
            }
            ValueType::String => {
                let mut values = self.vec(count, element.least_bytes())?;
                for _ in 0..count {
                    values.push(self.text()?);
                }
                Array::String(values)
            }
            ValueType::Array => {
                let mut values = self.vec(count, element.least_bytes())?;
                for _ in 0..count {
                    values.push(self.array(depth + 1)?);
                }
                Array::Array(values)
            }
        })
    }

    fn vec<T>(&self, count: u64, least_bytes: u64) -> Result<Vec<T>, GgufError> {
        self.cursor.vec(count, least_bytes, self.place())
    }

    /// Reads `count` numbers of `N` bytes.
    fn numbers<T, const N: usize>(
        &mut self,
        count: u64,
        number: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, GgufError> {
        let place = self.place();
        let mut values = self.vec(count, N as u64)?;
        let bytes = self.cursor.check_count(count, N as u64, place)?;
        let (numbers, _) = self.cursor.take(bytes, place)?.as_chunks::<N>();
        values.extend(numbers.iter().map(|&bytes| number(bytes)));
        Ok(values)
    }
}

/// Replaces each invalid sequence in `bytes` by U+FFFD, in a string of exact capacity.
fn replace_invalid(bytes: &[u8]) -> String {
    const REPLACEMENT: &str = "\u{FFFD}";
    let parts = || {
        bytes
            .utf8_chunks()
            .flat_map(|chunk| [chunk.valid(), if chunk.invalid().is_empty() { "" } else { REPLACEMENT }])
    };
    let mut text = String::with_capacity(parts().map(str::len).sum());
    text.extend(parts());
    text
}
