//! An engine with one model, driven tick by tick. All commands that compute share it.
//!
//! Each tick also updates the load's progress bar, so that an answer can begin while weights are still loading.

use crate::args::{GenerateArgs, ModelArgs, PrefixArgs};
use crate::backend::{self, Started};
use crate::catalogue::Catalogue;
use crate::error::CliError;
use crate::interrupt::Answering;
use crate::output;
use crate::progress::{LoadBar, PullBar};
use crate::pull::{self, HubName, Places, PullError};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weft::storage::{Source, ThrottledSource};
use weft::{
    AdapterId, Engine, EngineOptions, FinishReason, GenerateOptions, LoadError, LoadOptions, ModelId,
    ModelSource, OpenModel, Phase, PreparedModel, SamplerSettings, SessionId, SessionOptions, TemplateChoice,
    TickOutcome,
};

/// Returns the path of a model. `model` is a path, a name of the catalogue or the hub, or `None` for the default model.
/// A model of the catalogue is downloaded if it is not in the cache. A model on the hub is downloaded only by `weft
/// pull`, because a mistyped path looks like a name on the hub.
pub(crate) fn model_file(model: Option<&str>) -> Result<PathBuf, CliError> {
    let catalogue = Catalogue::embedded().map_err(PullError::from)?;
    let entry = match model {
        Some(model) if Path::new(model).exists() => return Ok(model.into()),
        Some(model) => catalogue.find(model),
        None => catalogue.default_model(),
    };
    if let Some(entry) = entry {
        return Ok(pull::ensure(entry, &PullBar::new(&entry.name))?);
    }
    let model = model.unwrap_or("the default").to_owned();
    if let Ok(name) = HubName::parse(&model) {
        return Places::from_environment()?.here(&name).ok_or(CliError::NotPulled { model });
    }
    let known = catalogue.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>().join(", ");
    Err(CliError::UnknownModel { model, known })
}

/// Returns the path of a model if it is on this machine. Downloads nothing.
pub(crate) fn model_here(model: Option<&str>) -> Option<PathBuf> {
    let catalogue = Catalogue::embedded().ok()?;
    let entry = match model {
        Some(model) if Path::new(model).exists() => return Some(model.into()),
        Some(model) => catalogue.find(model),
        None => catalogue.default_model(),
    };
    let places = Places::from_environment().ok()?;
    match entry {
        Some(entry) => places.cached(entry),
        None => places.here(&HubName::parse(model?).ok()?),
    }
}

/// Default tokens per session if the model's context allows them: as many as the engine's KV cache holds for such a
/// session.
pub(crate) const DEFAULT_CONTEXT: usize = 32_768;

/// Load options that differ between commands.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostOptions {
    /// Size of the KV cache in tokens; `None` for the engine's default.
    pub(crate) kv_tokens: Option<usize>,
    /// Tokens per session, if the user asked for a number.
    pub(crate) context: Option<usize>,
    /// Limit on the rate at which the file is read, in bytes per second.
    pub(crate) throttle: Option<NonZeroU64>,
    /// The chat template to use.
    pub(crate) template: TemplateChoice,
}

/// An engine and its model, owned by a command for as long as it runs.
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) model: ModelId,
    /// The file's name without its folder.
    pub(crate) file_name: String,
    /// The adapter that sessions use, with its scale.
    adapter: Option<(AdapterId, f32)>,
    /// Description for the user of what computed when the model was opened.
    backend_line: String,
    bar: LoadBar,
    started: Instant,
    loaded: Option<Duration>,
}

impl Host {
    /// Starts an engine and begins to load the model. Weights are loaded by the ticks that follow.
    pub(crate) fn open(args: &ModelArgs, isa: Option<&str>, options: HostOptions) -> Result<Self, CliError> {
        let path = model_file(args.model.as_deref())?;
        let file_name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let engine = EngineOptions {
            threads: args.threads,
            isa: isa.map(str::to_owned),
            max_rows: args.wave_rows.map(NonZeroUsize::get),
            ..EngineOptions::default()
        };
        let load = LoadOptions {
            kv_tokens: options.kv_tokens,
            kv_format: args.kv.into(),
            template: options.template,
            ..LoadOptions::default()
        };
        let began = Instant::now();
        let started = backend::start(args, &engine, &load, || source(path.clone(), options.throttle))
            .map_err(|error| of_context(error, &path, &load, options.context))?;
        let backend_line = backend::describe(&started);
        let Started { mut engine, model, .. } = started;
        let adapter = match &args.lora.lora {
            Some(path) => Some((engine.load_adapter(model, path.as_path())?, args.lora.lora_scale)),
            None => None,
        };
        let bar = LoadBar::new(&file_name);
        Ok(Self { engine, model, file_name, adapter, backend_line, bar, started: began, loaded: None })
    }

