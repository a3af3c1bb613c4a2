//! Arguments of the commands that read a model's vocabulary and template alone, and of those that look into its file.

use super::model::MODEL_HELP;
use super::values::IdList;
use clap::Args;
use std::path::PathBuf;

/// What may be given where only the vocabulary is read.
const VOCABULARY_HELP: &str =
    "A GGUF file, with tensors or without, a Hugging Face folder, or a name as `weft run` takes it";

/// `weft tokenize`
#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    #[arg(long, short, help = VOCABULARY_HELP)]
    pub(crate) model: Option<String>,
    /// Take the names of special tokens for those tokens
    #[arg(long)]
    pub(crate) special: bool,
    /// Never begin with the BOS token; without this, as the model's metadata says
    #[arg(long)]
    pub(crate) no_bos: bool,
    /// Print {"tokens": [ids]}
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weft detokenize`
#[derive(Debug, Args)]
pub(crate) struct DetokenizeArgs {
    /// Token ids, such as 1,2,3
    #[arg(value_name = "IDS")]
    pub(crate) tokens: IdList,
    #[arg(long, short, help = VOCABULARY_HELP)]
    pub(crate) model: Option<String>,
    /// Leave out special tokens instead of writing their names
    #[arg(long)]
    pub(crate) no_special: bool,
    /// Print {"text"}
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weft template`
#[derive(Debug, Args)]
pub(crate) struct TemplateArgs {
    #[arg(long, short, conflicts_with = "file", help = VOCABULARY_HELP)]
    pub(crate) model: Option<String>,
    /// A template in Jinja
    #[arg(long, short, value_name = "T.jinja")]
    pub(crate) file: Option<PathBuf>,
    /// Leave out what asks the model to answer
    #[arg(long)]
    pub(crate) no_generation_prompt: bool,
    /// Tools: a file of JSON, an array of definitions as in OpenAI's `tools`
    #[arg(long, value_name = "F.json")]
    pub(crate) tools: Option<PathBuf>,
    /// The model's template of this name, such as tool_use; a built-in one; or a file in Jinja
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "file")]
    pub(crate) chat_template: Option<String>,
    /// Further variables, a JSON object, such as {"bos_token": "<s>"}
    #[arg(long, value_name = "JSON")]
    pub(crate) vars: Option<String>,
    /// Print {"text"}
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weft inspect`
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[arg(help = MODEL_HELP)]
    pub(crate) file: String,
    /// Print one JSON value
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weft tensor`
#[derive(Debug, Args)]
pub(crate) struct TensorArgs {
    #[arg(help = MODEL_HELP)]
    pub(crate) file: String,
    /// The tensor's name
    pub(crate) name: String,
}
