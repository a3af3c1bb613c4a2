//! Prefixes on disk: they outlive a restart and a model swap with the same bits, are never used by another model, and
//! whatever is in the folder is used or skipped with a reason.

use super::{accounts, alone, last_logits, long, shared, small, tokens, used_pages, windowed};
use crate::common::requests::asks;
use crate::common::{golden, told};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use weft::stages::kv::PrefixTree;
use weft::synth::{Synth, SynthShape};
use weft::{
    Engine, EngineOptions, Error, GenerateOptions, KvFormat, LoadOptions, LoadedPrefixes, ModelId,
    ModelSource, PAGE, PageFileError, PrefixFolderError, SamplerSettings, SavedPrefixes,
};

fn restarted() -> (Engine, ModelId) {
    long(&EngineOptions::default(), 16_384)
}

fn tiny(engine: &mut Engine, load: &LoadOptions) -> ModelId {
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), load).unwrap();
    engine.wait_loaded(model).unwrap();
    model
}

fn page_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn bytes_of(folder: &Path) -> u64 {
    page_files(folder).iter().map(|file| fs::metadata(file).unwrap().len()).sum()
}

fn prefilled(engine: &Engine, model: ModelId) -> usize {
    engine.prefix_stats(model).unwrap().prefilled_tokens as usize
}

fn loads(engine: &mut Engine, model: ModelId, folder: &Path) -> LoadedPrefixes {
    let loaded = engine.load_prefixes(model, folder).unwrap();
    accounts::check(engine, model);
    loaded
}

/// A folder with the pages of one context of `tiny-llama`.
fn saved(context: &[u32]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let model = tiny(&mut engine, &LoadOptions::default());
    shared(&mut engine, model, context, 1);
    let pages = context.len() / PAGE;
    let wanted = SavedPrefixes { pages, written: pages, removed: 0 };
    assert_eq!(engine.save_prefixes(model, folder.path(), None).unwrap(), wanted);
    folder
}

#[test]
fn a_prefix_outlives_a_restart_with_the_same_bits() {
    const PREFIX: usize = 1000;
    let folder = tempfile::tempdir().unwrap();
    let prefix = tokens(PREFIX, 1);
    let prompts: Vec<Vec<u32>> = (0..3).map(|n| [&prefix[..], &tokens(20 + n, 50 + n)].concat()).collect();
    let drawn = SamplerSettings { temperature: 0.8, seed: 5, ..SamplerSettings::default() };
    let options = GenerateOptions { sampler: drawn, ..asks(6) };
    let (mut engine, model) = restarted();
    let wanted: Vec<_> = prompts.iter().map(|prompt| alone(&mut engine, model, prompt, &options)).collect();
    // What one session holds is saved, and what another one has left.
    let session = told(&mut engine, model, &prefix);
    engine.generate(session, &asks(30)).unwrap();
    engine.wait(session).unwrap();
    shared(&mut engine, model, &prompts[0], 1);
    let first = engine.save_prefixes(model, folder.path(), None).unwrap();
    assert_eq!((first.pages, first.removed), (first.written, 0));
    assert!(first.pages > PREFIX / PAGE, "{first:?}");
    let again = engine.save_prefixes(model, folder.path(), None).unwrap();
    assert_eq!(again, SavedPrefixes { written: 0, ..first });
    drop(engine);

    let (mut engine, model) = restarted();
    let loaded = loads(&mut engine, model, folder.path());
    assert_eq!(loaded, LoadedPrefixes { pages: first.pages, skipped: vec![] });
    assert_eq!(used_pages(&engine, model), first.pages);
    // They are there now.
    assert_eq!(loads(&mut engine, model, folder.path()).pages, 0);
    for (prompt, (answer, logits)) in prompts.iter().zip(&wanted) {
        let before = prefilled(&engine, model);
        let session = told(&mut engine, model, prompt);
        engine.generate(session, &options).unwrap();
        engine.wait(session).unwrap();
        assert_eq!(&engine.output(session).unwrap().tokens, answer);
        assert_eq!(&last_logits(&mut engine, session), logits);
        let computed = prefilled(&engine, model) - before;
        assert!(computed <= prompt.len() - PREFIX / PAGE * PAGE, "{computed} tokens were computed");
        accounts::check(&mut engine, model);
    }
}

