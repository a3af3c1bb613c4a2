//! Fitting: plans a model into the available memory before anything of it is loaded.

use super::distribution::{Distribution, memory_of_others};
use super::origin::{default_kv_tokens, file_bytes, settle_format, slots_of};
use crate::admit::AdmitOptions;
use crate::place::{
    Assignment, Backend, Backends, EndsWanted, GpuLayers, LoadError, Need, PlaceError, PlaceErrorKind,
};
use bevy_ecs::prelude::*;
use core::fmt;
use core::ops::Range;
use std::sync::Arc;
use weft_components::{ModelConfig, Place, WaveLimits};
use weft_formats::ModelFile;
use weft_platform::KvFormat;

/// The options of a plan.
#[derive(Clone, Copy, Debug)]
pub struct FitOptions {
    /// Tokens of the KV cache, over all sessions. `None` for as many as fit, up to the default of a load.
    pub kv_tokens: Option<usize>,
    /// The smallest number of tokens for which the model is worth loading, if `kv_tokens` is `None`.
    pub least_tokens: usize,
    /// How keys and values are stored. `None` for the widest of F16 and Q8_0 that fits; Q4_0 changes answers too much to
    /// be taken unasked.
    pub kv_format: Option<KvFormat>,
    /// Layers wanted on places other than the first.
    pub gpu_layers: GpuLayers,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self { kv_tokens: None, least_tokens: 2048, kv_format: None, gpu_layers: GpuLayers::Auto }
    }
}

/// The part of a plan on one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceFit {
    /// The place.
    pub place: Place,
    /// The name of its backend.
    pub name: String,
    /// The layers.
    pub layers: Range<usize>,
    /// Bytes that they need.
    pub need: Need,
    /// Bytes that the place may use. `None` if unknown.
    pub available: Option<u64>,
}

/// A plan of layers, context and KV format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// The places that layers or ends go to.
    pub places: Vec<PlaceFit>,
    /// Tokens of the KV cache.
    pub kv_tokens: usize,
    /// How keys and values are stored.
    pub kv_format: KvFormat,
    /// Layers on places other than the first.
    pub offloaded: usize,
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens of context as {:?}", self.kv_tokens, self.kv_format)?;
        for PlaceFit { name, layers, need, available, .. } in &self.places {
            write!(f, "; {name}: {} layers, {} bytes", layers.len(), need.bytes())?;
            if let Some(available) = available {
                write!(f, " of {available}")?;
            }
        }
        Ok(())
    }
}

/// A context and a KV format to try.
struct Attempt<'a> {
    world: &'a World,
    backends: &'a Backends,
    config: ModelConfig,
    file: &'a ModelFile,
    options: &'a FitOptions,
    tokens: usize,
    /// Pages of each class of layers.
    slots: Vec<u32>,
    kv_format: KvFormat,
    limits: WaveLimits,
}

/// Why an attempt failed.
enum Refusal {
    /// A place has too little memory.
    TooLarge {
        place: String,
        needed: u64,
        available: u64,
    },
    /// A backend refuses.
    Backend(String, PlaceError),
    NoBackend,
}

impl Refusal {
    fn kind(&self) -> Option<PlaceErrorKind> {
        match self {
            Self::Backend(_, error) => Some(error.kind),
            _ => None,
        }
    }
}

impl PlaceFit {
    fn too_large(self) -> Refusal {
        let (needed, available) = (self.need.bytes(), self.available.unwrap_or_default());
        Refusal::TooLarge { place: self.name, needed, available }
    }
}

