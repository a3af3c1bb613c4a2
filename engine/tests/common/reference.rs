//! Compares models on any backend with outside references: llama.cpp's logits and texts, and exact activations.

use super::{argmax, divergence, gaps, golden, golden_floats, golden_json, greedy, ids, loaded_with, logits};
use super::{smollm2, told};
use weft::{
    Engine, EngineOptions, GenerateOptions, KeepLogits, KvFormat, LoadOptions, ModelId, ModelSource, Prompt,
    SessionOptions, SpecialTokens,
};

/// The divergence that llama.cpp's JSON allows for, since it rounds activations (`assets/golden/README.md`).
pub const MOST_DIVERGENCE: f64 = 1e-4;
/// Maximum distance of logits from those of transformers, relative to the largest logit of a file. Both compute in 32
/// bits from weights that are exact in both; sums in another order cost about 1e-6.
pub const MOST_DIFFERENCE: f64 = 1e-3;
/// If the two best logits of a tiny model are closer than this, the argmax may be either.
pub const CLEAR_TINY: f64 = 1e-2;
/// Below this gap between SmolLM2's two best logits, the reference's own rounding may change the argmax.
pub const CLEAR: f64 = 0.25;
/// llama.cpp's divergence over the 16 rows of SmolLM2 because it quantizes activations to 8 bits.
pub const PEER_DIVERGENCE: f64 = 5.2e-3;
/// llama.cpp's perplexity of the licence text; the test says how close this engine's has to be.
pub const PERPLEXITY: f64 = 15.93;
const PERPLEXITY_TOLERANCE: f64 = 0.01;

/// Numbers of SmolLM2's golden prompts.
pub const PROMPTS: [usize; 4] = [1, 2, 3, 4];

/// The floats in a JSON array.
pub fn floats(row: &serde_json::Value) -> Vec<f32> {
    row.as_array().expect("an array").iter().map(|x| x.as_f64().expect("a number") as f32).collect()
}

/// Asserts that a tiny model's logits, argmax and free text are llama.cpp's. Returns the largest divergence. If the
/// peer's rounding of activations to 8 bits costs more than the allowed divergence, compares the mean divergence from
/// exact activations with the peer's and returns that.
pub fn tiny_agrees(name: &str, options: &EngineOptions) -> f64 {
    let (mut engine, model) = loaded_with(&golden(&format!("tiny/{name}.gguf")), options);
    tiny_agrees_on(name, &mut engine, model)
}

/// Like [`tiny_agrees`], for a loaded model.
pub fn tiny_agrees_on(name: &str, engine: &mut Engine, model: ModelId) -> f64 {
    let reference = golden_json(&format!("tiny/{name}.json"));
    let tokens = ids(&reference["tokens"]);
    let positions: Vec<usize> = ids(&reference["logit_positions"]).into_iter().map(|p| p as usize).collect();
    let rows = logits(engine, model, &tokens, &positions, 0);
    let mut most: f64 = 0.0;
    let wanted = reference["logits"].as_array().expect("rows");
    let exact = format!("tiny/{name}-exact.json");
    if golden(&exact).exists() {
        let (mean, peer) = exact_divergence(&exact, engine, model);
        assert!(mean <= peer, "{name}: mean KL {mean:.2e} from exact activations, llama.cpp's {peer:.2e}");
        most = mean;
    } else {
        for ((row, wanted), position) in rows.iter().zip(wanted).zip(&positions) {
            let divergence = divergence(&floats(wanted), row);
            assert!(divergence < MOST_DIVERGENCE, "{name} at {position}: KL {divergence}");
            most = most.max(divergence);
        }
    }
    let (wanted, gaps) = (ids(&reference["greedy"]), gaps(&reference));
    argmax_is_the_reference_s(name, engine, model, &tokens, &wanted, &gaps, CLEAR_TINY);
    let sure = gaps.iter().position(|gap| *gap < CLEAR_TINY).unwrap_or(wanted.len());
    let said = greedy(engine, model, &tokens, wanted.len());
    assert_eq!(said[..sure], wanted[..sure], "{name}: free text");
    most
}

/// The distance of a model's logits from those of transformers.
pub struct HfDifference {
    /// The largest difference, relative to the largest logit.
    pub largest: f64,
    /// The largest KL divergence of a row.
    pub divergence: f64,
    /// The model.
    pub model: ModelId,
}

