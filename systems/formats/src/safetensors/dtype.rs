//! The element types of safetensors files.

use weft_components::TensorFormat;

/// An element type of the safetensors format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dtype {
    name: &'static str,
    bits: u64,
}

/// All dtypes, with the bits of one element. Source: `Dtype` of the `safetensors` crate.
const DTYPES: [Dtype; 20] = [
    Dtype { name: "BOOL", bits: 8 },
    Dtype { name: "F4", bits: 4 },
    Dtype { name: "F6_E2M3", bits: 6 },
    Dtype { name: "F6_E3M2", bits: 6 },
    Dtype { name: "U8", bits: 8 },
    Dtype { name: "I8", bits: 8 },
    Dtype { name: "F8_E5M2", bits: 8 },
    Dtype { name: "F8_E4M3", bits: 8 },
    Dtype { name: "F8_E8M0", bits: 8 },
    Dtype { name: "I16", bits: 16 },
    Dtype { name: "U16", bits: 16 },
    Dtype { name: "F16", bits: 16 },
    Dtype { name: "BF16", bits: 16 },
    Dtype { name: "I32", bits: 32 },
    Dtype { name: "U32", bits: 32 },
    Dtype { name: "F32", bits: 32 },
    Dtype { name: "C64", bits: 64 },
    Dtype { name: "F64", bits: 64 },
    Dtype { name: "I64", bits: 64 },
    Dtype { name: "U64", bits: 64 },
];

/// Dtypes that are also weight formats, with the same names.
const FLOATS: [&str; 3] = ["F32", "F16", "BF16"];

impl Dtype {
    /// Returns the dtype called `name`, as spelled in a header.
    pub fn from_name(name: &str) -> Option<Self> {
        DTYPES.iter().find(|dtype| dtype.name == name).copied()
    }

    /// Returns its name.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Returns the equal weight format; `None` if the engine has none.
    pub fn format(self) -> Option<TensorFormat> {
        FLOATS.contains(&self.name).then(|| TensorFormat::from_name(self.name)).flatten()
    }

    /// Returns the names of the dtypes that have a weight format, separated by commas.
    pub fn readable() -> String {
        FLOATS.join(", ")
    }

    /// Returns the bytes of a tensor of this shape; `None` if the size overflows 64 bits or is not a whole number of
    /// bytes.
    pub fn bytes(self, shape: &[u64]) -> Option<u64> {
        let elements = shape.iter().try_fold(1, |product: u64, dimension| product.checked_mul(*dimension))?;
        let bits = elements.checked_mul(self.bits)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}