#[test]
fn pages_join_what_the_tree_has() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = tokens(400, 1);
    let (mut engine, model) = restarted();
    let prompts = [[&prefix[..], &tokens(300, 2)].concat(), [&prefix[..], &tokens(300, 3)].concat()];
    prompts.iter().for_each(|prompt| drop(shared(&mut engine, model, prompt, 1)));
    let saved = engine.save_prefixes(model, folder.path(), None).unwrap();
    let wanted: Vec<_> = prompts.iter().map(|prompt| alone(&mut engine, model, prompt, &asks(5)).0).collect();
    let (mut engine, model) = restarted();
    // A session goes on from the beginning, and one from the middle of a run that must be split.
    let open = told(&mut engine, model, &prompts[0][..500]);
    engine.generate(open, &asks(20)).unwrap();
    engine.wait(open).unwrap();
    let known = 500 / PAGE;
    assert_eq!(loads(&mut engine, model, folder.path()).pages, saved.pages - known);
    for (prompt, wanted) in prompts.iter().zip(&wanted) {
        let before = prefilled(&engine, model);
        assert_eq!(&shared(&mut engine, model, prompt, 5), wanted);
        assert!(prefilled(&engine, model) - before <= PAGE, "pages were computed again");
    }
    engine.generate(open, &asks(5)).unwrap();
    engine.wait(open).unwrap();
    accounts::check(&mut engine, model);
}

#[test]
fn a_prefix_outlives_a_swap_of_models_and_no_other_model_uses_it() {
    let folder = tempfile::tempdir().unwrap();
    let prompt = tokens(200, 4);
    // The same names, shapes and hyperparameters, and other weights.
    let source = |seed: u64| {
        let shape = SynthShape { context: 4096, ..small() };
        let synth = Synth::new("synthetic", "llama", &shape, Synth::format("Q8_0").unwrap(), seed).unwrap();
        let bytes = synth.write(Vec::new(), 1, |_| ControlFlow::Continue(())).unwrap();
        ModelSource::memory("synthetic.gguf", bytes)
    };
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let swap = |engine: &mut Engine, seed, kv_format| {
        let load = LoadOptions { kv_format, kv_tokens: Some(2048), ..LoadOptions::default() };
        let model = engine.load(source(seed), &load).unwrap();
        engine.wait_loaded(model).unwrap();
        let loaded = loads(engine, model, folder.path());
        assert_eq!(loaded.skipped, []);
        let before = prefilled(engine, model);
        let said = shared(engine, model, &prompt, 8);
        let computed = prefilled(engine, model) - before;
        assert_eq!(said, alone(engine, model, &prompt, &asks(8)).0);
        engine.save_prefixes(model, folder.path(), None).unwrap();
        engine.unload(model);
        (loaded.pages, computed)
    };
    for (seed, format) in [(1, KvFormat::F16), (2, KvFormat::F16), (1, KvFormat::Q8_0)] {
        assert_eq!(swap(&mut engine, seed, format), (0, prompt.len()), "model {seed} in {format:?}");
    }
    for (seed, format) in [(1, KvFormat::F16), (2, KvFormat::F16), (1, KvFormat::Q8_0)] {
        let (pages, computed) = swap(&mut engine, seed, format);
        assert_eq!(pages, prompt.len() / PAGE, "model {seed} in {format:?}");
        assert!(computed < PAGE, "{computed} tokens were computed");
    }
}

