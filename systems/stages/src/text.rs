//! A model's tokenizer and chat template, as components.

use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_text::{ChatTemplate, Tokenizer};

/// A model's tokenizer. A component of the model, if its file has a vocabulary.
#[derive(Component)]
pub struct ModelTokenizer(pub Arc<Tokenizer>);

/// A model's chat template. A component of the model, if its file has one.
#[derive(Component)]
pub struct ModelTemplate(pub Arc<ChatTemplate>);
