//! Arguments of the commands that read only a model's vocabulary and template, and of those that inspect its file.

use super::model::MODEL_HELP;
use super::values::IdList;
use clap::Args;
use std::path::PathBuf;

/// Help text of the options that take a model of which only the vocabulary is read.
const VOCABULARY_HELP: &str =
    "A GGUF file with or without tensors, a Hugging Face folder, or a name as for `weft run`";

/// `weft tokenize`
#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    #[arg(long, short, help = VOCABULARY_HELP)]
    pub(crate) model: Option<String>,
    /// Parse the names of special tokens as those tokens
    #[arg(long)]
    pub(crate) special: bool,
    /// Never begin with the BOS token; by default the model's metadata decides
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
    /// A Jinja template
    #[arg(long, short, value_name = "T.jinja")]
    pub(crate) file: Option<PathBuf>,
    /// Leave out the generation prompt, which begins the assistant's answer
    #[arg(long)]
    pub(crate) no_generation_prompt: bool,
    /// A JSON file with tools: an array of definitions as in OpenAI's `tools`
    #[arg(long, value_name = "F.json")]
    pub(crate) tools: Option<PathBuf>,
    /// The model's template of this name, such as tool_use; a built-in one; or a Jinja file
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "file")]
    pub(crate) chat_template: Option<String>,
    /// Further variables as a JSON object, such as {"bos_token": "<s>"}
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