    /// Caches the prompts that the folder of the arguments has, if there is one. For that all weights are loaded first, since
    /// they tell the model from others.
    pub(crate) fn load_prefixes(&mut self, args: &PrefixArgs) -> Result<(), CliError> {
        let Some(folder) = &args.prefix_cache else { return Ok(()) };
        self.wait_loaded()?;
        let loaded = self.engine.load_prefixes(self.model, folder)?;
        for (file, reason) in loaded.skipped {
            output::note(&format!("{} is not used: {reason}", file.display()));
        }
        Ok(())
    }

    /// Saves the prompts and answers that have been computed in the folder of the arguments, if there is one.
    pub(crate) fn save_prefixes(&mut self, args: &PrefixArgs) -> Result<(), CliError> {
        let Some(folder) = &args.prefix_cache else { return Ok(()) };
        let most = args.prefix_cache_size.saturating_mul(1 << 20);
        self.engine.save_prefixes(self.model, folder, Some(most))?;
        Ok(())
    }

    /// Opens a session, with the adapter if there is one.
    ///
    /// # Errors
    /// [`CliError::ContextTooLarge`] if `context` is more than the model's own; it is not cut silently.
    pub(crate) fn session(&mut self, context: Option<usize>) -> Result<SessionId, CliError> {
        self.open_session(SessionOptions { context, ..SessionOptions::default() })
    }

    /// As [`Host::session`], with further options.
    pub(crate) fn open_session(&mut self, options: SessionOptions) -> Result<SessionId, CliError> {
        let context = options.context;
        let model = self.engine.config(self.model)?.context;
        if let Some(asked) = context.filter(|asked| *asked > model) {
            return Err(CliError::ContextTooLarge { asked, model });
        }
        let session = self.engine.open_session(self.model, &options)?;
        if let Some((adapter, scale)) = self.adapter {
            self.engine.set_adapter(session, Some(adapter), scale)?;
        }
        Ok(session)
    }

    /// Returns `gpu` if any layer is on a GPU, else `cpu`.
    pub(crate) fn backend(&self) -> &'static str {
        if self.engine.gpu_shards(self.model).is_empty() { "cpu" } else { "gpu" }
    }

    /// Describes what computes: the GPUs with their layers, or why it is the CPU.
    pub(crate) fn backend_line(&self) -> &str {
        &self.backend_line
    }

    /// Turns an error of the engine into one whose remedy names this command's options.
    pub(crate) fn explain(&self, error: weft::Error) -> CliError {
        match error {
            weft::Error::ContextOverflow { tokens, limit } => {
                let model = self.engine.config(self.model).map_or(limit, |config| config.context);
                CliError::ContextOverflow { tokens, limit, model }
            }
            weft::Error::EmptyPrompt => CliError::EmptyPrompt,
            error => error.into(),
        }
    }

    /// When the load began.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// How long the load took; `None` until it is complete.
    pub(crate) fn load_time(&self) -> Option<Duration> {
        self.loaded
    }

    /// Runs one tick and updates the load's progress. Sleeps briefly if there was nothing to compute.
    pub(crate) fn step(&mut self) -> Result<(), CliError> {
        let outcome = self.engine.tick();
        self.watch_load()?;
        if outcome != TickOutcome::Advanced {
            self.engine.rest();
        }
        Ok(())
    }

    fn watch_load(&mut self) -> Result<(), CliError> {
        if self.loaded.is_none() {
            let progress = self.engine.progress(self.model)?;
            self.bar.show(&progress);
            if progress.is_complete() {
                self.loaded = Some(self.started.elapsed());
            }
        }
        Ok(())
    }

    /// Ticks until all weights are loaded.
    pub(crate) fn wait_loaded(&mut self) -> Result<(), CliError> {
        while self.loaded.is_none() {
            self.step()?;
        }
        Ok(())
    }

    /// Ticks until the session's request has ended. Reads only the session's phase in between, so that callers can time
    /// it.
    pub(crate) fn finish(&mut self, session: SessionId) -> Result<FinishReason, CliError> {
        loop {
            match self.ended(session)? {
                Some(reason) => return Ok(reason),
                None => self.step()?,
            }
        }
    }

    /// Returns why the session's request has ended, or `None` while it runs.
    fn ended(&self, session: SessionId) -> Result<Option<FinishReason>, CliError> {
        match self.engine.phase(session)? {
            Phase::Finished(FinishReason::ModelFailed) => {
                self.engine.progress(self.model)?;
                Err(weft::Error::NoModel.into())
            }
            Phase::Finished(FinishReason::InvalidLogits) => {
                Err(CliError::InvalidLogits { tokens: self.engine.output(session)?.tokens.len() })
            }
            Phase::Finished(reason) => Ok(Some(reason)),
            Phase::Idle | Phase::Paused => Err(weft::Error::EmptyPrompt.into()),
            Phase::Waiting | Phase::Prefilling | Phase::Decoding => Ok(None),
        }
    }

    /// Ticks until the session's request has ended. Passes each piece of new text to `say`, with the number of tokens
    /// so far. The piece is empty if a new token has not produced text yet. Pressing Ctrl-C cancels the request.
    pub(crate) fn answer(
        &mut self,
        session: SessionId,
        ctrl_c: Option<&Answering>,
        mut say: impl FnMut(&str, usize) -> Result<(), CliError>,
    ) -> Result<FinishReason, CliError> {
        let mut told = 0;
        loop {
            let tokens = self.engine.output(session)?.tokens.len();
            let piece = self.engine.read(session)?;
            if tokens != told || !piece.is_empty() {
                if !piece.is_empty() {
                    self.bar.clear();
                }
                say(&piece, tokens)?;
                told = tokens;
            }
            if let Some(reason) = self.ended(session)? {
                return Ok(reason);
            }
            if ctrl_c.is_some_and(Answering::pressed) {
                self.engine.cancel(session)?;
            } else {
                self.step()?;
            }
        }
    }
}

