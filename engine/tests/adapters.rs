//! LoRA adapters compared with transformers and PEFT (`assets/golden/lora`): logits with adapters, several adapters and
//! the plain model in one wave, adapters swapped and removed while sessions run, and adapters and files that are
//! refused.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed test should stop where it failed")]

use crate::common::adapters::{ADAPTERS, Base, adapter_difference, bits};
use crate::common::company::asked;
use crate::common::reference::{MOST_DIFFERENCE, golden_model};
use crate::common::{golden, told};
use std::ops::ControlFlow;
use std::sync::Arc;
use weft::components::LowRank;
use weft::storage::{Source, ThrottledSource};
use weft::{
    AdapterFiles, EngineOptions, Error, GenerateOptions, KeepLogits, KvFormat, LoadOptions, Merge,
    MergeError, ModelSource, SessionId, SessionOptions, Stored,
};

#[track_caller]
fn agrees(name: &str, key: &str, rows: &[Vec<f32>]) {
    let found = adapter_difference(name, key, rows);
    println!("{name}, {key}: {found:.1e} of the largest logit");
    assert!(found <= MOST_DIFFERENCE, "{name}, {key}: {found:.1e}");
}

/// Loads a model on the CPU with a 32-bit KV cache. A 16-bit cache would cost more than the differences that the tests
/// look for.
fn base(name: &str) -> Base {
    base_from(name, golden_model(&format!("hf/{name}.gguf")))
}

/// Like [`base`], for a model that may still be loading.
fn base_from(name: &str, source: ModelSource) -> Base {
    let options = LoadOptions { kv_format: KvFormat::F32, ..LoadOptions::default() };
    Base::load(name, source, &EngineOptions::default(), &options)
}

#[test]
fn logits_are_those_of_peft() {
    for (base_name, name) in ADAPTERS {
        let mut base = base(base_name);
        let adapter = base.adapter(&format!("{name}.gguf"));
        let rows = base.logits(Some((adapter, 1.0)));
        agrees(name, "logits", &rows);
        // The folder that PEFT saved is the same adapter, but its alpha may be rounded in another place.
        let folder = base.adapter(name);
        agrees(name, "logits", &base.logits(Some((folder, 1.0))));
        let (gguf, peft) =
            [adapter, folder].map(|adapter| base.engine.adapter(adapter).unwrap().clone()).into();
        assert_eq!(gguf.pairs.len(), peft.pairs.len());
        for (a, b) in gguf.pairs.iter().zip(&peft.pairs) {
            let of =
                |pair: &LowRank| (pair.layer, pair.site, pair.first, pair.outputs, pair.inputs, pair.rank);
            assert_eq!(of(a), of(b));
            assert!((a.scale - b.scale).abs() < 1e-6 * a.scale.abs(), "{a:?} {b:?}");
        }
        agrees(name, "half", &base.logits(Some((adapter, 0.5))));
    }
}

#[test]
fn sessions_with_different_adapters_and_without_share_waves() {
    let mut base = base("llama");
    let never = base.plain();
    let all = base.adapter("llama-all.gguf");
    let some = base.adapter("llama-qv.gguf");
    assert_eq!(base.engine.adapters(base.model).unwrap(), [all, some]);
    let kinds = [
        None,
        Some((all, 1.0)),
        Some((some, 1.0)),
        Some((all, 0.5)),
        None,
        Some((some, 0.5)),
        Some((all, 1.0)),
    ];
    let alone: Vec<_> = kinds.iter().map(|kind| base.logits(*kind)).collect();
    assert_eq!(bits(&alone[0]), bits(&never), "an adapter that nobody uses");
    agrees("llama-all", "logits", &alone[1]);
    agrees("llama-qv", "logits", &alone[2]);
    let sessions: Vec<_> = kinds.iter().map(|kind| base.ask(*kind)).collect();
    for (n, (session, alone)) in sessions.into_iter().zip(&alone).enumerate() {
        assert_eq!(bits(&base.answer(session)), bits(alone), "session {n}");
    }
}