/// Plans a model into the memory of the world's places: as many layers as fit on places other than the first, then the
/// longest context, then the widest KV format. Loads nothing.
///
/// # Errors
/// [`LoadError::DoesNotFit`] if even the shortest context in the narrowest format does not fit, with the need and the
/// limit. Other errors if a backend cannot compute the model.
pub fn fit(world: &World, file: &ModelFile, options: &FitOptions) -> Result<Fit, LoadError> {
    let backends = Backends::of(world);
    let name = file.sources.first().map_or(String::new(), |source| source.name().to_owned());
    let mut contexts = vec![options.kv_tokens.unwrap_or_else(|| default_kv_tokens(&file.config))];
    if options.kv_tokens.is_none() {
        while let Some(half) =
            contexts.last().map(|last| last / 2).filter(|half| *half >= options.least_tokens)
        {
            contexts.push(half);
        }
    }
    let formats =
        options.kv_format.map_or_else(|| vec![KvFormat::F16, KvFormat::Q8_0], |format| vec![format]);
    let mut smallest = LoadError::NoBackend { file: name.clone() };
    for tokens in contexts {
        for kv_format in formats.iter().copied() {
            let mut config = file.config.clone();
            let kv_format = settle_format(&mut config, kv_format);
            config.settle_context(tokens);
            let limits = WaveLimits::new(&config, file_bytes(&file.shards));
            let slots = slots_of(tokens, &config, AdmitOptions::of(world).max_rows);
            let backends = &backends;
            let attempt =
                Attempt { world, backends, config, file, options, tokens, slots, kv_format, limits };
            let file = name.clone();
            match attempt.run() {
                Ok(fit) => return Ok(fit),
                Err(Refusal::TooLarge { place, needed, available }) => {
                    smallest = LoadError::DoesNotFit { file, place, needed, available, tokens };
                }
                Err(Refusal::Backend(place, source)) => return Err(LoadError::Place { file, place, source }),
                Err(Refusal::NoBackend) => return Err(LoadError::NoBackend { file }),
            }
        }
    }
    Err(smallest)
}

impl Attempt<'_> {
    fn assignment(&self, place: Place, layers: Range<usize>, ends: EndsWanted) -> Assignment<'_> {
        Assignment {
            model: Entity::PLACEHOLDER,
            place,
            config: &self.config,
            shards: &self.file.shards,
            slots: &self.slots,
            kv_format: self.kv_format,
            limits: self.limits,
            max_rows: AdmitOptions::of(self.world).max_rows,
            layers,
            ends,
            all: true,
        }
    }

    /// Computes what layers need on a place, and whether it fits.
    fn place(
        &self,
        place: Place,
        backend: &Arc<dyn Backend>,
        layers: Range<usize>,
        ends: EndsWanted,
    ) -> Result<(PlaceFit, bool), PlaceError> {
        let need = backend.fits(self.world, &self.assignment(place, layers.clone(), ends))?;
        let available = backend.memory(self.world);
        let fits = available.is_none_or(|available| need.bytes() <= available);
        Ok((PlaceFit { place, name: backend.name(self.world), layers, need, available }, fits))
    }

    /// The last layers of `range` that fit a place, from the last one on. Adds them to `places`.
    fn take(
        &self,
        places: &mut Vec<PlaceFit>,
        place: Place,
        backend: &Arc<dyn Backend>,
        mut range: Range<usize>,
    ) -> Result<Range<usize>, Refusal> {
        let refused = |error| Refusal::Backend(backend.name(self.world), error);
        let ends = EndsWanted::with_layers(&**backend);
        while !range.is_empty() {
            let (fit, fits) = self.place(place, backend, range.clone(), ends).map_err(refused)?;
            match fits {
                true => {
                    places.push(fit);
                    break;
                }
                false if self.options.gpu_layers != GpuLayers::Auto => return Err(fit.too_large()),
                false => range.start += 1,
            }
        }
        Ok(range)
    }

    fn run(&self) -> Result<Fit, Refusal> {
        let Some((first, host)) = self.backends.places().next() else {
            return Err(Refusal::NoBackend);
        };
        let mut places = Vec::new();
        let mut distribution = Distribution::on(first, self.config.layers);
        let memory = memory_of_others(self.world, self.backends);
        let take = |place, backend: &Arc<dyn Backend>, range| self.take(&mut places, place, backend, range);
        if distribution
            .offload(self.backends, &memory, self.options.gpu_layers, take, Refusal::kind)?
            .is_some()
        {
            places.clear();
        }
        places.reverse();
        let kept = distribution.kept();
        let offloaded = self.config.layers - kept.as_ref().map_or(0, |(layers, _)| layers.len());
        if let Some((layers, ends)) = kept {
            let refused = |error| Refusal::Backend(host.name(self.world), error);
            let (fit, fits) = self.place(first, host, layers, ends).map_err(refused)?;
            if !fits {
                return Err(fit.too_large());
            }
            places.insert(0, fit);
        }
        Ok(Fit { places, kv_tokens: self.tokens, kv_format: self.kv_format, offloaded })
    }
}
