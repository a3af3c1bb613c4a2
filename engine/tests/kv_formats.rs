mod common;
use common::*;
use weft::*;
fn mean(rows: &[f64]) -> f64 {
    rows.iter().sum::<f64>() / rows.len() as f64
}
fn engine(path: &std::path::Path, kv_format: KvFormat) -> (Engine, ModelId) {
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let model = engine
        .load(
            path,
            &LoadOptions {
                kv_format,
                ..LoadOptions::default()
            },
        )
        .unwrap();
    engine.wait_loaded(model).unwrap();
    (engine, model)
}
#[test]
fn measure() {
    for t in ["tiny-llama", "tiny-llama31", "tiny-mistral"] {
        let r = golden_json(&format!("tiny/{t}.json"));
        let tokens = ids(&r["tokens"]);
        let greedy = ids(&r["greedy"]);
        let whole: Vec<u32> = tokens.iter().chain(&greedy).copied().collect();
        let pos: Vec<usize> = (0..whole.len()).collect();
        let mut rows = vec![];
        for f in [KvFormat::F32, KvFormat::F16, KvFormat::Q8_0] {
            let (mut e, m) = engine(&golden(&format!("tiny/{t}.gguf")), f);
            let l = logits(&mut e, m, &whole, &pos, 0);
            let d: Vec<f64> = ids(&r["logit_positions"])
                .iter()
                .zip(r["logits"].as_array().unwrap())
                .map(|(p, w)| {
                    let w: Vec<f32> = w
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|x| x.as_f64().unwrap() as f32)
                        .collect();
                    divergence(&w, &l[*p as usize])
                })
                .collect();
            println!("{t} {f:?} to json {d:?}");
            rows.push(l);
        }
        let d: Vec<f64> = rows[1]
            .iter()
            .zip(&rows[2])
            .map(|(a, b)| divergence(a, b))
            .collect();
        println!(
            "{t} f16 vs q8 mean {:.3e} max {:.3e}",
            mean(&d),
            d.iter().copied().fold(0.0, f64::max)
        );
        let d: Vec<f64> = rows[0]
            .iter()
            .zip(&rows[1])
            .map(|(a, b)| divergence(a, b))
            .collect();
        println!(
            "{t} f32 vs f16 mean {:.3e} max {:.3e}",
            mean(&d),
            d.iter().copied().fold(0.0, f64::max)
        );
    }
    let mut all = vec![vec![]; 2];
    let mut ex = vec![vec![]; 3];
    let mut es: Vec<_> = [KvFormat::F32, KvFormat::F16, KvFormat::Q8_0]
        .into_iter()
        .map(|f| engine(&smollm2(), f))
        .collect();
    for n in 1..=4 {
        let r = golden_json(&format!("smollm2/prompt{n}.json"));
        let tokens = ids(&r["tokens"]);
        let greedy = ids(&r["greedy"]);
        let whole: Vec<u32> = tokens.iter().chain(&greedy).copied().collect();
        let pos: Vec<usize> = (0..whole.len()).collect();
        let exact = golden_floats(&format!("smollm2/exact-prompt{n}.f32.gz"));
        let rows: Vec<_> = es
            .iter_mut()
            .map(|(e, m)| logits(e, *m, &whole, &pos, 0))
            .collect();
        let v = rows[0][0].len();
        for (i, r) in rows.iter().enumerate() {
            for (k, x) in exact.chunks_exact(v).enumerate() {
                ex[i].push(divergence(x, &r[tokens.len() - 1 + [0, 8, 16, 32][k]]));
            }
        }
        all[0].extend(rows[1].iter().zip(&rows[2]).map(|(a, b)| divergence(a, b)));
        all[1].extend(rows[0].iter().zip(&rows[1]).map(|(a, b)| divergence(a, b)));
    }
    println!(
        "smol f16 vs q8 {:.3e} max {:.3e} n {} f32 vs f16 {:.3e}",
        mean(&all[0]),
        all[0].iter().copied().fold(0.0, f64::max),
        all[0].len(),
        mean(&all[1])
    );
    for x in &ex {
        println!("exact {:.3e}", mean(x));
    }
}
