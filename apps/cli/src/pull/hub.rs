//! Names and addresses on the Hugging Face hub, and what it says of a file before that is fetched.

use std::path::PathBuf;

use super::error::{PullError, SourceError};

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
    /// Reads `OWNER/REPO/FILE.gguf` or `OWNER/REPO/FILE.gguf@REVISION`; the file may lie in folders.
    ///
    /// # Errors
    /// [`PullError::Reference`] for anything else, and for names that the hub does not allow or that would lead out of
    /// the cache folder.
    pub(crate) fn parse(text: &str) -> Result<Self, PullError> {
        let wrong = |reason| PullError::Reference { text: text.to_owned(), reason };
        let (path, revision) = text.rsplit_once('@').unwrap_or((text, "main"));
        let parts: Vec<&str> = path.split('/').collect();
        let [owner, name, file @ ..] = parts.as_slice() else {
            return Err(wrong("it has no slash between owner and repository"));
        };
        if file.is_empty() {
            return Err(wrong("it names a repository and no file of it"));
        }
        if !parts.iter().chain([&revision]).all(|part| plain(part)) {
            return Err(wrong("names have letters, digits, `-`, `_` and `.` only, and begin with no dot"));
        }
        if !file.last().is_some_and(|name| name.to_ascii_lowercase().ends_with(".gguf")) {
            return Err(wrong("the file's name does not end in .gguf"));
        }
        Ok(Self { repo: format!("{owner}/{name}"), file: file.join("/"), revision: revision.to_owned() })
    }

    /// Where the file belongs within the folder of models: one folder a repository and revision.
    pub(super) fn cache_path(&self) -> PathBuf {
        let mut folder = self.repo.replace('/', "--");
        if self.revision != "main" {
            folder = format!("{folder}@{}", self.revision);
        }
        let mut path = PathBuf::from("hub").join(folder);
        path.extend(self.file.split('/'));
        path
    }
}

/// A name that means the same in a URL and on every file system, and cannot be `..`.
fn plain(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= 128
        && !part.starts_with('.')
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// The address of a file. All parts are plain names, which need no escaping.
pub(super) fn url(endpoint: &str, repo: &str, file: &str, revision: &str) -> String {
    format!("{}/{repo}/resolve/{revision}/{file}", endpoint.trim_end_matches('/'))
}

/// What the hub says of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileFacts {
    /// `X-Linked-ETag` where it is a SHA-256, as it is for files in large file storage.
    pub(super) sha256: Option<String>,
    /// `X-Linked-Size`.
    pub(super) bytes: Option<u64>,
}

/// Asks for a file's facts. A server that does not know them is no error; one that does not have the file is.
pub(super) fn facts(agent: &ureq::Agent, endpoint: &str, url: &str) -> Result<FileFacts, SourceError> {
    let mut asked = url.to_owned();
    // A repository that was renamed answers with a redirect within the hub, before the one to the file's storage.
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

#[cfg(test)]
mod tests {
    use super::*;

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