#[test]
fn a_damaged_file_is_skipped_whatever_is_damaged() {
    let context = tokens(40, 1);
    let folder = saved(&context);
    let files = page_files(folder.path());
    let [file] = &files[..] else { panic!("{files:?}") };
    let whole = fs::read(file).unwrap();
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let model = tiny(&mut engine, &LoadOptions::default());
    let mut refused = |bytes: &[u8]| {
        fs::write(file, bytes).unwrap();
        let loaded = engine.load_prefixes(model, folder.path()).unwrap();
        assert_eq!((loaded.pages, used_pages(&engine, model)), (0, 0));
        assert_eq!(loaded.skipped.len(), 1);
        assert_eq!(&loaded.skipped[0].0, file);
        loaded.skipped[0].1.clone()
    };
    let mut damaged = whole.clone();
    // The header and the tokens byte by byte. Keys and values are behind the same checksum.
    for at in (0..1024).chain((1024..whole.len()).step_by(23)) {
        for bit in [1, 0x80] {
            damaged[at] ^= bit;
            let error = refused(&damaged);
            match at {
                0..8 => assert_eq!(error, PageFileError::Mark),
                36.. if bit == 1 => assert_ne!(error, PageFileError::Mark),
                _ => {}
            }
            damaged[at] ^= bit;
        }
    }
    damaged[8] = 9;
    assert_eq!(refused(&damaged), PageFileError::Newer { version: 9 });
    for length in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        let error = refused(&whole[..length]);
        assert!(matches!(error, PageFileError::Mark | PageFileError::Length { .. }), "{length}: {error}");
    }
    let longer = [&whole[..], &[0]].concat();
    assert!(matches!(refused(&longer), PageFileError::Length { .. }));
    // Saving mends it.
    shared(&mut engine, model, &context, 1);
    let mended = engine.save_prefixes(model, folder.path(), None).unwrap();
    assert_eq!(mended, SavedPrefixes { pages: 1, written: 1, removed: 0 });
    assert_eq!(fs::read(file).unwrap(), whole);
    engine.clear_prefix_cache(model).unwrap();
    assert_eq!(loads(&mut engine, model, folder.path()), LoadedPrefixes { pages: 1, skipped: vec![] });
}

#[test]
fn a_file_that_is_not_what_its_name_says_is_skipped() {
    let context = tokens(4 * PAGE, 1);
    let folder = saved(&context);
    let other = saved(&tokens(PAGE, 2));
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let model = tiny(&mut engine, &LoadOptions::default());
    let skipped = |engine: &mut Engine| {
        engine.clear_prefix_cache(model).unwrap();
        let loaded = loads(engine, model, folder.path());
        (loaded.pages, loaded.skipped.into_iter().map(|(_, error)| error).collect::<Vec<_>>())
    };
    assert_eq!(skipped(&mut engine), (4, vec![]));
    // Files and folders that are no pages are left alone.
    for name in ["notes.txt", "0123456789abcdef-12.weftkv", "x.weftkv"] {
        fs::write(folder.path().join(name), "anything").unwrap();
    }
    fs::create_dir(folder.path().join("subfolder.weftkv")).unwrap();
    assert_eq!(skipped(&mut engine), (4, vec![]));
    // A page in place of another: the pages after that one have no beginning.
    let prefix = page_files(other.path())[0].file_name().unwrap().to_str().unwrap()[..17].to_owned();
    let ours = |file: &PathBuf| file.file_name().unwrap().to_str().unwrap().starts_with(&prefix);
    let files: Vec<_> = page_files(folder.path()).into_iter().filter(ours).collect();
    assert_eq!(files.len(), 4);
    for file in &files {
        let whole = fs::read(file).unwrap();
        fs::copy(&page_files(other.path())[0], file).unwrap();
        let (pages, errors) = skipped(&mut engine);
        assert!(pages < 4);
        assert!(errors.contains(&PageFileError::Name), "{errors:?}");
        assert!(errors.len() == 1 || errors.contains(&PageFileError::NoBeginning), "{errors:?}");
        fs::remove_file(file).unwrap();
        let (pages, errors) = skipped(&mut engine);
        assert!(pages < 4 && errors.iter().all(|error| *error == PageFileError::NoBeginning));
        fs::write(file, whole).unwrap();
    }
    // A page of another model under a name of this one.
    let foreign = tempfile::tempdir().unwrap();
    let load = LoadOptions { kv_format: KvFormat::F32, ..LoadOptions::default() };
    let another = tiny(&mut engine, &load);
    shared(&mut engine, another, &tokens(PAGE, 1), 1);
    engine.save_prefixes(another, foreign.path(), None).unwrap();
    engine.unload(another);
    let name = page_files(foreign.path())[0].file_name().unwrap().to_str().unwrap().to_owned();
    let name = format!("{prefix}{}", &name[17..]);
    fs::copy(&page_files(foreign.path())[0], folder.path().join(name)).unwrap();
    assert_eq!(skipped(&mut engine), (4, vec![PageFileError::Foreign]));
}