/// Compares a model's logits with those of transformers (`assets/golden/hf`). Also checks the argmax after each of the
/// reference's own tokens.
pub fn hf_difference(name: &str, engine: &mut Engine, kv_format: KvFormat) -> HfDifference {
    let reference = golden_json(&format!("hf/{name}.json"));
    let file = reference["model"].as_str().expect("a name");
    let source = golden_model(&format!("hf/{file}"));
    difference_from(&reference, name, source, engine, kv_format)
}

/// Like [`hf_difference`], for a model from another place.
pub fn difference_from(
    reference: &serde_json::Value,
    name: &str,
    source: ModelSource,
    engine: &mut Engine,
    kv_format: KvFormat,
) -> HfDifference {
    let mut tokens = ids(&reference["tokens"]);
    let greedy = ids(&reference["greedy"]);
    // Transformers chooses longrope's factors by the length of the text; the engine by the maximum length.
    let kv_tokens = Some(tokens.len() + greedy.len());
    let options = LoadOptions { kv_format, kv_tokens, ..LoadOptions::default() };
    let model = engine.load(source, &options).expect(name);
    engine.wait_loaded(model).expect(name);
    let positions: Vec<usize> = ids(&reference["logit_positions"]).into_iter().map(|p| p as usize).collect();
    let rows = logits(engine, model, &tokens, &positions, 0);
    let largest = reference["largest"].as_f64().expect("a number");
    let mut most = HfDifference { largest: 0.0, divergence: 0.0, model };
    // `max` is not used, because it ignores NaN.
    let raise = |most: &mut f64, found: f64| {
        if found > *most || found.is_nan() {
            *most = found;
        }
    };
    for (row, wanted) in rows.iter().zip(reference["logits"].as_array().expect("rows")) {
        let wanted = floats(wanted);
        for (found, wanted) in row.iter().zip(&wanted) {
            raise(&mut most.largest, f64::from((found - wanted).abs()) / largest);
        }
        raise(&mut most.divergence, divergence(&wanted, row));
    }
    let steps: Vec<usize> = (0..greedy.len()).map(|step| tokens.len() - 1 + step).collect();
    tokens.extend(&greedy);
    let rows = logits(engine, model, &tokens, &steps, 0);
    for (step, (row, gap)) in rows.iter().zip(gaps(reference)).enumerate() {
        let clear = gap > MOST_DIFFERENCE * largest;
        assert!(!clear || argmax(row) == greedy[step] as usize, "{name}, step {step}");
    }
    most
}

/// A model of the golden data, loaded into memory.
pub fn golden_model(name: &str) -> ModelSource {
    ModelSource::memory(name, std::fs::read(golden(name)).expect(name))
}

/// Teacher forcing with the reference's own tokens: asserts the argmax at each step where the reference's two best
/// logits are `clear` apart. Returns the logits of each step.
fn argmax_is_the_reference_s(
    name: &str,
    engine: &mut Engine,
    model: ModelId,
    tokens: &[u32],
    wanted: &[u32],
    gaps: &[f64],
    clear: f64,
) -> Vec<Vec<f32>> {
    let whole: Vec<u32> = tokens.iter().chain(wanted).copied().collect();
    let positions: Vec<usize> = (0..wanted.len()).map(|step| tokens.len() - 1 + step).collect();
    let rows = logits(engine, model, &whole, &positions, 0);
    for (step, row) in rows.iter().enumerate() {
        let found = argmax(row);
        assert!(
            gaps[step] < clear || found == wanted[step] as usize,
            "{name}, step {step}: {found} where the reference has {} by {}",
            wanted[step],
            gaps[step]
        );
    }
    rows
}

/// Mean KL divergence of a format's logits from those of exact activations: of this engine and of llama.cpp.
pub fn format_divergence(format: &str, options: &EngineOptions) -> (f64, f64) {
    let (mut engine, model) = loaded_with(&golden(&format!("tiny/tiny-llama-{format}.gguf")), options);
    exact_divergence(&format!("tiny/tiny-llama-{format}.json"), &mut engine, model)
}