#[test]
fn answers_together_are_answers_alone() {
    let mut base = base("phi3");
    let adapter = base.adapter("phi3-all.gguf");
    let mut say = |scales: &[Option<f32>]| {
        let start = |base: &mut Base, scale: Option<f32>| {
            let session = told(&mut base.engine, base.model, &base.tokens);
            let (adapter, scale) = (scale.map(|_| adapter), scale.unwrap_or(0.0));
            base.engine.set_adapter(session, adapter, scale).unwrap();
            base.engine.generate(session, &asked()).unwrap();
            // Ticks between the starts, so that some sessions decode while others are prefilled.
            base.engine.tick();
            session
        };
        let sessions: Vec<_> = scales.iter().map(|scale| start(&mut base, *scale)).collect();
        let end = |session: SessionId| crate::common::company::end(&mut base.engine, session);
        sessions.into_iter().map(end).collect::<Vec<_>>()
    };
    let scales = [None, Some(1.0), Some(0.25), None, Some(-0.5), Some(1.0)];
    let together = say(&scales);
    for (scale, together) in scales.iter().zip(&together) {
        assert_eq!(&say(&[*scale])[0], together, "{scale:?}");
    }
    assert_ne!(together[0], together[1]);
}

#[test]
fn an_adapter_is_swapped_and_removed_while_its_session_answers() {
    let mut base = base("llama");
    let plain = base.plain();
    let (all, some) = (base.adapter("llama-all.gguf"), base.adapter("llama-qv.gguf"));
    // When the adapter changes in mid-answer, everything cached is computed again with the new one. The answer then
    // continues as in a session that was prompted with all tokens so far from the start.
    let session = told(&mut base.engine, base.model, &base.tokens);
    base.engine.set_adapter(session, Some(all), 1.0).unwrap();
    let long = GenerateOptions { max_tokens: Some(100), ..asked() };
    base.engine.generate(session, &long).unwrap();
    for adapter in [Some((some, 0.5)), None] {
        for _ in 0..4 {
            base.engine.tick();
        }
        let history = base.engine.history(session).unwrap().to_vec();
        match adapter {
            Some((adapter, scale)) => base.engine.set_adapter(session, Some(adapter), scale).unwrap(),
            None => base.engine.remove_adapter(some),
        }
        assert_eq!(base.engine.adapter_of(session).unwrap(), adapter);
        let other = told(&mut base.engine, base.model, &history);
        base.engine.set_adapter(other, adapter.map(|(adapter, _)| adapter), 0.5).unwrap();
        base.engine.generate(other, &GenerateOptions { max_tokens: Some(4), ..asked() }).unwrap();
        while base.engine.history(session).unwrap().len() < history.len() + 4 {
            base.engine.tick();
        }
        let said = base.engine.history(session).unwrap()[..history.len() + 4].to_vec();
        base.engine.wait(other).unwrap();
        assert_eq!(base.engine.history(other).unwrap()[..said.len()], said, "{adapter:?}");
        base.engine.close(other);
    }
    base.engine.wait(session).unwrap();
    assert_eq!(base.engine.adapters(base.model).unwrap(), [all]);
    // Without an adapter, the session's logits equal the plain model's bit for bit.
    let (tokens, positions) = (base.tokens.clone(), base.positions.clone());
    base.engine.set_context(session, tokens).unwrap();
    base.engine.ask_logits(session, positions, KeepLogits::Row, 0).unwrap();
    base.engine.wait(session).unwrap();
    assert_eq!(bits(&base.engine.take_logits(session).unwrap().rows), bits(&plain));
    // Keys and values that were cached with an adapter are not used without it.
    base.engine.set_adapter(session, Some(all), 1.0).unwrap();
    base.engine.generate(session, &asked()).unwrap();
    base.engine.wait(session).unwrap();
    let history = base.engine.history(session).unwrap().to_vec();
    base.engine.set_adapter(session, None, 1.0).unwrap();
    base.engine.generate(session, &asked()).unwrap();
    base.engine.wait(session).unwrap();
    let said = base.engine.output(session).unwrap().tokens.clone();
    assert_eq!(said, crate::common::greedy(&mut base.engine, base.model, &history, said.len()));
}

#[test]
fn logits_that_were_asked_for_are_all_of_the_adapter_in_the_end() {
    let mut base = base("llama");
    let all = base.adapter("llama-all.gguf");
    let session = told(&mut base.engine, base.model, &base.tokens);
    base.engine.ask_logits(session, base.positions.clone(), KeepLogits::Row, 3).unwrap();
    for _ in 0..5 {
        base.engine.tick();
    }
    base.engine.set_adapter(session, Some(all), 1.0).unwrap();
    let rows = base.answer(session);
    assert_eq!(bits(&rows), bits(&base.logits(Some((all, 1.0)))));
}

