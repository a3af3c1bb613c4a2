//! Embeddings compared with transformers (`assets/golden/embed`): of encoders and of SmolLM2, alone and together, whole
//! and in chunks.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::embedding::{
    ENCODERS, MOST_DIFFERENCE, difference, encoder, pooled, prompts, reference_states, texts, together,
};
use crate::common::{
    Expanded, expanded, golden, golden_floats, golden_json, ids, loaded, smollm2, synthetic_of, told,
};
use weft::synth::SynthShape;
use weft::{
    ARCHITECTURES, EmbedOptions, Embedding, Engine, EngineOptions, Error, GenerateOptions, KeepLogits,
    KvFormat, LoadOptions, ModelId, Phase, Pooling, Prompt, SessionOptions,
};

const POOLINGS: [Pooling; 4] = [Pooling::None, Pooling::Mean, Pooling::Cls, Pooling::Last];

fn options(pooling: Pooling, normalize: bool) -> EmbedOptions {
    EmbedOptions { pooling: Some(pooling), normalize, ..EmbedOptions::default() }
}

/// The embedding of a text that is computed alone.
fn alone(engine: &mut Engine, model: ModelId, tokens: &[u32], options: &EmbedOptions) -> Embedding {
    engine.embed(model, &[Prompt::Tokens(tokens.to_vec())], options).unwrap().remove(0)
}

#[test]
fn encoders_agree_with_transformers() {
    for name in ENCODERS {
        let (mut engine, model) = encoder(name, &EngineOptions::default(), KvFormat::F32);
        let texts = texts(name);
        let states = reference_states(name, &texts, engine.config(model).unwrap().embedding);
        for pooling in POOLINGS {
            let wanted: Vec<_> = states.iter().map(|rows| pooled(rows, pooling)).collect();
            let found: Vec<_> =
                texts.iter().map(|text| alone(&mut engine, model, text, &options(pooling, false))).collect();
            let difference = difference(&found, &wanted);
            println!("{name}, {pooling:?}: {difference:.1e} of the largest component");
            assert!(difference < MOST_DIFFERENCE, "{name}, {pooling:?}: {difference:.1e}");
        }
    }
}

#[test]
fn texts_together_have_the_embeddings_they_have_alone() {
    for name in ENCODERS {
        let (mut engine, model) = encoder(name, &EngineOptions::default(), KvFormat::F16);
        let texts = texts(name);
        let options = options(Pooling::None, false);
        let expected: Vec<_> = texts.iter().map(|text| alone(&mut engine, model, text, &options)).collect();
        let (found, ticks) = together(&mut engine, model, &texts, &options);
        assert!(found == expected, "{name}: bits differ");
        assert!(ticks < texts.len(), "{name}: {ticks} waves for {} texts", texts.len());
    }
}

#[test]
fn chunks_and_company_do_not_show() {
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    let texts = texts("bert");
    for pooling in POOLINGS {
        let whole = options(pooling, true);
        let expected: Vec<_> = texts.iter().map(|text| alone(&mut engine, model, text, &whole)).collect();
        for prefill_chunk in [1, 7, 32] {
            let (found, _) = together(&mut engine, model, &texts, &EmbedOptions { prefill_chunk, ..whole });
            assert!(found == expected, "{pooling:?}, chunks of {prefill_chunk}");
        }
        // Some of the texts are longer than a wave.
        let small = EngineOptions { max_rows: Some(16), ..EngineOptions::default() };
        let (mut engine, model) = crate::common::loaded_with(&golden("tiny/tiny-llama.gguf"), &small);
        let (found, _) = together(&mut engine, model, &texts, &whole);
        assert!(found == expected, "{pooling:?}, waves of 16");
        assert_eq!(engine.embed(model, &prompts(&texts), &whole).unwrap(), expected);
    }
}

#[test]
fn sessions_that_generate_meanwhile_do_not_show() {
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    let texts = texts("bert");
    let mean = options(Pooling::Mean, true);
    let expected: Vec<_> = texts.iter().map(|text| alone(&mut engine, model, text, &mean)).collect();
    let said = crate::common::greedy(&mut engine, model, &texts[3], 20);
    let session = told(&mut engine, model, &texts[3]);
    let generate = GenerateOptions { max_tokens: Some(20), ignore_end: true, ..GenerateOptions::default() };
    engine.generate(session, &generate).unwrap();
    engine.tick();
    assert_eq!(together(&mut engine, model, &texts, &EmbedOptions { prefill_chunk: 5, ..mean }).0, expected);
    engine.wait(session).unwrap();
    assert_eq!(engine.output(session).unwrap().tokens, said);
    // The same session returns an embedding of its longer text, and continues.
    engine.ask_embedding(session, &mean).unwrap();
    engine.wait(session).unwrap();
    let found = engine.take_embedding(session).unwrap().unwrap();
    let whole: Vec<u32> = texts[3].iter().chain(&said).copied().collect();
    assert_eq!(found, alone(&mut engine, model, &whole, &mean));
    engine.generate(session, &generate).unwrap();
    engine.wait(session).unwrap();
    let more = engine.output(session).unwrap().tokens.clone();
    assert_eq!(more, crate::common::greedy(&mut engine, model, &whole, 20));
}

