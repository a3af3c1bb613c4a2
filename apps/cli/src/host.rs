//! An engine with one model, driven tick by tick: the part that every command which computes shares.
//!
//! Ticks show the load's progress and note when it ended, so an answer may begin while weights still arrive.

use crate::args::{GenerateArgs, ModelArgs};
use crate::backend::{self, Started};
use crate::catalogue::Catalogue;
use crate::error::CliError;
use crate::interrupt::Answering;
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

/// The file of a model: a path, a name of the catalogue or one that was pulled, or the catalogue's default. Models of the
/// catalogue are fetched where they are not here; what is on the hub is fetched by `weft pull` alone, since a path that
/// is mistyped looks like a name there.
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

/// The file of a model that is here; nothing is fetched.
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

/// Tokens of a session where no context is asked for and the model takes as many: what the engine's KV cache then holds.
pub(crate) const DEFAULT_CONTEXT: usize = 32_768;

/// What differs between the commands' loads.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostOptions {
    /// Tokens of KV cache; `None` for the engine's default.
    pub(crate) kv_tokens: Option<usize>,
    /// Tokens that one session is to hold, where that is asked for.
    pub(crate) context: Option<usize>,
    /// Bytes a second at which the file is read.
    pub(crate) throttle: Option<NonZeroU64>,
    /// Which chat template is taken.
    pub(crate) template: TemplateChoice,
}

/// An engine and its model.
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) model: ModelId,
    /// The file's name, without its folder.
    pub(crate) file_name: String,
    /// The adapter that sessions use, and its scale.
    adapter: Option<(AdapterId, f32)>,
    /// What computed when it was opened, for people.
    backend_line: String,
    bar: LoadBar,
    started: Instant,
    loaded: Option<Duration>,
}

impl Host {
    /// Starts an engine and a load; weights arrive with the ticks.
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

    /// Opens a session, with the adapter where there is one; a context that the model was not made for is refused rather than cut.
    pub(crate) fn session(&mut self, context: Option<usize>) -> Result<SessionId, CliError> {
        let model = self.engine.config(self.model)?.context;
        if let Some(asked) = context.filter(|asked| *asked > model) {
            return Err(CliError::ContextTooLarge { asked, model });
        }
        let session = self.engine.open_session(self.model, &SessionOptions { context })?;
        if let Some((adapter, scale)) = self.adapter {
            self.engine.set_adapter(session, Some(adapter), scale)?;
        }
        Ok(session)
    }

    /// What computes: `gpu` where any layer is on one, else `cpu`.
    pub(crate) fn backend(&self) -> &'static str {
        if self.engine.gpu_parts(self.model).is_empty() { "cpu" } else { "gpu" }
    }

    /// What computes, in words: the GPUs and their layers, or why it is the CPU.
    pub(crate) fn backend_line(&self) -> &str {
        &self.backend_line
    }

    /// An error of the engine, with what to do on this command line.
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

    /// How long the load took, once it is whole.
    pub(crate) fn load_time(&self) -> Option<Duration> {
        self.loaded
    }

    /// One tick, the load's progress, and a short rest where there was nothing to do.
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

    /// Ticks until every weight is there.
    pub(crate) fn wait_loaded(&mut self) -> Result<(), CliError> {
        while self.loaded.is_none() {
            self.step()?;
        }
        Ok(())
    }

    /// Ticks until the session's request has ended. Looks at nothing but its phase in between, so that it can be timed.
    pub(crate) fn finish(&mut self, session: SessionId) -> Result<FinishReason, CliError> {
        loop {
            match self.ended(session)? {
                Some(reason) => return Ok(reason),
                None => self.step()?,
            }
        }
    }

    /// Why the session's request has ended, if it has.
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

    /// Ticks until the session's request has ended, giving each piece of text to `say`, with the tokens so far; an
    /// empty piece where a token came that showed no text yet.
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

/// Whether there was no memory for a model and its KV cache.
fn of_memory(error: &CliError) -> bool {
    let CliError::Engine(weft::Error::Load(error)) = error else { return false };
    matches!(**error, LoadError::Kv(_) | LoadError::Gpu { .. })
}

/// The error of a load that found no memory for a context: one that the model was not made for is to be smaller anyway, however
/// much memory there is. The header is read again for that, and only then.
fn of_context(error: CliError, path: &Path, load: &LoadOptions, context: Option<usize>) -> CliError {
    let Some(asked) = context.filter(|_| of_memory(&error)) else { return error };
    match PreparedModel::read(path, load) {
        Ok(model) if asked > model.config().context => {
            CliError::ContextTooLarge { asked, model: model.config().context }
        }
        _ => error,
    }
}

/// What the engine is to generate.
pub(crate) fn generate_options(args: &GenerateArgs) -> GenerateOptions {
    GenerateOptions {
        max_tokens: Some(usize::try_from(args.max_tokens).unwrap_or(usize::MAX)),
        stop: args.stop.clone(),
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

/// A finish reason as scripts read it.
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
