//! LoRA adapters: loading them for a model, and choosing one for a session.

use super::models::{ModelId, config};
use super::sessions::{SessionId, model_of, phase, truncate};
use crate::error::Error;
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{Adapter, AdapterOf, AdapterUsers, Adapters, LogitsKept, LogitsWanted, UsesAdapter};
use weft_formats::adapter::{AdapterBase, AdapterFile, AdapterFiles};
use weft_systems::load::ModelOrigin;
use weft_systems::on_cpu::AdapterWeights;
use weft_systems::related;

/// Identifies an adapter: its entity in the world that it was loaded into. Valid until [`remove_adapter`], or until its
/// model is unloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdapterId(pub Entity);

/// Where an adapter comes from.
#[derive(Clone)]
pub enum AdapterSource {
    /// A GGUF file, or a folder that PEFT saved.
    #[cfg(not(target_family = "wasm"))]
    Path(std::path::PathBuf),
    /// Files that are already open.
    Files(AdapterFiles),
}

#[cfg(not(target_family = "wasm"))]
impl From<&std::path::Path> for AdapterSource {
    fn from(path: &std::path::Path) -> Self {
        Self::Path(path.to_owned())
    }
}

#[cfg(not(target_family = "wasm"))]
impl From<&str> for AdapterSource {
    fn from(path: &str) -> Self {
        Self::Path(path.into())
    }
}

impl From<AdapterFiles> for AdapterSource {
    fn from(files: AdapterFiles) -> Self {
        Self::Files(files)
    }
}

impl AdapterSource {
    /// Opens the adapter's files.
    ///
    /// # Errors
    /// A file is missing or cannot be read.
    pub fn open(self) -> Result<AdapterFiles, Error> {
        match self {
            #[cfg(not(target_family = "wasm"))]
            Self::Path(path) => Ok(AdapterFiles::open(&path)?),
            Self::Files(files) => Ok(files),
        }
    }
}

/// Loads a LoRA adapter for a model. Reads all of it on the calling thread before it returns. The model's weights do
/// not change, and sessions that do not use the adapter are not affected. The model may still be loading, and sessions
/// may be active.
///
/// # Errors
/// The model has been unloaded, or the adapter is damaged, made for another model, or of a kind that is not supported.
pub fn load_adapter(
    world: &mut World,
    model: ModelId,
    source: impl Into<AdapterSource>,
) -> Result<AdapterId, Error> {
    let config = config(world, model)?;
    let shards = world.get::<ModelOrigin>(model.0).map_or(&[][..], ModelOrigin::shards);
    let files = source.into().open()?;
    let AdapterFile { adapter, matrices } = AdapterFile::read(&files, &AdapterBase { config, shards })?;
    let weights = AdapterWeights(Arc::new(matrices));
    Ok(AdapterId(world.spawn((adapter, weights, AdapterOf(model.0))).id()))
}

/// Removes an adapter. Sessions that use it continue with the plain model, also in the middle of an answer: their
/// cached context is dropped and recomputed.
pub fn remove_adapter(world: &mut World, adapter: AdapterId) {
    if world.get::<Adapter>(adapter.0).is_none() {
        return;
    }
    for session in related::<AdapterUsers>(world, adapter.0) {
        use_adapter(world, SessionId(session), None);
    }
    world.despawn(adapter.0);
}

/// Returns the adapters of a model in the order in which they were loaded.
///
/// # Errors
/// The model has been unloaded.
pub fn adapters(world: &World, model: ModelId) -> Result<Vec<AdapterId>, Error> {
    config(world, model)?;
    let adapters = world.get::<Adapters>(model.0).map_or(&[][..], Adapters::entities);
    Ok(adapters.iter().copied().map(AdapterId).collect())
}

/// Returns a description of an adapter: what it changes in its model.
///
/// # Errors
/// The adapter has been removed.
pub fn adapter(world: &World, adapter: AdapterId) -> Result<&Adapter, Error> {
    world.get(adapter.0).ok_or(Error::NoAdapter)
}

/// Returns the adapter that a session uses and its scale; `None` for the plain model.
///
/// # Errors
/// The session has been closed.
pub fn adapter_of(world: &World, session: SessionId) -> Result<Option<(AdapterId, f32)>, Error> {
    phase(world, session)?;
    let used = world.get::<UsesAdapter>(session.0);
    Ok(used.map(|used| (AdapterId(used.adapter), used.scale)))
}

/// Sets the adapter of a session, or the plain model for `None`. The adapter's low-rank product is multiplied by
/// `scale` before it is added. Sessions with different adapters and scales, or without one, share waves.
///
/// The session's cached context was computed with the previous adapter, so it is recomputed. An answer in progress then
/// continues, and all requested logits are those of the new adapter. Does nothing if the session already uses the same
/// adapter at the same scale.
///
/// # Errors
/// The session has been closed, the adapter has been removed or belongs to another model, or the scale is NaN or
/// infinite.
pub fn set_adapter(
    world: &mut World,
    session: SessionId,
    adapter: Option<AdapterId>,
    scale: f32,
) -> Result<(), Error> {
    let model = model_of(world, session)?;
    let wanted = match adapter {
        None => None,
        Some(_) if !scale.is_finite() => return Err(Error::AdapterScale { scale }),
        Some(AdapterId(adapter)) => {
            let of = world.get::<AdapterOf>(adapter).ok_or(Error::NoAdapter)?;
            if of.0 != model.0 {
                return Err(Error::ForeignAdapter);
            }
            Some(UsesAdapter { adapter, scale })
        }
    };
    let key = |used: &UsesAdapter| (used.adapter, used.scale.to_bits());
    if world.get::<UsesAdapter>(session.0).map(key) != wanted.as_ref().map(key) {
        use_adapter(world, session, wanted);
    }
    Ok(())
}

/// Drops a session's cached context and changes its adapter.
fn use_adapter(world: &mut World, session: SessionId, adapter: Option<UsesAdapter>) {
    truncate(world, session, 0);
    let active = phase(world, session).is_ok_and(weft_components::Phase::is_active);
    let Ok(mut session) = world.get_entity_mut(session.0) else { return };
    match adapter {
        Some(adapter) => session.insert(adapter),
        None => session.remove::<UsesAdapter>(),
    };
    // The logits kept so far were computed with the previous adapter.
    if active && session.contains::<LogitsWanted>() {
        session.insert(LogitsKept::default());
    }
}
