//! The KV cache's `Q8_0` and `Q4_0`, written a second time: the rotation in the order of sums that every instruction set
//! has, the codes, and the inverse of both in f64.

use weft_platform::KvFormat;

/// The definition of `Q8_0`: a head in blocks of 32, the last one shorter, each element as its code times its block's
/// scale.
pub(crate) fn q8_0(head: &[f32]) -> Vec<f64> {
    let scale = |x: &[f32]| largest(x) / 127.0;
    head.chunks(32).flat_map(|x| codes(x, scale(x), -127.0, 127.0)).collect()
}

/// The definition of `Q4_0`: as `q8_0`, with the scale that is best for the codes of one of three scales.
pub(crate) fn q4_0(head: &[f32]) -> Vec<f64> {
    head.chunks(32).flat_map(|x| codes(x, q4_0_scale(x), -8.0, 7.0)).collect()
}

/// `Q4_0` with llama.cpp's choice of the scale: the largest element / -8.
pub(crate) fn q4_0_of_llama_cpp(head: &[f32]) -> Vec<f64> {
    head.chunks(32).flat_map(|x| codes(x, signed_largest(x) / -8.0, -8.0, 7.0)).collect()
}

/// The definition of `Kivi2`: 32 numbers, each as a minimum plus its code times a scale. Both come from least squares for
/// the codes of one of four ranges.
pub(crate) fn kivi2(x: &[f32; 32]) -> Vec<f64> {
    let x = x.map(|x| half::f16::from_f32(x).to_f32());
    let (least, most) = x.iter().fold((f32::MAX, f32::MIN), |(a, b), x| (a.min(*x), b.max(*x)));
    let (scale, minimum) = kivi2_levels(&x, least, most);
    let (scale, minimum) = (half::f16::from_f32(scale), half::f16::from_f32(minimum));
    let code = |x: f32| ((x - minimum.to_f32()) / scale.to_f32()).round_ties_even().clamp(0.0, 3.0);
    let code = |x: f32| if scale == half::f16::ZERO { 0.0 } else { f64::from(code(x)) };
    x.iter().map(|x| minimum.to_f64() + scale.to_f64() * code(*x)).collect()
}

fn kivi2_levels(x: &[f32; 32], least: f32, most: f32) -> (f32, f32) {
    if most == least {
        return (0.0, least);
    }
    let middle = least + (most - least) / 2.0;
    let (y, ones) = (x.map(|x| x - middle), [1.0; 32]);
    let total = dot(&ones, &y);
    let (mut best, mut levels) = (f32::MIN, (0.0, 0.0));
    for shrink in [1.0f32, 0.87, 0.76, 0.66] {
        let step = (most - least) * (shrink / 3.0);
        let q = y.map(|y| ((y - -1.5 * step) / step).round_ties_even().clamp(0.0, 3.0));
        let (codes, squares, products) = (dot(&ones, &q), dot(&q, &q), dot(&y, &q));
        let scale = (32.0 * products - total * codes) / (32.0 * squares - codes * codes);
        let offset = (total - scale * codes) / 32.0;
        let gain = offset * total + scale * products;
        if gain > best {
            (best, levels) = (gain, (scale, offset));
        }
    }
    (levels.0.min(65504.0), (levels.1 + middle).clamp(-65504.0, 65504.0))
}

fn codes(x: &[f32], scale: f32, smallest: f32, largest: f32) -> Vec<f64> {
    let scale = half::f16::from_f32(scale);
    let code = |v: &f32| f64::from((v / scale.to_f32()).round_ties_even().clamp(smallest, largest));
    x.iter().map(|v| if scale == half::f16::ZERO { 0.0 } else { code(v) * scale.to_f64() }).collect()
}

fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0f32, |m, v| m.max(v.abs()))
}

/// The element of largest magnitude; if both signs have it, the positive one.
fn signed_largest(x: &[f32]) -> f32 {
    if x.contains(&largest(x)) { largest(x) } else { -largest(x) }
}

