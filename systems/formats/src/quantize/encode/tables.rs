//! Encoders of IQ4_NL, IQ4_XS and MXFP4: codes are indices into a table of values.

use super::bits::{put_half, put_nibbles};
use super::search::{Unit, Values, best_scale, by_size_and_mean, inverse, peak, sums};
use super::supers::{Super, scaled};
use weft_components::BlockFormat;
use weft_components::formats::{Iq4Nl, Mxfp4};

/// An ascending table of sixteen values.
#[derive(Clone, Copy, Debug)]
struct Table {
    values: [f32; 16],
    /// The midpoints between neighbouring values.
    halfway: [f32; 15],
}

impl Table {
    const fn new(table: [i8; 16]) -> Self {
        let (mut values, mut halfway) = ([0.0; 16], [0.0; 15]);
        let mut i = 0;
        while i < 16 {
            values[i] = table[i] as f32;
            if i > 0 {
                halfway[i - 1] = (values[i - 1] + values[i]) / 2.0;
            }
            i += 1;
        }
        Self { values, halfway }
    }
}

/// The table of IQ4_NL and IQ4_XS.
const UNEVEN: Table = Table::new(Iq4Nl::TABLE);

/// [`UNEVEN`] as the values of codes.
#[derive(Clone, Copy, Debug)]
struct Uneven;

impl Values for Uneven {
    fn farthest(self) -> f32 {
        UNEVEN.values[0]
    }

    fn step(self) -> f32 {
        1.0
    }

    fn tries(self) -> i32 {
        7
    }

    /// Adds up the steps below `value`, without branches.
    #[inline(always)]
    fn nearest(self, value: f32) -> f32 {
        let mut nearest = UNEVEN.values[0];
        for i in 0..15 {
            let step = UNEVEN.values[i + 1] - UNEVEN.values[i];
            nearest += if value > UNEVEN.halfway[i] { step } else { 0.0 };
        }
        nearest
    }

    #[inline(always)]
    fn code(self, value: f32) -> u8 {
        UNEVEN.halfway.iter().map(|halfway| u8::from(value > *halfway)).sum()
    }
}

/// `w = d value(code)`.
pub(super) fn iq4_nl(x: &[f32], out: &mut [u8]) -> Option<()> {
    let x = x.first_chunk()?;
    let unit = Unit::of(x);
    let parts = unit.parts(x);
    let scale = put_half(out, 0, best_scale(Uneven, &parts, &by_size_and_mean(&parts)) * unit.size)?;
    let inverse = inverse(scale);
    put_nibbles(out.get_mut(2..)?, &x.map(|x| Uneven.code(inverse * x)));
    Some(())
}

/// `w = d s value(code)` for each 32 elements. `s` has 6 bits.
pub(super) fn iq4_xs(x: &[f32], out: &mut [u8]) -> Option<()> {
    out.fill(0);
    let parts: Super<32, 8> = scaled(x, Uneven, by_size_and_mean, 32.0, (&mut *out, 0))?;
    let mut high = 0;
    for (part, scale) in parts.scales.iter().enumerate() {
        let scale = (scale + 32).cast_unsigned();
        high |= u16::from(scale >> 4) << (2 * part);
        *out.get_mut(4 + part / 2)? |= (scale & 15) << (4 * (part % 2));
    }
    out.get_mut(2..4)?.copy_from_slice(&high.to_le_bytes());
    for (bytes, codes) in out.get_mut(8..)?.chunks_exact_mut(16).zip(&parts.codes) {
        put_nibbles(bytes, codes);
    }
    Some(())
}

/// The values of codes 0 to 7 of MXFP4. Codes 8 to 15 are their negatives.
const FLOATS: [f32; 8] = {
    let (mut values, mut i) = ([0.0; 8], 0);
    while i < 8 {
        values[i] = Mxfp4::TABLE[i] as f32;
        i += 1;
    }
    values
};

/// Returns the code of the table value nearest to `value`.
fn float_code(value: f32) -> u8 {
    let size = value.abs();
    let code: u8 = FLOATS.windows(2).map(|pair| u8::from(size > (pair[0] + pair[1]) / 2.0)).sum();
    // Zero gets no sign.
    if value < 0.0 && code > 0 { code | 8 } else { code }
}

/// `w = 2^(e - 127) value(code) / 2`. Of two exponents it takes the one with the least error: the one that puts the
/// largest element into the table's highest binade, or the next one.
pub(super) fn mxfp4(x: &[f32], out: &mut [u8]) -> Option<()> {
    /// The exponent of the highest binade, 4 to 6.
    const UPPERMOST: i32 = 2;
    /// The largest valid exponent.
    const MOST: i32 = 254;
    let x: &[f32; 32] = x.first_chunk()?;
    let low = (peak(x).to_bits() >> 23 & 0xff) as i32 - UPPERMOST;
    let mut best = (f32::INFINITY, 0, [0; 32]);
    // Errors are measured in steps of the first exponent. A step of the second is twice as large.
    for (exponent, square) in [(low, 1.0), (low + 1, 4.0)] {
        let exponent = exponent.clamp(0, MOST) as u8;
        let inverse = inverse(Mxfp4::codes(&[exponent; Mxfp4::BYTES], 0).scale);
        let codes = x.map(|x| float_code(inverse * x));
        let [error] = sums::<32, 1>(|i| {
            let error = x[i] * inverse - f32::from(Mxfp4::TABLE[usize::from(codes[i])]);
            [square * error * error]
        });
        if error < best.0 {
            best = (error, exponent, codes);
        }
    }
    let (exponent, codes) = out.split_first_mut()?;
    *exponent = best.1;
    put_nibbles(codes, &best.2);
    Some(())
}