/// Returns true if memory for a model and its KV cache could not be allocated.
fn of_memory(error: &CliError) -> bool {
    let CliError::Engine(weft::Error::Load(error)) = error else { return false };
    matches!(**error, LoadError::Place { .. })
}

/// Refines the error of a load that could not allocate memory. If the user asked for a context larger than the model's
/// own, the error says so, because that has to shrink whatever memory there is. Only then is the file's header read
/// again.
fn of_context(error: CliError, path: &Path, load: &LoadOptions, context: Option<usize>) -> CliError {
    let Some(asked) = context.filter(|_| of_memory(&error)) else { return error };
    match PreparedModel::read(path, load) {
        Ok(model) if asked > model.config().context => {
            CliError::ContextTooLarge { asked, model: model.config().context }
        }
        _ => error,
    }
}

/// Converts the arguments to the engine's generation options.
pub(crate) fn generate_options(args: &GenerateArgs) -> GenerateOptions {
    GenerateOptions {
        max_tokens: Some(usize::try_from(args.max_tokens).unwrap_or(usize::MAX)),
        stop: args.stop.clone(),
        draft: args.draft,
        sampler: SamplerSettings {
            logit_bias: args.logit_bias.clone(),
            penalty_last_n: args.repeat_last_n,
            repetition_penalty: args.repeat_penalty,
            presence_penalty: args.presence_penalty,
            frequency_penalty: args.frequency_penalty,
            top_k: args.top_k,
            typical_p: args.typical,
            top_p: args.top_p,
            min_p: args.min_p,
            temperature: args.temperature,
            seed: args.seed,
            logprobs: None,
        },
        ..GenerateOptions::default()
    }
}

/// The finish reason as `--json` prints it.
pub(crate) fn finish_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::EndOfGeneration | FinishReason::StopString => "stop",
        FinishReason::MaxTokens => "length",
        FinishReason::ContextFull => "context",
        FinishReason::Cancelled => "cancelled",
        FinishReason::ModelFailed | FinishReason::InvalidLogits => "error",
    }
}

fn source(path: PathBuf, throttle: Option<NonZeroU64>) -> Result<ModelSource, CliError> {
    let Some(rate) = throttle else {
        return Ok(ModelSource::Path(path));
    };
    let model = ModelSource::Path(path).open()?;
    let slowed =
        model.sources.into_iter().map(|part| Arc::new(ThrottledSource::new(part, rate)) as Arc<dyn Source>);
    Ok(ModelSource::Open(OpenModel { sources: slowed.collect(), ..model }))
}
