//! The header of a safetensors file: names, dtypes, shapes and byte ranges, all checked against the file.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::fmt;
use std::ops::Range;
use weft_platform::storage::Source;

use super::{Dtype, SafetensorsError};

/// Size of the header's length field at the start of the file.
const LENGTH: u64 = 8;

/// Largest accepted header. Source: `MAX_HEADER_SIZE` of the `safetensors` crate.
const MAX_HEADER: u64 = 100_000_000;

/// The only entry that is not a tensor.
const METADATA: &str = "__metadata__";

/// A tensor of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafetensorsTensor {
    /// Its name, unique in the file.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its dimensions, outermost first, as stored in the file. Empty for a scalar. Dimensions may be 0.
    pub shape: Vec<u64>,
    /// Its bytes, from the start of the file. The range is inside the file, has the size of dtype and shape, and does
    /// not overlap another tensor.
    pub range: Range<u64>,
}

/// The checked header of one file.
#[derive(Clone, Debug)]
pub struct SafetensorsHeader {
    /// Name of the file in messages.
    pub file: String,
    /// Its tensors, sorted by name.
    pub tensors: Vec<SafetensorsTensor>,
    /// The strings under `__metadata__`.
    pub metadata: Vec<(String, String)>,
}

/// The entry of a tensor in the header.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Collects the entries while the header is parsed.
#[derive(Default)]
struct Entries {
    tensors: Vec<(String, Entry)>,
    metadata: Vec<(String, String)>,
    /// Name of the entry that is being parsed, for messages.
    current: String,
}

impl SafetensorsHeader {
    /// Reads the header of a file, but none of its data.
    ///
    /// # Errors
    /// A [`SafetensorsError`] that names the file, the tensor and what to do.
    pub fn read(source: &dyn Source) -> Result<Self, SafetensorsError> {
        let file = || source.name().to_owned();
        let len = source.len();
        let truncated = |needed| SafetensorsError::Truncated { file: file(), needed, len };
        if len < LENGTH {
            return Err(truncated(LENGTH));
        }
        let stated = source.read(0..LENGTH)?;
        let bytes = <[u8; 8]>::try_from(&*stated).map_or(0, u64::from_le_bytes);
        if bytes > MAX_HEADER {
            return Err(SafetensorsError::HeaderTooLarge { file: file(), bytes, limit: MAX_HEADER });
        }
        let data = LENGTH + bytes;
        if data > len {
            return Err(truncated(data));
        }
        let mut entries = Entries::default();
        entries.parse(&source.read(LENGTH..data)?).map_err(|reason| SafetensorsError::Header {
            file: file(),
            tensor: entries.current.clone(),
            reason: reason.to_string(),
        })?;
        let Entries { tensors, metadata, .. } = entries;
        let place = |(name, entry)| placed(source.name(), name, entry, data, len - data);
        let mut tensors = tensors.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
        check_overlap(source.name(), &tensors)?;
        tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(SafetensorsError::DuplicateTensor { file: file(), tensor: pair[0].name.clone() });
        }
        Ok(Self { file: file(), tensors, metadata })
    }

    /// Returns the tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&SafetensorsTensor> {
        let found = self.tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name));
        found.ok().and_then(|index| self.tensors.get(index))
    }
}

/// Checks an entry and returns its tensor. The file's data start at `data` and are `len` bytes long.
fn placed(
    file: &str,
    tensor: String,
    entry: Entry,
    data: u64,
    len: u64,
) -> Result<SafetensorsTensor, SafetensorsError> {
    let Entry { dtype, shape, data_offsets: (start, end) } = entry;
    let file = || file.to_owned();
    let Some(dtype) = Dtype::from_name(&dtype) else {
        return Err(SafetensorsError::UnknownDtype { file: file(), tensor, dtype });
    };
    if end.checked_sub(start).is_none_or(|bytes| dtype.bytes(&shape) != Some(bytes)) {
        return Err(SafetensorsError::Size { file: file(), tensor, shape, dtype: dtype.name(), start, end });
    }
    if end > len {
        return Err(SafetensorsError::PastEnd { file: file(), tensor, start, end, len });
    }
    // Cannot overflow: the range is inside the file.
    Ok(SafetensorsTensor { name: tensor, dtype, shape, range: data + start..data + end })
}

fn check_overlap(file: &str, tensors: &[SafetensorsTensor]) -> Result<(), SafetensorsError> {
    // Tensors without elements have no bytes and may be anywhere.
    let mut by_start: Vec<_> = tensors.iter().filter(|tensor| !tensor.range.is_empty()).collect();
    by_start.sort_unstable_by_key(|tensor| tensor.range.start);
    for pair in by_start.windows(2) {
        if let &[first, second] = pair
            && second.range.start < first.range.end
        {
            return Err(SafetensorsError::Overlap {
                file: file.to_owned(),
                tensor: first.name.clone(),
                other: second.name.clone(),
                offset: second.range.start,
            });
        }
    }
    Ok(())
}

