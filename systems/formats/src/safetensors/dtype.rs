//! How a file's numbers are stored.

use weft_components::TensorFormat;

/// A dtype that the format has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dtype {
    name: &'static str,
    bits: u64,
}

/// Every dtype with the bits of one element. Source: `Dtype` of the `safetensors` crate.
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

/// Dtypes that are formats of weights as well, under the same names.
const FLOATS: [&str; 3] = ["F32", "F16", "BF16"];

impl Dtype {
    /// The dtype of this name, as the header spells it.
    pub fn from_name(name: &str) -> Option<Self> {
        DTYPES.iter().find(|dtype| dtype.name == name).copied()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The same as a format of weights; `None` where the engine has none that is the same.
    pub fn format(self) -> Option<TensorFormat> {
        FLOATS.contains(&self.name).then(|| TensorFormat::from_name(self.name)).flatten()
    }

    /// Names of the dtypes that [`Dtype::format`] knows.
    pub fn readable() -> String {
        FLOATS.join(", ")
    }

    /// Bytes of a tensor of this shape; `None` where they are past what 64 bits count or no whole number.
    pub fn bytes(self, shape: &[u64]) -> Option<u64> {
        let elements = shape.iter().try_fold(1, |product: u64, dimension| product.checked_mul(*dimension))?;
        let bits = elements.checked_mul(self.bits)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}
