//! Arguments of the commands that fetch models and look after those that are here.

use clap::Args;

/// `weft pull`
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// A name from `weft list`, or OWNER/REPO[:QUANT] or OWNER/REPO/FILE.gguf on the hub, each with
    /// @REVISION after it where another branch than main is meant; without a name, the default model
    #[arg(value_name = "NAME", long_help = PULL_HELP)]
    pub(crate) model: Option<String>,
    /// Read a model that is here through, compare its checksum, and fetch what is damaged again
    #[arg(long)]
    pub(crate) verify: bool,
    /// Print {"model", "file", "sha256", "checked"}
    #[arg(long)]
    pub(crate) json: bool,
}

const PULL_HELP: &str = "\
A name from `weft list`, or a model on the Hugging Face hub:

  OWNER/REPO            its Q4_K_M, else its Q8_0, else its first GGUF
  OWNER/REPO:QUANT      the file named after QUANT, such as q4_0
  OWNER/REPO/FILE.gguf  this file, and all parts of a split one

each with @REVISION after it for another branch, tag or commit than
main. The same name then stands for the model wherever one is asked
for. Without a name, the default model.";

/// `weft list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print one JSON value
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weft rm`
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Names as `weft list` shows them, or as `weft pull` took them
    #[arg(value_name = "NAME", required = true)]
    pub(crate) models: Vec<String>,
    /// Print {"removed": [files], "bytes"}
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weft completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}
