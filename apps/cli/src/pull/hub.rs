//! Names and URLs on the Hugging Face hub, and what the hub reports about a file before it is downloaded.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::{PullError, SourceError};
use super::split::Split;

/// A file on the hub that is not in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HubReference {
    /// `owner/name`.
    pub(crate) repo: String,
    /// Path within the repository.
    pub(crate) file: String,
    /// Branch, tag or commit.
    pub(crate) revision: String,
}

impl HubReference {
    /// Parses `OWNER/REPO/FILE.gguf` or `OWNER/REPO/FILE.gguf@REVISION`; the file may be in folders.
    ///
    /// # Errors
    /// [`PullError::Reference`] for anything else, for names that the hub does not allow, and for names that would lead
    /// out of the cache folder.
    pub(crate) fn parse(text: &str) -> Result<Self, PullError> {
        let wrong = |reason| PullError::Reference { text: text.to_owned(), reason };
        let (path, revision) = text.rsplit_once('@').unwrap_or((text, MAIN));
        let parts: Vec<&str> = path.split('/').collect();
        let [owner, name, file @ ..] = parts.as_slice() else {
            return Err(wrong("it has no slash between owner and repository"));
        };
        // The hub does not allow `--`, and the cache uses it in place of the slash.
        if owner.contains("--") || name.contains("--") {
            return Err(wrong("owner and repository must not contain `--`"));
        }
        if file.is_empty() {
            return Err(wrong("it names a repository, but no file in it"));
        }
        if !parts.iter().chain([&revision]).all(|part| plain(part)) {
            return Err(wrong(
                "names consist of letters, digits, `-`, `_` and `.`, and do not begin with a dot",
            ));
        }
        if !file.last().is_some_and(|name| name.to_ascii_lowercase().ends_with(".gguf")) {
            return Err(wrong("the file's name does not end in .gguf"));
        }
        Ok(Self { repo: format!("{owner}/{name}"), file: file.join("/"), revision: revision.to_owned() })
    }

    /// The name that pulls this file.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}{}", self.repo, self.file, self.at())
    }

    /// The suffix `@REVISION` of the name; empty for the default branch.
    pub(super) fn at(&self) -> String {
        if self.revision == MAIN { String::new() } else { format!("@{}", self.revision) }
    }

    /// The files of the model: this one, or all parts of a split model in order.
    pub(crate) fn parts(&self) -> Vec<Self> {
        match Split::of(&self.file) {
            Some(split) => split.files().map(|file| Self { file, ..self.clone() }).collect(),
            None => vec![self.clone()],
        }
    }

    /// The file's path in the folder of models, with one folder per repository and revision.
    pub(super) fn cache_path(&self) -> PathBuf {
        let mut path = folder(&self.repo, &self.revision);
        path.extend(self.file.split('/'));
        path
    }

    /// Parses a path in the folder of models; the inverse of [`cache_path`](Self::cache_path).
    pub(super) fn of_cache_path(path: &Path) -> Option<Self> {
        let mut names = path.iter().map(|name| name.to_str());
        (names.next()?? == HUB).then_some(())?;
        let folder = names.next()??;
        let (repo, revision) = folder.split_once('@').unwrap_or((folder, MAIN));
        let file = names.collect::<Option<Vec<_>>>()?.join("/");
        let text = format!("{}/{file}@{revision}", repo.replacen("--", "/", 1));
        Self::parse(&text).ok()
    }
}

/// The folder of everything pulled by its name on the hub.
pub(super) const HUB: &str = "hub";
/// The default branch.
const MAIN: &str = "main";

/// The folder of a repository's revision in the folder of models.
pub(super) fn folder(repo: &str, revision: &str) -> PathBuf {
    let mut folder = repo.replace('/', "--");
    if revision != MAIN {
        folder = format!("{folder}@{revision}");
    }
    PathBuf::from(HUB).join(folder)
}

/// Returns true if a name means the same in a URL and on every file system, and cannot be `..`.
pub(super) fn plain(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= 128
        && !part.starts_with('.')
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// The URL of a file. All components are plain names, which need no escaping.
pub(super) fn url(endpoint: &str, repo: &str, file: &str, revision: &str) -> String {
    format!("{}/{repo}/resolve/{revision}/{file}", endpoint.trim_end_matches('/'))
}

/// What the hub reports about a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileFacts {
    /// `X-Linked-ETag` if it is a SHA-256, as it is for files in large file storage.
    pub(super) sha256: Option<String>,
    /// `X-Linked-Size` in bytes.
    pub(super) bytes: Option<u64>,
}

