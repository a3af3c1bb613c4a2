//! Adapters: loading them beside a model, and giving them to sessions.

use crate::engine::{Engine, ModelId};
use crate::error::Error;
use crate::session::SessionId;
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{Adapter, AdapterOf, AdapterUsers, Adapters, LogitsKept, LogitsWanted, UsesAdapter};
use weft_formats::adapter::{AdapterBase, AdapterFile, AdapterFiles};
use weft_systems::load::ModelOrigin;
use weft_systems::on_cpu::AdapterWeights;

/// An adapter of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdapterId(pub Entity);

/// Where an adapter comes from.
#[derive(Clone)]
pub enum AdapterSource {
    /// A GGUF file, or a folder that PEFT saved.
    #[cfg(not(target_family = "wasm"))]
    Path(std::path::PathBuf),
    /// What has been opened already.
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
    /// The adapter's files, opened.
    ///
    /// # Errors
    /// A file that is missing or cannot be read.
    pub fn open(self) -> Result<AdapterFiles, Error> {
        match self {
            #[cfg(not(target_family = "wasm"))]
            Self::Path(path) => Ok(AdapterFiles::open(&path)?),
            Self::Files(files) => Ok(files),
        }
    }
}

impl Engine {
    /// Loads a LoRA adapter beside a model, whole, before it returns. The model's weights stay as they are; sessions that do not
    /// use the adapter are not touched. The model may still be loading, and sessions may be at work.
    ///
    /// # Errors
    /// The model is gone, or the adapter is damaged, made for another model, or does what the engine does not.
    pub fn load_adapter(
        &mut self,
        model: ModelId,
        source: impl Into<AdapterSource>,
    ) -> Result<AdapterId, Error> {
        let config = self.config(model)?;
        let shards = self.world.get::<ModelOrigin>(model.0).map_or(&[][..], ModelOrigin::shards);
        let files = source.into().open()?;
        let AdapterFile { adapter, matrices } = AdapterFile::read(&files, &AdapterBase { config, shards })?;
        let weights = AdapterWeights(Arc::new(matrices));
        Ok(AdapterId(self.world.spawn((adapter, weights, AdapterOf(model.0))).id()))
    }

    /// Drops an adapter. Sessions that use it go on with the plain model: what they hold in the KV cache is given up and computed
    /// again, also in the middle of an answer.
    pub fn remove_adapter(&mut self, adapter: AdapterId) {
        if self.world.get::<Adapter>(adapter.0).is_none() {
            return;
        }
        let users = self.world.get::<AdapterUsers>(adapter.0);
        let users = users.map_or_else(Vec::new, |users| users.entities().to_vec());
        for session in users {
            self.use_adapter(SessionId(session), None);
        }
        self.world.despawn(adapter.0);
    }

    /// The adapters of a model, in the order in which they were loaded.
    ///
    /// # Errors
    /// The model is gone.
    pub fn adapters(&self, model: ModelId) -> Result<Vec<AdapterId>, Error> {
        self.config(model)?;
        let adapters = self.world.get::<Adapters>(model.0).map_or(&[][..], Adapters::entities);
        Ok(adapters.iter().copied().map(AdapterId).collect())
    }

    /// What an adapter changes.
    ///
    /// # Errors
    /// The adapter is gone.
    pub fn adapter(&self, adapter: AdapterId) -> Result<&Adapter, Error> {
        self.world.get(adapter.0).ok_or(Error::NoAdapter)
    }

    /// The adapter that a session uses, and its scale.
    ///
    /// # Errors
    /// The session is gone.
    pub fn adapter_of(&self, session: SessionId) -> Result<Option<(AdapterId, f32)>, Error> {
        self.phase(session)?;
        let used = self.world.get::<UsesAdapter>(session.0);
        Ok(used.map(|used| (AdapterId(used.adapter), used.scale)))
    }

    /// Gives a session an adapter, whose sums are multiplied by `scale`, or the plain model. Sessions with different adapters and
    /// scales, and without, pass through the model together.
    ///
    /// What the session holds in the KV cache was made with what it used before, so it is computed again; an answer that is under
    /// way goes on after that, and logits that were asked for are all of the new adapter. Nothing happens where the session
    /// uses the same adapter at the same scale already.
    ///
    /// # Errors
    /// The session or the adapter is gone, the adapter is of another model, or the scale is no number.
    pub fn set_adapter(
        &mut self,
        session: SessionId,
        adapter: Option<AdapterId>,
        scale: f32,
    ) -> Result<(), Error> {
        let model = self.model_of(session)?;
        let wanted = match adapter {
            None => None,
            Some(_) if !scale.is_finite() => return Err(Error::AdapterScale { scale }),
            Some(AdapterId(adapter)) => {
                let of = self.world.get::<AdapterOf>(adapter).ok_or(Error::NoAdapter)?;
                if of.0 != model.0 {
                    return Err(Error::ForeignAdapter);
                }
                Some(UsesAdapter { adapter, scale })
            }
        };
        let key = |used: &UsesAdapter| (used.adapter, used.scale.to_bits());
        if self.world.get::<UsesAdapter>(session.0).map(key) != wanted.as_ref().map(key) {
            self.use_adapter(session, wanted);
        }
        Ok(())
    }

    /// Makes a session's context void and gives it another adapter.
    fn use_adapter(&mut self, session: SessionId, adapter: Option<UsesAdapter>) {
        self.truncate(session, 0);
        let active = self.phase(session).is_ok_and(weft_components::Phase::is_active);
        let Ok(mut session) = self.world.get_entity_mut(session.0) else { return };
        match adapter {
            Some(adapter) => session.insert(adapter),
            None => session.remove::<UsesAdapter>(),
        };
        // Rows of the adapter before.
        if active && session.contains::<LogitsWanted>() {
            session.insert(LogitsKept::default());
        }
    }
}
