//! A model is planned into the memory that there is, or refused with the need and the limit.

use crate::common::{golden, golden_json, greedy, ids};
use weft::{Engine, EngineOptions, Error, FitOptions, KvFormat, LoadError, LoadOptions, PreparedModel};

fn engine(memory: u64) -> Engine {
    Engine::new(&EngineOptions { memory: Some(memory), ..EngineOptions::default() }).unwrap()
}

fn model() -> PreparedModel {
    PreparedModel::read(golden("tiny/tiny-llama.gguf").as_path(), &LoadOptions::default()).unwrap()
}

/// Bytes that a plan of this context and format needs.
fn needed(kv_tokens: usize, kv_format: KvFormat) -> u64 {
    let options =
        FitOptions { kv_tokens: Some(kv_tokens), kv_format: Some(kv_format), ..FitOptions::default() };
    let plan = engine(u64::MAX).fit(&model(), &options).unwrap();
    assert_eq!((plan.kv_tokens, plan.kv_format, plan.offloaded), (kv_tokens, kv_format, 0));
    plan.places.iter().map(|place| place.need.bytes()).sum()
}

#[test]
fn context_and_format_shrink_with_the_memory() {
    let plan = |memory: u64| engine(memory).fit(&model(), &FitOptions::default());
    let most = plan(u64::MAX).unwrap();
    assert_eq!(most.kv_format, KvFormat::F16);
    // Exactly what the plan needs is enough; a byte less makes the cache narrower, then shorter.
    let all = needed(most.kv_tokens, KvFormat::F16);
    let exact = plan(all).unwrap();
    assert_eq!((exact.kv_tokens, exact.kv_format), (most.kv_tokens, KvFormat::F16));
    let narrower = plan(all - 1).unwrap();
    assert_eq!((narrower.kv_tokens, narrower.kv_format), (most.kv_tokens, KvFormat::Q8_0));
    let shorter = plan(needed(most.kv_tokens, KvFormat::Q8_0) - 1).unwrap();
    assert!(shorter.kv_tokens <= most.kv_tokens / 2, "{shorter}");
    assert!(shorter.places.iter().all(|place| place.need.bytes() <= place.available.unwrap()));
    assert!(shorter.to_string().contains("CPU: 3 layers"), "{shorter}");
}

#[test]
fn what_does_not_fit_is_refused_with_the_need_and_the_limit() {
    let error = engine(1000).fit(&model(), &FitOptions::default()).unwrap_err();
    let Error::Load(error) = error else { panic!("{error}") };
    let LoadError::DoesNotFit { needed: found, available, tokens, place, .. } = &*error else {
        panic!("{error}")
    };
    assert_eq!((*available, &place[..]), (1000, "CPU"));
    assert_eq!(*found, needed(*tokens, KvFormat::Q8_0));
    // A context that was asked for is not made shorter.
    let asked =
        FitOptions { kv_tokens: Some(1 << 40), kv_format: Some(KvFormat::F16), ..FitOptions::default() };
    assert!(matches!(engine(1 << 30).fit(&model(), &asked), Err(Error::Load(_))));
}

#[test]
fn a_plan_is_loaded_as_it_was_made() {
    let mut engine = engine(64 << 20);
    let model = model();
    let plan = engine.fit(&model, &FitOptions { kv_tokens: Some(512), ..FitOptions::default() }).unwrap();
    let model = engine.load_prepared(model.with_fit(&plan)).unwrap();
    let reference = golden_json("tiny/tiny-llama.json");
    let said = ids(&reference["greedy"]);
    assert_eq!(greedy(&mut engine, model, &ids(&reference["tokens"]), said.len()), said);
}