#[test]
fn an_adapter_is_loaded_while_the_model_arrives() {
    let ModelSource::Parts(parts) = golden_model("hf/llama.gguf") else { panic!("not in memory") };
    let rate = std::num::NonZeroU64::new(1 << 20).unwrap();
    let slowed = parts.into_iter().map(|part| Arc::new(ThrottledSource::new(part, rate)) as Arc<dyn Source>);
    let mut base = base_from("llama", ModelSource::Parts(slowed.collect()));
    let adapter = base.adapter("llama-all.gguf");
    let session = base.ask(Some((adapter, 1.0)));
    agrees("llama-all", "logits", &base.answer(session));
}

/// A merged model gives the logits that the adapter gives on the base model.
#[test]
fn merged_models_say_what_the_adapter_says() {
    for (base, name) in ADAPTERS {
        for (scale, key) in [(1.0, "logits"), (0.5, "half")] {
            let ModelSource::Parts(parts) = golden_model(&format!("hf/{base}.gguf")) else {
                panic!("not in memory")
            };
            let adapter = AdapterFiles::open(&golden(&format!("lora/{name}"))).unwrap();
            let stored = Stored::from_name("f32").unwrap();
            let merge = Merge::new("merged.gguf", parts, &adapter, scale, stored).unwrap();
            assert!(merge.changed() < merge.tensors());
            let file = merge.write(Vec::new(), 2, |_| ControlFlow::Continue(())).unwrap();
            assert_eq!(file.len() as u64, merge.bytes());
            let mut merged = base_from(base, ModelSource::memory("merged.gguf", file));
            agrees(name, key, &merged.plain());
        }
    }
}

#[test]
fn merging_keeps_float_formats_and_stops_when_asked() {
    let parts = || match golden_model("hf/llama.gguf") {
        ModelSource::Parts(parts) => parts,
        _ => panic!("not in memory"),
    };
    let adapter = AdapterFiles::open(&golden("lora/llama-qv.gguf")).unwrap();
    let merge = Merge::new("merged.gguf", parts(), &adapter, 1.0, Stored::Same).unwrap();
    assert_eq!(merge.changed(), 4);
    let base: u64 = parts().iter().map(|part| part.len()).sum();
    // With the same formats, the file grows by no more than the alignment.
    assert!(merge.bytes().abs_diff(base) < 64, "{} of {base} bytes", merge.bytes());
    let stopped = merge.write(Vec::new(), 1, |_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(stopped, MergeError::Stopped { .. }), "{stopped}");
    let scale = Merge::new("merged.gguf", parts(), &adapter, f32::NAN, Stored::Same).err().unwrap();
    assert!(matches!(scale, MergeError::Scale { .. }), "{scale}");
    assert!(matches!(Stored::from_name("iq1_s"), Err(MergeError::Format { .. })));
    // The output head of llama3 is its token embedding.
    let ModelSource::Parts(tied) = golden_model("hf/llama3.gguf") else { panic!("not in memory") };
    let error = Merge::new("merged.gguf", tied, &adapter, 1.0, Stored::Same).err().unwrap();
    assert!(matches!(error, MergeError::Adapter(_)), "{error}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut base = base("llama");
    let all = base.adapter("llama-all.gguf");
    let session = base.engine.open_session(base.model, &SessionOptions::default()).unwrap();
    for scale in [f32::NAN, f32::INFINITY] {
        let error = base.engine.set_adapter(session, Some(all), scale).unwrap_err();
        assert!(matches!(error, Error::AdapterScale { .. }), "{error}");
    }
    let other = base.engine.load(golden_model("hf/llama.gguf"), &LoadOptions::default()).unwrap();
    let foreign = base.engine.open_session(other, &SessionOptions::default()).unwrap();
    let error = base.engine.set_adapter(foreign, Some(all), 1.0).unwrap_err();
    assert!(matches!(error, Error::ForeignAdapter), "{error}");
    base.engine.set_adapter(session, Some(all), 1.0).unwrap();
    base.engine.remove_adapter(all);
    base.engine.remove_adapter(all);
    assert_eq!(base.engine.adapter_of(session).unwrap(), None);
    let error = base.engine.set_adapter(session, Some(all), 1.0).unwrap_err();
    assert!(matches!(error, Error::NoAdapter), "{error}");
    assert!(matches!(base.engine.adapter(all), Err(Error::NoAdapter)));
    // Unloading a model unloads its adapters.
    let again = base.adapter("llama-qv.gguf");
    base.engine.unload(base.model);
    assert!(matches!(base.engine.adapter(again), Err(Error::NoAdapter)));
    assert!(matches!(base.engine.load_adapter(base.model, "x.gguf"), Err(Error::NoModel)));
}