#[test]
fn a_cramped_cache_gives_the_same() {
    for (source, texts) in [("bert", texts("bert")), ("tiny-llama", texts("bert"))] {
        let load = LoadOptions { kv_tokens: Some(96), ..LoadOptions::default() };
        let mut engine = Engine::new(&EngineOptions::default()).unwrap();
        let open = |engine: &mut Engine, load: &LoadOptions| {
            let file = match source {
                "bert" => crate::common::reference::golden_model("embed/bert.gguf"),
                tiny => golden(&format!("tiny/{tiny}.gguf")).as_path().into(),
            };
            let model = engine.load(file, load).unwrap();
            engine.wait_loaded(model).unwrap();
            model
        };
        let roomy = open(&mut engine, &LoadOptions::default());
        let cramped = open(&mut engine, &load);
        let mean = options(Pooling::Mean, true);
        let expected = engine.embed(roomy, &prompts(&texts), &mean).unwrap();
        for prefill_chunk in [0, 16] {
            let options = EmbedOptions { prefill_chunk, ..mean };
            assert!(together(&mut engine, cramped, &texts, &options).0 == expected, "{source}");
        }
    }
}

#[test]
fn smollm2_agrees_with_transformers() {
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let load = LoadOptions { kv_format: KvFormat::F32, ..LoadOptions::default() };
    let model = engine.load(expanded(&smollm2(), Expanded::F32), &load).unwrap();
    engine.wait_loaded(model).unwrap();
    let texts = texts("smollm2");
    let width = engine.config(model).unwrap().embedding;
    let rows: Vec<Vec<f32>> =
        golden_floats("embed/smollm2.f32.gz").chunks_exact(width).map(<[f32]>::to_vec).collect();
    assert_eq!(rows.len(), 3 * texts.len());
    for (at, pooling) in [Pooling::Mean, Pooling::Cls, Pooling::Last].into_iter().enumerate() {
        let wanted: Vec<_> = rows.chunks_exact(3).map(|rows| vec![rows[at].clone()]).collect();
        let found = engine.embed(model, &prompts(&texts), &options(pooling, true)).unwrap();
        let difference = difference(&found, &wanted);
        println!("SmolLM2, {pooling:?}: {difference:.1e} of the largest component");
        assert!(difference < 1e-3, "{pooling:?}: {difference:.1e}");
    }
}

#[test]
fn the_file_says_how_to_pool_and_text_is_tokenized() {
    let (engine, bert) = encoder("bert", &EngineOptions::default(), KvFormat::F16);
    assert_eq!(engine.pooling(bert).unwrap(), Pooling::Mean);
    let (mut engine, model) = loaded(&smollm2());
    assert_eq!(engine.pooling(model).unwrap(), Pooling::Last);
    let text = "The lighthouse keeper writes a letter.";
    let tokens = engine.tokenizer(model).unwrap().encode(text, weft::SpecialTokens::AsText, true).unwrap();
    let texts = [
        Prompt::Text { text: text.to_owned(), special: weft::SpecialTokens::AsText },
        Prompt::Tokens(tokens.clone()),
    ];
    let found = engine.embed(model, &texts, &EmbedOptions::default()).unwrap();
    assert_eq!(found[0], found[1]);
    assert_eq!((found[0].tokens, found[0].vectors.len()), (tokens.len(), 1));
    let length: f64 = found[0].vectors[0].iter().map(|x| f64::from(*x).powi(2)).sum();
    assert!((length - 1.0).abs() < 1e-6, "{length}");
}

#[test]
fn a_text_of_an_encoder_is_put_between_its_marks() {
    let (mut engine, model) = loaded(&golden("embed/bert.gguf"));
    // Tokens 2 and 3 are [CLS] and [SEP]. Tokens 5 and 6 are an a and a b that begin a word; 35 is an e that continues
    // one.
    let ids = |text: &str| {
        engine.tokenizer(model).unwrap().encode(text, weft::SpecialTokens::AsText, true).unwrap()
    };
    assert_eq!(ids("A be"), [2, 5, 6, 35, 3]);
    assert_eq!(ids(""), [2, 3]);
    let text = |text: &str| Prompt::Text { text: text.to_owned(), special: weft::SpecialTokens::AsText };
    let texts = [text("A be"), text(""), Prompt::Tokens(vec![2, 5, 6, 35, 3])];
    let found = engine.embed(model, &texts, &EmbedOptions::default()).unwrap();
    assert_eq!(found[0], found[2]);
    assert_eq!((found[0].tokens, found[1].tokens), (5, 2));
}