#[test]
fn a_folder_keeps_to_its_limit_and_loses_ends_first() {
    let folder = tempfile::tempdir().unwrap();
    let (mut engine, model) = restarted();
    let (old, new) = (tokens(640, 1), tokens(640, 2));
    shared(&mut engine, model, &old, 1);
    let saved = engine.save_prefixes(model, folder.path(), None).unwrap();
    assert_eq!(saved.pages, 20);
    let page = bytes_of(folder.path()) / 20;
    shared(&mut engine, model, &new, 1);
    let limit = 30 * page + page / 2;
    let saved = engine.save_prefixes(model, folder.path(), Some(limit)).unwrap();
    assert!(bytes_of(folder.path()) <= limit);
    assert_eq!((saved.pages, saved.written, page_files(folder.path()).len()), (30, 20, 30));
    let (mut engine, model) = restarted();
    assert_eq!(loads(&mut engine, model, folder.path()), LoadedPrefixes { pages: 30, skipped: vec![] });
    // The last used is whole, of the other the beginning.
    for (prompt, least, most) in [(&new, 0, PAGE), (&old, 320, 320)] {
        let before = prefilled(&engine, model);
        shared(&mut engine, model, prompt, 1);
        let computed = prefilled(&engine, model) - before;
        assert!((least..=most).contains(&computed), "{computed} tokens were computed");
    }
    // Less room than the folder has: what was saved before goes too, of other models as well.
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let other = tiny(&mut engine, &LoadOptions::default());
    shared(&mut engine, other, &tokens(PAGE, 1), 1);
    let saved = engine.save_prefixes(other, folder.path(), Some(3 * page)).unwrap();
    assert_eq!((saved.pages, saved.written), (1, 1));
    assert!(bytes_of(folder.path()) <= 3 * page, "{saved:?}");
    let saved = engine.save_prefixes(other, folder.path(), Some(0)).unwrap();
    assert_eq!((saved.pages, page_files(folder.path()).len()), (0, 0));
}

#[test]
fn loading_keeps_to_the_budget_and_drops_nothing() {
    let folder = saved(&tokens(10 * PAGE, 1));
    let bytes =
        |engine: &Engine, model: ModelId| engine.world().get::<PrefixTree>(model.0).unwrap().cached_bytes();
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let model = tiny(&mut engine, &LoadOptions::default());
    loads(&mut engine, model, folder.path());
    let page = bytes(&engine, model) / 10;
    engine.unload(model);
    for (budget, fits) in [(0, 0), (page - 1, 0), (3 * page, 3), (3 * page + page / 2, 3), (99 * page, 10)] {
        let load = LoadOptions { prefix_cache: Some(budget), ..LoadOptions::default() };
        let model = tiny(&mut engine, &load);
        assert_eq!(loads(&mut engine, model, folder.path()).pages, fits, "{budget} bytes");
        assert_eq!(bytes(&engine, model), fits as u64 * page);
        engine.unload(model);
    }
    // A session has most of the pages.
    let model = tiny(&mut engine, &LoadOptions { kv_tokens: Some(8 * PAGE), ..LoadOptions::default() });
    let session = told(&mut engine, model, &tokens(5 * PAGE - 8, 2));
    engine.generate(session, &asks(1)).unwrap();
    engine.wait(session).unwrap();
    assert_eq!(loads(&mut engine, model, folder.path()).pages, 3);
    engine.generate(session, &asks(9)).unwrap();
    engine.wait(session).unwrap();
    accounts::check(&mut engine, model);
}

