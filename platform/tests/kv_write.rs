//! Writing rows of keys and values to the cache from many threads.

use weft_platform::{Kernels, KvArena, KvFormat, KvRows, KvShape, PAGE, Pool};

/// Rows in several slots, some in pages that other rows of the wave share.
#[test]
fn threads_and_instruction_sets_write_the_same_bytes() {
    const ROWS: usize = 150;
    for format in KvFormat::ALL {
        let shape = KvShape { layers: 2, slots: 9, kv_heads: 3, k_dim: 80, v_dim: 50, format };
        let stride = shape.kv_heads * (shape.k_dim + shape.v_dim) + 7;
        let data: Vec<f32> = (0..ROWS * stride).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
        let slots: Vec<u32> = (0..ROWS).map(|row| [4, 0, 7, 8, 2][row / PAGE]).collect();
        let positions: Vec<u32> = (0..ROWS as u32).map(|row| row + 3 * PAGE as u32).collect();
        let values = &data[7 + shape.kv_heads * shape.k_dim..];
        let rows = KvRows { slots: &slots, positions: &positions, keys: &data[7..], values, stride };
        let mut wanted = KvArena::new(shape).unwrap();
        for (row, (slot, position)) in slots.iter().zip(&positions).enumerate() {
            let (keys, values) = (&rows.keys[row * stride..], &rows.values[row * stride..]);
            wanted.write(Kernels::detect(), 1, *slot, *position as usize % PAGE, keys, values);
        }
        assert!(wanted.layer(0).iter().all(|byte| *byte == 0));
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads).unwrap();
            for kernels in Kernels::available() {
                let mut found = KvArena::new(shape).unwrap();
                pool.install(|| found.write_rows(&pool.cpu(kernels), 1, &rows));
                assert!(found.layer(1) == wanted.layer(1), "{format:?} {threads} {kernels:?}");
                assert!(found.layer(0) == wanted.layer(0));
            }
        }
    }
}

/// A token written again replaces its own elements and no other token's, in any order.
#[test]
fn a_token_may_be_written_again() {
    for format in KvFormat::ALL {
        for (k_dim, v_dim) in [(64, 64), (80, 48), (7, 5), (40, 33)] {
            let shape = KvShape { layers: 1, slots: 2, kv_heads: 2, k_dim, v_dim, format };
            let row = |token: usize, seed: usize, dim: usize| -> Vec<f32> {
                (0..2 * dim).map(|i| ((i * 31 + token * 17 + seed * 7) as f32 * 0.37).sin() * 3.0).collect()
            };
            for kernels in Kernels::available() {
                let write = |arena: &mut KvArena, token: usize, seed: usize| {
                    arena.write(kernels, 0, 1, token, &row(token, seed, k_dim), &row(token, seed, v_dim));
                };
                let (mut found, mut wanted) = (KvArena::new(shape).unwrap(), KvArena::new(shape).unwrap());
                for token in 0..PAGE {
                    write(&mut found, token, 1);
                    write(&mut wanted, token, if token % 5 == 2 { 2 } else { 1 });
                }
                assert!(found.layer(0) != wanted.layer(0));
                for token in (0..PAGE).rev().filter(|token| token % 5 == 2) {
                    write(&mut found, token, 3);
                    write(&mut found, token, 2);
                }
                assert!(found.layer(0) == wanted.layer(0), "{format:?} {kernels:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "no such page")]
fn a_slot_that_there_is_not_is_refused() {
    let shape = KvShape { layers: 1, slots: 2, kv_heads: 1, k_dim: 4, v_dim: 4, format: KvFormat::F32 };
    KvArena::new(shape).unwrap().write(Kernels::detect(), 0, 2, 0, &[0.0; 4], &[0.0; 4]);
}