fn q4_0_scale(x: &[f32]) -> f32 {
    let largest = largest(x);
    if largest == 0.0 {
        return 0.0;
    }
    let sign = signed_largest(x).signum();
    let mut unit = [0.0; 32];
    for (unit, x) in unit.iter_mut().zip(x) {
        *unit = x / largest;
    }
    let (mut best, mut scale) = (0.0, 0.0);
    for divisor in [-7.8f32, -8.5, -9.75] {
        let q = unit.map(|u| (u * (divisor * sign)).round_ties_even().clamp(-8.0, 7.0));
        let (products, squares) = (dot(&unit, &q), dot(&q, &q));
        let gain = products * products / squares;
        if gain > best {
            (best, scale) = (gain, products / squares);
        }
    }
    scale * largest
}

/// In the order of every instruction set: 16 lanes, whose sums are halved until one is left.
fn dot(a: &[f32; 32], b: &[f32; 32]) -> f32 {
    let mut sums: Vec<f32> = (0..16).map(|i| a[i].mul_add(b[i], a[i + 16] * b[i + 16])).collect();
    while sums.len() > 1 {
        let high = sums.split_off(sums.len() / 2);
        sums.iter_mut().zip(high).for_each(|(low, high)| *low += high);
    }
    sums[0]
}

/// The rotation of heads that are a multiple of 16: sums of 16 in order, then sums and differences of ever larger
/// parts.
pub(crate) fn rotated(head: &[f32]) -> Vec<f32> {
    if !head.len().is_multiple_of(16) {
        return head.to_vec();
    }
    let n = 1usize << head.len().trailing_zeros();
    let norm = 1.0 / (n as f32).sqrt();
    let sign = |i: usize, j: usize| if (i & j).count_ones() % 2 == 1 { -1.0 } else { 1.0 };
    let sixteen = |x: &[f32]| {
        (0..16).map(|j| (0..16).fold(0.0, |sum, i| sum + sign(i, j) * x[i]) * norm).collect::<Vec<f32>>()
    };
    let mut out: Vec<f32> = head.chunks(16).flat_map(sixteen).collect();
    for block in out.chunks_mut(n) {
        let mut half = 16;
        while half < n {
            for i in (0..n).filter(|i| i & half == 0) {
                (block[i], block[i + half]) = (block[i] + block[i + half], block[i] - block[i + half]);
            }
            half *= 2;
        }
    }
    out
}

/// The inverse of [`rotated`], from the matrix's definition.
fn rotated_back(head: &[f64]) -> Vec<f64> {
    if !head.len().is_multiple_of(16) {
        return head.to_vec();
    }
    let n = 1usize << head.len().trailing_zeros();
    let sign = |i: usize, j: usize| if (i & j).count_ones() % 2 == 1 { -1.0 } else { 1.0 };
    let block = |x: &[f64]| {
        (0..n).map(|j| (0..n).map(|i| sign(i, j) * x[i]).sum::<f64>() / (n as f64).sqrt()).collect::<Vec<_>>()
    };
    head.chunks(n).flat_map(block).collect()
}

/// The values that a format stands for after it has stored `head`.
pub(crate) fn stored(format: KvFormat, head: &[f32]) -> Vec<f64> {
    match format {
        KvFormat::F16 => head.iter().map(|v| half::f16::from_f32(*v).to_f64()).collect(),
        KvFormat::F32 => head.iter().map(|v| f64::from(*v)).collect(),
        KvFormat::Bf16 => head.iter().map(|v| half::bf16::from_f32(*v).to_f64()).collect(),
        KvFormat::Q8_0 => rotated_back(&q8_0(&rotated(head))),
        KvFormat::Q4_0 => rotated_back(&q4_0(&rotated(head))),
        KvFormat::Kivi2 => panic!("a page is sealed as a whole: see `kivi2`"),
    }
}