/// Requests what the hub knows about a file.
///
/// # Errors
/// If the server cannot be reached or does not have the file. Missing facts are not an error.
pub(super) fn facts(agent: &ureq::Agent, endpoint: &str, url: &str) -> Result<FileFacts, SourceError> {
    let mut asked = url.to_owned();
    // A renamed repository is answered by a redirect within the hub, followed by the redirect to the file's storage.
    for _ in 0..4 {
        let answer = agent
            .head(&asked)
            .config()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build()
            .call()
            .map_err(|error| SourceError::Unreachable { url: asked.clone(), reason: error.to_string() })?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let status = answer.status().as_u16();
        match status {
            401 | 403 | 404 | 410 => return Err(SourceError::Status { url: asked, status }),
            _ => {}
        }
        let sha256 = header("x-linked-etag")
            .map(|tag| tag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase())
            .filter(|tag| tag.len() == 64 && tag.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let bytes = header("x-linked-size").and_then(|size| size.parse().ok());
        if sha256.is_none()
            && answer.status().is_redirection()
            && let Some(path) = header("location").filter(|to| to.starts_with('/') && !to.starts_with("//"))
        {
            asked = format!("{}{path}", endpoint.trim_end_matches('/'));
            continue;
        }
        return Ok(FileFacts { sha256, bytes });
    }
    Ok(FileFacts::default())
}

/// Lists the files of a repository.
pub(super) fn files(
    agent: &ureq::Agent,
    endpoint: &str,
    repo: &str,
    revision: &str,
) -> Result<Vec<String>, SourceError> {
    let endpoint = endpoint.trim_end_matches('/');
    let model = format!("{endpoint}/api/models/{repo}");
    // The tree endpoint stops after a thousand files, while the model endpoint lists all. A mirror may have only one of
    // them.
    let mut pages =
        vec![format!("{model}/revision/{revision}"), format!("{model}/tree/{revision}?recursive=true")];
    pages.extend((revision == MAIN).then_some(model));
    let mut failure = None;
    for url in pages {
        match listed(agent, &url) {
            Ok(files) => return Ok(files),
            Err(error @ SourceError::Unreachable { .. }) => return Err(error),
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    Err(failure.unwrap_or(SourceError::Listing { url: endpoint.to_owned(), reason: String::new() }))
}

/// Maximum bytes of a listing. A repository of ten thousand files takes 2 MB.
const MOST_LISTING: u64 = 16 << 20;

/// Reads the paths in a listing of the form `{"siblings": [{"rfilename"}]}` or `[{"type": "file", "path"}]`.
fn listed(agent: &ureq::Agent, url: &str) -> Result<Vec<String>, SourceError> {
    #[derive(Deserialize)]
    struct Sibling {
        rfilename: String,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(rename = "type")]
        kind: String,
        path: String,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Listing {
        Model { siblings: Vec<Sibling> },
        Tree(Vec<Entry>),
    }
    let mut answer = agent
        .get(url)
        .call()
        .map_err(|error| SourceError::Unreachable { url: url.to_owned(), reason: error.to_string() })?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(SourceError::Status { url: url.to_owned(), status });
    }
    let wrong = |reason: String| SourceError::Listing { url: url.to_owned(), reason };
    let bytes = answer
        .body_mut()
        .with_config()
        .limit(MOST_LISTING)
        .read_to_vec()
        .map_err(|error| wrong(error.to_string()))?;
    Ok(match serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))? {
        Listing::Model { siblings } => siblings.into_iter().map(|sibling| sibling.rfilename).collect(),
        Listing::Tree(entries) => {
            entries.into_iter().filter(|entry| entry.kind == "file").map(|entry| entry.path).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_paths_lead_back() {
        for name in ["o/r/m.gguf", "o/r/a/b/m.gguf@v1.0"] {
            let reference = HubReference::parse(name).unwrap();
            assert_eq!(HubReference::of_cache_path(&reference.cache_path()).as_ref(), Some(&reference));
            assert_eq!(reference.name(), name);
        }
        for other in ["hub/o--r", "hub/o--r/m.bin", "m.gguf", "hub/r/m.gguf", "other/o--r/m.gguf"] {
            assert_eq!(HubReference::of_cache_path(Path::new(other)), None, "{other}");
        }
        let parts = HubReference::parse("o/r/m-00001-of-00002.gguf@x").unwrap().parts();
        assert_eq!(parts[1].name(), "o/r/m-00002-of-00002.gguf@x");
    }

    #[test]
    fn references() {
        let found = HubReference::parse("owner/repo/q4/model-Q4_0.gguf@v1.0").unwrap();
        assert_eq!(
            (&*found.repo, &*found.file, &*found.revision),
            ("owner/repo", "q4/model-Q4_0.gguf", "v1.0")
        );
        assert_eq!(found.cache_path(), PathBuf::from("hub/owner--repo@v1.0/q4/model-Q4_0.gguf"));
        assert_eq!(HubReference::parse("o/r/m.GGUF").unwrap().revision, "main");
        assert_eq!(
            url("https://huggingface.co/", "o/r", "a/m.gguf", "main"),
            "https://huggingface.co/o/r/resolve/main/a/m.gguf"
        );
    }

    #[test]
    fn bad_references_are_refused() {
        for text in [
            "",
            "model",
            "o/r",
            "o/r/",
            "o//m.gguf",
            "o/r/../../m.gguf",
            "/o/r/m.gguf",
            "o/r/m.bin",
            "o/r/m.gguf@",
            "o/r/m.gguf@..",
            "o/r/a b.gguf",
            "o/r/m.gguf?x=.gguf",
            "o/r/%2e%2e/m.gguf",
            "o\\r/x/m.gguf",
            "../r/m.gguf",
        ] {
            assert!(matches!(HubReference::parse(text), Err(PullError::Reference { .. })), "{text}");
        }
    }
}