#[test]
fn a_windowed_context_is_saved_where_it_can_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let prompt = tokens(1500, 1);
    let longer = [&prompt[..], &tokens(40, 2)].concat();
    let (mut engine, model) = windowed(8192);
    shared(&mut engine, model, &prompt, 3);
    let wanted = alone(&mut engine, model, &longer, &asks(6));
    let saved = engine.save_prefixes(model, folder.path(), None).unwrap();
    assert_eq!(saved.pages, 1500 / PAGE);
    let (mut engine, model) = windowed(8192);
    let loaded = loads_windowed(&mut engine, model, folder.path());
    assert_eq!(loaded, LoadedPrefixes { pages: saved.pages, skipped: vec![] });
    let session = told(&mut engine, model, &longer);
    engine.generate(session, &asks(6)).unwrap();
    engine.wait(session).unwrap();
    assert_eq!(engine.output(session).unwrap().tokens, wanted.0);
    assert_eq!(prefilled(&engine, model), longer.len() - saved.pages * PAGE);
    assert_eq!(last_logits(&mut engine, session), wanted.1);
    // Where the window is gone, the context is computed.
    let short = [&prompt[..640], &tokens(9, 3)].concat();
    let wanted = alone(&mut engine, model, &short, &asks(6)).0;
    let before = prefilled(&engine, model);
    assert_eq!(shared(&mut engine, model, &short, 6), wanted);
    assert_eq!(prefilled(&engine, model) - before, short.len());
    // Now it is there, and its pages have more layers than those that were saved.
    let saved = engine.save_prefixes(model, folder.path(), None).unwrap();
    assert!(saved.written > 0, "{saved:?}");
    let (mut engine, model) = windowed(8192);
    assert_eq!(loads_windowed(&mut engine, model, folder.path()).skipped, []);
    assert_eq!(shared(&mut engine, model, &short, 6), wanted);
    assert!(prefilled(&engine, model) < PAGE);
    engine.clear_prefix_cache(model).unwrap();
    assert_eq!(used_pages(&engine, model), 0);
}

/// The accounts of classes without a window are checked elsewhere; here they differ in their pages.
fn loads_windowed(engine: &mut Engine, model: ModelId, folder: &Path) -> LoadedPrefixes {
    engine.load_prefixes(model, folder).unwrap()
}

#[test]
fn private_contexts_are_not_saved_and_nothing_is_saved_too_early() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/when/needed");
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &LoadOptions::default()).unwrap();
    let reason = |error: Error| match error {
        Error::PrefixFolder(reason) => reason,
        error => panic!("{error}"),
    };
    let early = reason(engine.save_prefixes(model, &path, None).unwrap_err());
    assert!(matches!(*early, PrefixFolderError::NotLoaded | PrefixFolderError::NotOnCpu), "{early}");
    engine.wait_loaded(model).unwrap();
    assert_eq!(engine.load_prefixes(model, &path).unwrap(), LoadedPrefixes::default());
    assert!(!path.exists());
    let prompt = tokens(100, 1);
    alone(&mut engine, model, &prompt, &asks(5));
    assert_eq!(engine.save_prefixes(model, &path, None).unwrap(), SavedPrefixes::default());
    // Rows in flight are not saved, and nothing is loaded beside them.
    let session = told(&mut engine, model, &prompt);
    engine.generate(session, &asks(5)).unwrap();
    engine.tick_for(std::time::Duration::ZERO);
    assert_eq!(engine.save_prefixes(model, &path, None).unwrap(), SavedPrefixes::default());
    let computing = reason(engine.load_prefixes(model, &path).unwrap_err());
    assert!(matches!(*computing, PrefixFolderError::Computing), "{computing}");
    engine.wait(session).unwrap();
    assert_eq!(engine.save_prefixes(model, &path, None).unwrap().pages, 3);
    // A file in place of the folder.
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = reason(engine.save_prefixes(model, &file, None).unwrap_err());
    assert!(matches!(*error, PrefixFolderError::Folder { .. }), "{error}");
    engine.unload(model);
    assert!(matches!(engine.save_prefixes(model, &path, None), Err(Error::NoModel)));
    assert!(matches!(engine.load_prefixes(model, &path), Err(Error::NoModel)));
}
