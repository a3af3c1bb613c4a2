//! The metadata of a file: keys and values in file order, and typed getters.

use std::borrow::Cow;
use std::fmt;

use super::cursor::{Cursor, Place};
use super::parse::{self, LEAST_ENTRY};
use super::{Array, GgufError, Value};

/// The key-value pairs of a file.
///
/// Getters come in pairs: `u32(key)` for a required key, `opt_u32(key)` for an optional one. Both fail if the value has
/// the wrong type. Integers of any width are accepted if they fit, and floats of either width.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// Name of the file for messages.
    file: String,
    /// Keys and values in file order.
    entries: Vec<(String, Value)>,
    /// Indices of `entries`, sorted by key.
    by_key: Vec<usize>,
    /// Indices of `entries` whose strings were not UTF-8.
    lossy: Vec<usize>,
}

impl Metadata {
    /// Reads `count` entries.
    pub(super) fn read(cursor: &mut Cursor<'_>, count: u64) -> Result<Self, GgufError> {
        const PLACE: Place<'_> = Place::Header("the metadata");
        let mut entries: Vec<(String, Value)> = cursor.vec(count, LEAST_ENTRY, PLACE)?;
        let mut lossy = Vec::new();
        for index in 0..count {
            let (key, value, was_lossy) = parse::entry(cursor, index)?;
            if was_lossy {
                tracing::warn!(file = cursor.file(), key, "metadata value is not UTF-8; bytes were replaced");
                lossy.push(entries.len());
            }
            entries.push((key, value));
        }
        Self::index(cursor.file(), entries, lossy)
    }

    /// Makes the metadata of a file that is to be written. `file` is its name in messages.
    ///
    /// # Errors
    /// [`GgufError::DuplicateKey`].
    pub fn new(file: impl Into<String>, entries: Vec<(String, Value)>) -> Result<Self, GgufError> {
        Self::index(file.into(), entries, Vec::new())
    }

    /// Sorts the keys and checks that they are unique.
    fn index(file: String, entries: Vec<(String, Value)>, lossy: Vec<usize>) -> Result<Self, GgufError> {
        let mut by_key: Vec<usize> = (0..entries.len()).collect();
        let key = |index: usize| entries.get(index).map(|(key, _)| key.as_str());
        by_key.sort_unstable_by_key(|&index| (key(index), index));
        for pair in by_key.windows(2) {
            if let &[first, second] = pair
                && key(first) == key(second)
            {
                let key = key(second).unwrap_or_default().to_owned();
                return Err(GgufError::DuplicateKey { file, key });
            }
        }
        Ok(Self { file, entries, by_key, lossy })
    }

    /// Returns the name of the file, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns true if there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns keys and values in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Returns the keys whose strings were not UTF-8, in file order.
    ///
    /// Invalid bytes were replaced by U+FFFD, so that a damaged author's name does not prevent a model from loading. A
    /// tokenizer should refuse its vocabulary if a key of it is among these: different tokens may have become equal.
    pub fn lossy_keys(&self) -> impl Iterator<Item = &str> {
        self.lossy.iter().filter_map(|&index| self.entries.get(index)).map(|(key, _)| key.as_str())
    }