/// Mean KL divergence of a model's logits from those of exact activations in a golden file: of this engine and of
/// llama.cpp.
fn exact_divergence(name: &str, engine: &mut Engine, model: ModelId) -> (f64, f64) {
    let reference = golden_json(name);
    let tokens = ids(&reference["tokens"]);
    let rows = logits(engine, model, &tokens, &(0..tokens.len()).collect::<Vec<_>>(), 0);
    let exact = reference["logits"].as_array().expect("rows").iter().map(floats);
    let divergences = rows.iter().zip(exact).map(|(row, exact)| divergence(&exact, row));
    let mean = divergences.sum::<f64>() / rows.len() as f64;
    let peer = reference["divergence"].as_f64().expect("a number");
    println!("{name}: mean KL from exact activations {mean:.2e}, llama.cpp's {peer:.2e}");
    (mean, peer)
}

/// Asserts that SmolLM2's texts for some of the golden prompts are llama.cpp's, and that its logits are as close to
/// those of exact activations, at four rows per prompt.
pub fn smollm2_agrees(engine: &mut Engine, model: ModelId, prompts: &[usize]) {
    let mut divergences = Vec::new();
    for n in prompts {
        let reference = golden_json(&format!("smollm2/prompt{n}.json"));
        let (tokens, wanted) = (ids(&reference["tokens"]), ids(&reference["greedy"]));
        let gaps = gaps(&reference);
        let name = format!("prompt {n}");
        let rows = argmax_is_the_reference_s(&name, engine, model, &tokens, &wanted, &gaps, CLEAR);
        let exact = golden_floats(&format!("smollm2/exact-prompt{n}.f32.gz"));
        let exact = exact.chunks_exact(rows[0].len());
        divergences
            .extend([0, 8, 16, 32].iter().zip(exact).map(|(step, exact)| divergence(exact, &rows[*step])));
        let session = engine.open_session(model, &SessionOptions::default()).expect("a session");
        let text = reference["text"].as_str().expect("text").to_owned();
        engine.append(session, Prompt::Text { text, special: SpecialTokens::Parse }).expect("a prompt");
        assert_eq!(engine.history(session).expect("a session"), tokens, "prompt {n}: ids");
        let options = GenerateOptions {
            max_tokens: Some(wanted.len()),
            ignore_end: true,
            ..GenerateOptions::default()
        };
        engine.generate(session, &options).expect("a request");
        engine.wait(session).expect("an end");
        let output = engine.output(session).expect("output").clone();
        let sure = gaps.iter().position(|gap| *gap < CLEAR).unwrap_or(wanted.len());
        assert_eq!(output.tokens[..sure], wanted[..sure], "prompt {n}: free text");
        if output.tokens == wanted {
            assert_eq!(output.text, reference["greedy_text"].as_str().expect("text"), "prompt {n}");
        }
        engine.close(session);
    }
    assert_eq!(divergences.len(), 4 * prompts.len());
    let mean = divergences.iter().sum::<f64>() / divergences.len() as f64;
    println!("mean KL {mean:.2e} of {divergences:?}");
    assert!(mean <= PEER_DIVERGENCE, "mean KL {mean:.2e}");
}

/// Asserts that SmolLM2's perplexity of the licence text is llama.cpp's.
pub fn smollm2_perplexity(options: &EngineOptions) {
    const CONTEXT: usize = 512;
    let (mut engine, model) = loaded_with(&smollm2(), options);
    let text = std::fs::read_to_string(golden("smollm2/apache-2.0.txt")).expect("the text");
    let tokenizer = engine.tokenizer(model).expect("a tokenizer");
    let tokens = tokenizer.encode(&text, SpecialTokens::AsText, true).expect("tokens");
    let mut losses = Vec::new();
    for chunk in tokens.chunks_exact(CONTEXT) {
        let session = told(&mut engine, model, chunk);
        let positions = (CONTEXT / 2..CONTEXT - 1).collect();
        engine.ask_logits(session, positions, KeepLogits::NextTokenLoss, 0).expect("a question");
        engine.wait(session).expect("an end");
        losses.extend(engine.take_logits(session).expect("losses").losses);
        engine.close(session);
    }
    let perplexity = (losses.iter().sum::<f64>() / losses.len() as f64).exp();
    println!("perplexity {perplexity:.3} over {} tokens", losses.len());
    assert!((perplexity / PERPLEXITY - 1.0).abs() < PERPLEXITY_TOLERANCE, "perplexity {perplexity}");
}