impl Entries {
    fn parse(&mut self, header: &[u8]) -> Result<(), serde_json::Error> {
        let mut json = serde_json::Deserializer::from_slice(header);
        json.deserialize_map(&mut *self)?;
        self.current.clear();
        // Converters pad the header with spaces.
        json.end()
    }
}

impl<'de> Visitor<'de> for &mut Entries {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(name) = map.next_key::<String>()? {
            self.current.clone_from(&name);
            if name == METADATA {
                let metadata: std::collections::BTreeMap<String, String> = map.next_value()?;
                self.metadata.extend(metadata);
            } else {
                let entry = map.next_value()?;
                self.tensors.push((name, entry));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_platform::storage::MemorySource;

    /// Makes a file with this header and `data` bytes of data.
    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend((0..data).map(|byte| byte as u8));
        file
    }

    fn read(bytes: Vec<u8>) -> Result<SafetensorsHeader, SafetensorsError> {
        SafetensorsHeader::read(&MemorySource::new("model.safetensors", bytes))
    }

    fn refused(header: &str, data: usize) -> SafetensorsError {
        read(file(header, data)).expect_err(header)
    }

    const GOOD: &str = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,1],"data_offsets":[4,12]},
        "a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"one":{"dtype":"F16","shape":[],"data_offsets":[12,14]},
        "none":{"dtype":"I64","shape":[0,5],"data_offsets":[0,0]}}  "#;

    #[test]
    fn tensors_are_where_the_header_says() {
        let header = read(file(GOOD, 14)).unwrap();
        let data = 8 + GOOD.len() as u64;
        let names: Vec<_> = header.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "none", "one"]);
        let b = header.tensor("b").unwrap();
        assert_eq!(
            (b.dtype.name(), &b.shape[..], b.range.clone()),
            ("F32", &[2, 1][..], data + 4..data + 12)
        );
        assert_eq!(header.tensor("one").unwrap().range, data + 12..data + 14);
        assert!(header.tensor("none").unwrap().dtype.format().is_none());
        assert_eq!(header.tensor("a").unwrap().dtype.format().map(|format| format.name()), Some("BF16"));
        assert_eq!(header.metadata, [("format".to_owned(), "pt".to_owned())]);
        assert!(header.tensor("c").is_none());
    }

    #[test]
    fn a_file_cut_short_anywhere_is_refused() {
        let whole = file(GOOD, 14);
        for len in 0..whole.len() {
            assert!(read(whole[..len].to_vec()).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_length_is_checked_before_memory_is_asked_for() {
        for stated in [u64::MAX, 1 << 63, MAX_HEADER + 1] {
            let mut bytes = stated.to_le_bytes().to_vec();
            bytes.extend(b"{}");
            assert!(
                matches!(read(bytes), Err(SafetensorsError::HeaderTooLarge { bytes, .. }) if bytes == stated)
            );
        }
        let mut bytes = MAX_HEADER.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        assert!(matches!(read(bytes), Err(SafetensorsError::Truncated { len: 10, .. })));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let one = |dtype: &str, shape: &str, offsets: &str| {
            refused(&format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), 16)
        };
        use SafetensorsError as E;
        assert!(matches!(one("F33", "[1]", "[0,4]"), E::UnknownDtype { dtype, .. } if dtype == "F33"));
        for (shape, offsets) in [
            ("[3]", "[0,16]"),
            ("[4]", "[0,12]"),
            ("[4]", "[16,0]"),
            ("[4294967296,4294967296]", "[0,0]"),
            ("[9223372036854775807,3]", "[0,4]"),
        ] {
            assert!(matches!(one("F32", shape, offsets), E::Size { tensor, .. } if tensor == "t"), "{shape}");
        }
        assert!(matches!(one("F4", "[3]", "[0,1]"), E::Size { .. }));
        assert!(matches!(one("F32", "[4]", "[4,20]"), E::PastEnd { len: 16, .. }));
        assert!(matches!(one("F32", "[1]", "[18446744073709551612,18446744073709551615]"), E::Size { .. }));
        for (shape, offsets) in [("[-1]", "[0,4]"), ("[1.5]", "[0,4]"), ("{}", "[0,4]"), ("[1]", "[0]")] {
            assert!(
                matches!(one("F32", shape, offsets), E::Header { tensor, .. } if tensor == "t"),
                "{shape}"
            );
        }
        for header in ["", "[]", "{", "null", "{} {}", r#"{"__metadata__":{"a":1}}"#, r#"{"t":{}}"#, "\u{0}"]
        {
            assert!(matches!(refused(header, 0), E::Header { .. }), "{header}");
        }
        let two = |second: &str, offsets: &str| {
            let entry = |offsets: &str| format!(r#"{{"dtype":"U8","shape":[4],"data_offsets":{offsets}}}"#);
            refused(&format!(r#"{{"t":{},"{second}":{}}}"#, entry("[0,4]"), entry(offsets)), 16)
        };
        assert!(
            matches!(two("u", "[3,7]"), E::Overlap { tensor, other, .. } if (&*tensor, &*other) == ("t", "u"))
        );
        assert!(matches!(two("t", "[4,8]"), E::DuplicateTensor { tensor, .. } if tensor == "t"));
    }
}