    /// Returns the value of `key`; `None` if the key is missing.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let entry = |index: usize| self.entries.get(index);
        let found =
            self.by_key.binary_search_by(|&index| entry(index).map(|(key, _)| key.as_str()).cmp(&Some(key)));
        found.ok().and_then(|at| self.by_key.get(at)).and_then(|&index| entry(index)).map(|(_, value)| value)
    }

    /// Returns the value of a required key.
    fn needed<T>(&self, key: &str, value: Option<T>) -> Result<T, GgufError> {
        value.ok_or_else(|| GgufError::MissingKey { file: self.file.clone(), key: key.to_owned() })
    }

    fn wrong_type(&self, key: &str, expected: &'static str, found: &Value) -> GgufError {
        let found = match found {
            Value::Array(array) => format!("an array of {} {}", array.len(), array.element_type().name()),
            value => format!("a value of type {}", value.value_type().name()),
        };
        GgufError::WrongType { file: self.file.clone(), key: key.to_owned(), expected, found }
    }

    fn out_of_range(&self, key: &str, expected: &'static str, value: impl fmt::Display) -> GgufError {
        GgufError::OutOfRange {
            file: self.file.clone(),
            key: key.to_owned(),
            value: value.to_string(),
            expected,
        }
    }

    fn opt_integer<T: TryFrom<i128>>(
        &self,
        key: &str,
        expected: &'static str,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let integer = value.integer().ok_or_else(|| self.wrong_type(key, expected, value))?;
        T::try_from(integer).map(Some).map_err(|_| self.out_of_range(key, expected, integer))
    }

    /// Returns the unsigned 32-bit integer at `key`; `None` if the key is missing.
    ///
    /// # Errors
    /// [`GgufError::WrongType`] or [`GgufError::OutOfRange`].
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.opt_integer(key, "a u32")
    }

    /// Returns the unsigned 32-bit integer at `key`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::WrongType`] or [`GgufError::OutOfRange`].
    pub fn u32(&self, key: &str) -> Result<u32, GgufError> {
        self.needed(key, self.opt_u32(key)?)
    }

    /// Returns the unsigned 64-bit integer at `key`; `None` if the key is missing.
    ///
    /// # Errors
    /// As [`Metadata::opt_u32`].
    pub fn opt_u64(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.opt_integer(key, "a u64")
    }

    /// Returns the unsigned 64-bit integer at `key`.
    ///
    /// # Errors
    /// As [`Metadata::u32`].
    pub fn u64(&self, key: &str) -> Result<u64, GgufError> {
        self.needed(key, self.opt_u64(key)?)
    }

    /// Returns the signed 32-bit integer at `key`; `None` if the key is missing.
    ///
    /// # Errors
    /// As [`Metadata::opt_u32`].
    pub fn opt_i32(&self, key: &str) -> Result<Option<i32>, GgufError> {
        self.opt_integer(key, "an i32")
    }

    /// Returns the signed 32-bit integer at `key`.
    ///
    /// # Errors
    /// As [`Metadata::u32`].
    pub fn i32(&self, key: &str) -> Result<i32, GgufError> {
        self.needed(key, self.opt_i32(key)?)
    }

    /// Returns the float at `key`; `None` if the key is missing. It is infinite or NaN if the file says so.
    ///
    /// # Errors
    /// [`GgufError::WrongType`], or [`GgufError::OutOfRange`] if a 64-bit float exceeds the f32 range.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        const EXPECTED: &str = "an f32";
        match self.get(key) {
            None => Ok(None),
            Some(&Value::F32(value)) => Ok(Some(value)),
            Some(&Value::F64(value)) => {
                let narrow = value as f32;
                if value.is_finite() && !narrow.is_finite() {
                    return Err(self.out_of_range(key, EXPECTED, value));
                }
                Ok(Some(narrow))
            }
            Some(value) => Err(self.wrong_type(key, EXPECTED, value)),
        }
    }

    /// Returns the float at `key`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], and as [`Metadata::opt_f32`].
    pub fn f32(&self, key: &str) -> Result<f32, GgufError> {
        self.needed(key, self.opt_f32(key)?)
    }

    /// Returns the boolean at `key`; `None` if the key is missing.
    ///
    /// # Errors
    /// [`GgufError::WrongType`].
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(&Value::Bool(value)) => Ok(Some(value)),
            Some(value) => Err(self.wrong_type(key, "a bool", value)),
        }
    }

    /// Returns the boolean at `key`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`] or [`GgufError::WrongType`].
    pub fn bool(&self, key: &str) -> Result<bool, GgufError> {
        self.needed(key, self.opt_bool(key)?)
    }

    /// Returns the string at `key`; `None` if the key is missing.
    ///
    /// # Errors
    /// [`GgufError::WrongType`].
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(value) => Err(self.wrong_type(key, "a string", value)),
        }
    }

    /// Returns the string at `key`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`] or [`GgufError::WrongType`].
    pub fn str(&self, key: &str) -> Result<&str, GgufError> {
        self.needed(key, self.opt_str(key)?)
    }

    /// Returns the strings at `key`; `None` if the key is missing.
    ///
    /// # Errors
    /// [`GgufError::WrongType`].
    pub fn opt_strings(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::String(values))) => Ok(Some(values)),
            Some(value) => Err(self.wrong_type(key, "an array of strings", value)),
        }
    }

    /// Returns the strings at `key`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`] or [`GgufError::WrongType`].
    pub fn strings(&self, key: &str) -> Result<&[String], GgufError> {
        self.needed(key, self.opt_strings(key)?)
    }

    /// Returns the booleans at `key`; `None` if the key is missing.
    ///
    /// # Errors
    /// [`GgufError::WrongType`].
    pub fn opt_bools(&self, key: &str) -> Result<Option<&[bool]>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::Bool(values))) => Ok(Some(values)),
            Some(value) => Err(self.wrong_type(key, "an array of bools", value)),
        }
    }

    /// Returns the booleans at `key`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`] or [`GgufError::WrongType`].
    pub fn bools(&self, key: &str) -> Result<&[bool], GgufError> {
        self.needed(key, self.opt_bools(key)?)
    }

    /// Converts an array of integers to the requested width.
    fn integers<T: TryFrom<i128>>(
        &self,
        key: &str,
        expected: &'static str,
        value: &Value,
    ) -> Result<Vec<T>, GgufError> {
        fn convert<S: Copy + Into<i128>, T: TryFrom<i128>>(values: &[S]) -> Result<Vec<T>, i128> {
            values.iter().map(|&value| T::try_from(value.into()).map_err(|_| value.into())).collect()
        }
        let converted = match value {
            Value::Array(Array::U8(values)) => convert(values),
            Value::Array(Array::I8(values)) => convert(values),
            Value::Array(Array::U16(values)) => convert(values),
            Value::Array(Array::I16(values)) => convert(values),
            Value::Array(Array::U32(values)) => convert(values),
            Value::Array(Array::I32(values)) => convert(values),
            Value::Array(Array::U64(values)) => convert(values),
            Value::Array(Array::I64(values)) => convert(values),
            value => return Err(self.wrong_type(key, expected, value)),
        };
        converted.map_err(|value| self.out_of_range(key, expected, value))
    }

    /// Returns the unsigned 32-bit integers at `key`; `None` if the key is missing.
    ///
    /// # Errors
    /// [`GgufError::WrongType`], or [`GgufError::OutOfRange`] with the first value that does not fit.
    pub fn opt_u32s(&self, key: &str) -> Result<Option<Cow<'_, [u32]>>, GgufError> {
        Ok(match self.get(key) {
            None => None,
            Some(Value::Array(Array::U32(values))) => Some(values.into()),
            Some(value) => Some(self.integers(key, "an array of u32", value)?.into()),
        })
    }

    /// Returns the unsigned 32-bit integers at `key`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], and as [`Metadata::opt_u32s`].
    pub fn u32s(&self, key: &str) -> Result<Cow<'_, [u32]>, GgufError> {
        self.needed(key, self.opt_u32s(key)?)
    }

    /// Returns the signed 32-bit integers at `key`; `None` if the key is missing.
    ///
    /// # Errors
    /// As [`Metadata::opt_u32s`].
    pub fn opt_i32s(&self, key: &str) -> Result<Option<Cow<'_, [i32]>>, GgufError> {
        Ok(match self.get(key) {
            None => None,
            Some(Value::Array(Array::I32(values))) => Some(values.into()),
            Some(value) => Some(self.integers(key, "an array of i32", value)?.into()),
        })
    }

    /// Returns the signed 32-bit integers at `key`.
    ///
    /// # Errors
    /// As [`Metadata::u32s`].
    pub fn i32s(&self, key: &str) -> Result<Cow<'_, [i32]>, GgufError> {
        self.needed(key, self.opt_i32s(key)?)
    }

    /// Returns the floats at `key`; `None` if the key is missing.
    ///
    /// # Errors
    /// [`GgufError::WrongType`], or [`GgufError::OutOfRange`] with the first 64-bit float that exceeds the f32 range.
    pub fn opt_f32s(&self, key: &str) -> Result<Option<Cow<'_, [f32]>>, GgufError> {
        const EXPECTED: &str = "an array of f32";
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::F32(values))) => Ok(Some(values.into())),
            Some(Value::Array(Array::F64(values))) => {
                let narrow: Vec<f32> = values.iter().map(|&value| value as f32).collect();
                let lost = values
                    .iter()
                    .zip(&narrow)
                    .find(|(value, narrow)| value.is_finite() && !narrow.is_finite());
                match lost {
                    Some((value, _)) => Err(self.out_of_range(key, EXPECTED, value)),
                    None => Ok(Some(narrow.into())),
                }
            }
            Some(value) => Err(self.wrong_type(key, EXPECTED, value)),
        }
    }

    /// Returns the floats at `key`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], and as [`Metadata::opt_f32s`].
    pub fn f32s(&self, key: &str) -> Result<Cow<'_, [f32]>, GgufError> {
        self.needed(key, self.opt_f32s(key)?)
    }
}