#[test]
fn a_made_up_encoder_of_each_architecture_embeds() {
    for arch in ARCHITECTURES.iter().filter(|arch| !arch.causal) {
        let mut engine = Engine::new(&EngineOptions::default()).unwrap();
        let source = synthetic_of(arch.name, &SynthShape::default(), "Q8_0");
        let model = engine.load(source, &LoadOptions::default()).unwrap();
        let found = engine.embed(model, &prompts(&texts("bert")), &EmbedOptions::default()).unwrap();
        assert!(found.windows(2).all(|pair| pair[0].vectors != pair[1].vectors), "{}", arch.name);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (mut engine, model) = encoder("bert", &EngineOptions::default(), KvFormat::F16);
    let session = told(&mut engine, model, &[5, 6, 7]);
    let is_encoder = |result: Result<(), Error>| {
        assert!(
            matches!(&result, Err(Error::Encoder { architecture }) if architecture == "bert"),
            "{result:?}"
        );
    };
    is_encoder(engine.generate(session, &GenerateOptions::default()));
    is_encoder(engine.ask_logits(session, vec![0], KeepLogits::Row, 0));
    assert!(matches!(engine.take_embedding(session), Err(Error::NothingAsked)));
    engine.ask_embedding(session, &EmbedOptions::default()).unwrap();
    assert!(engine.take_embedding(session).unwrap().is_none());
    assert!(matches!(engine.ask_embedding(session, &EmbedOptions::default()), Err(Error::Busy)));
    engine.cancel(session).unwrap();
    assert!(matches!(engine.take_embedding(session), Err(Error::EmbeddingEndedEarly { tokens: 3, .. })));
    assert!(matches!(engine.take_embedding(session), Err(Error::NothingAsked)));
    // A new request succeeds.
    engine.ask_embedding(session, &EmbedOptions::default()).unwrap();
    engine.wait(session).unwrap();
    assert_eq!(engine.take_embedding(session).unwrap().unwrap().tokens, 3);
    assert!(matches!(engine.phase(session).unwrap(), Phase::Finished(_)));

    let empty = engine.open_session(model, &SessionOptions::default()).unwrap();
    assert!(matches!(engine.ask_embedding(empty, &EmbedOptions::default()), Err(Error::EmptyPrompt)));
    let before = engine.world().entities().len();
    let bad = [Prompt::Tokens(vec![5; 3]), Prompt::Tokens(vec![5; 97])];
    let refused = engine.embed(model, &bad, &EmbedOptions::default());
    assert!(matches!(refused, Err(Error::ContextOverflow { tokens: 97, limit: 96 })), "{refused:?}");
    let unknown = engine.embed(model, &[Prompt::Tokens(vec![9999])], &EmbedOptions::default());
    assert!(matches!(unknown, Err(Error::UnknownToken { token: 9999, .. })));
    engine.tick();
    assert_eq!(engine.world().entities().len(), before, "sessions are left behind");

    // An encoder's text is computed in one wave, or refused.
    let small = EngineOptions { max_rows: Some(16), ..EngineOptions::default() };
    let (mut engine, model) = encoder("bert", &small, KvFormat::F16);
    let refused = engine.embed(model, &[Prompt::Tokens(vec![5; 17])], &EmbedOptions::default());
    assert!(matches!(refused, Err(Error::ContextOverflow { tokens: 17, limit: 16 })), "{refused:?}");
    let whole = engine.embed(
        model,
        &[Prompt::Tokens(vec![5; 16])],
        &EmbedOptions { prefill_chunk: 3, ..EmbedOptions::default() },
    );
    assert_eq!(whole.unwrap()[0].tokens, 16);
}

#[test]
fn the_reference_would_notice_what_is_left_out() {
    for name in ENCODERS {
        let without = golden_json(&format!("embed/{name}.json"))["without"].clone();
        for (part, moved) in without.as_object().unwrap() {
            assert!(moved.as_f64().unwrap() > 2.0 * MOST_DIFFERENCE, "{name}: {part}");
        }
        assert!(ids(&golden_json(&format!("embed/{name}.json"))["texts"][0]).len() == 1);
    }
}
