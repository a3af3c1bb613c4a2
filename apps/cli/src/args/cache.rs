//! Arguments of the commands that download, list and remove models.

use clap::Args;

/// `weft pull`
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// A name from `weft list`, or OWNER/REPO[:QUANT] or OWNER/REPO/FILE.gguf on the hub, each with an optional
    /// @REVISION to use another branch than main; without a name, the default model
    #[arg(value_name = "NAME", long_help = PULL_HELP)]
    pub(crate) model: Option<String>,
    /// Read a downloaded model in full, compare its checksum, and download it again if it is damaged
    #[arg(long)]
    pub(crate) verify: bool,
    /// Print {"model", "file", "sha256", "checked"}
    #[arg(long)]
    pub(crate) json: bool,
}

const PULL_HELP: &str = "\
A name from `weft list`, or a model on the Hugging Face hub:

  OWNER/REPO            its Q4_K_M, else Q8_0, else the first GGUF
  OWNER/REPO:QUANT      the file whose name has QUANT, such as q4_0
  OWNER/REPO/FILE.gguf  this file, or all parts of a split model

Append @REVISION for another branch, tag or commit than main. The
same name then works wherever a command takes a model. Without a
name, the default model.";

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
    /// Names as `weft list` shows them, or as they were given to `weft pull`
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
