//! Names of models on the hub: a file of a repository, or a repository with a quantization, which resolve to one of its
//! files.
//!
//! The rule is that of llama.cpp's `-hf`: the quantization's name has to stand before a `.` or `-` in the path, in any
//! case. Without a quantization, Q4_K_M is taken, else Q8_0, else the first model. A split model is represented by its
//! first part.

use super::error::PullError;
use super::hub::{HubReference, plain};
use super::split::Split;

/// Quantizations that a repository alone resolves to, in order of preference.
const USUAL: [&str; 2] = ["Q4_K_M", "Q8_0"];
/// Parts of the names of files that lie beside models but are not models.
const NO_MODELS: [&str; 4] = ["mmproj", "imatrix", "mtp-", "eagle3-"];

/// A model's name on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HubName {
    /// `OWNER/REPO/FILE.gguf`.
    File(HubReference),
    /// `OWNER/REPO` or `OWNER/REPO:QUANT`.
    Quant(HubQuant),
}

/// A repository and a quantization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HubQuant {
    /// `owner/name`.
    pub(crate) repo: String,
    /// The quantization in upper case; `None` for the default one.
    pub(crate) quant: Option<String>,
    /// Branch, tag or commit.
    pub(crate) revision: String,
}

impl HubName {
    /// Parses `OWNER/REPO[:QUANT]` or `OWNER/REPO/FILE.gguf`, either with an optional `@REVISION`.
    ///
    /// # Errors
    /// [`PullError::Reference`] for anything else, and for names that the hub does not allow.
    pub(crate) fn parse(text: &str) -> Result<Self, PullError> {
        let (path, revision) = text.rsplit_once('@').unwrap_or((text, "main"));
        let (repo, quant) = match path.rsplit_once(':') {
            Some((repo, quant)) => (repo, Some(quant)),
            None => (path, None),
        };
        if quant.is_none() && path.split('/').count() > 2 {
            return HubReference::parse(text).map(Self::File);
        }
        let wrong = |reason| PullError::Reference { text: text.to_owned(), reason };
        let Some((owner, name)) = repo.split_once('/') else {
            return Err(wrong("it has no slash between owner and repository"));
        };
        let mut parts = [owner, name, revision].into_iter().chain(quant);
        if !parts.all(plain) || repo.contains("--") {
            return Err(wrong(
                "names consist of letters, digits, `-`, `_` and `.` without `--`, and do not begin with a dot",
            ));
        }
        let quant = quant.map(str::to_ascii_uppercase);
        Ok(Self::Quant(HubQuant { repo: repo.to_owned(), quant, revision: revision.to_owned() }))
    }
}

impl HubQuant {
    /// The quantization as recorded in the cache; empty for the default one.
    pub(super) fn key(&self) -> &str {
        self.quant.as_deref().unwrap_or_default()
    }

    /// Creates a reference to a file of the repository.
    pub(super) fn file(&self, file: &str) -> HubReference {
        HubReference { repo: self.repo.clone(), file: file.to_owned(), revision: self.revision.clone() }
    }

    /// Chooses the file that the name resolves to.
    pub(super) fn choose<'a>(&self, files: &[&'a str]) -> Option<&'a str> {
        let models = || files.iter().copied().filter(|file| is_model(file));
        let of = |quant: &str| {
            // F16 must not match BF16, unless nothing else matches.
            let whole = models().find(|file| holds(file, quant, true));
            whole.or_else(|| models().find(|file| holds(file, quant, false)))
        };
        match &self.quant {
            Some(quant) => of(quant),
            None => USUAL.iter().find_map(|quant| of(quant)).or_else(|| models().next()),
        }
    }

    /// Returns true if a file is a model of exactly this quantization, by the end of its name; without a quantization,
    /// any model. Stricter than [`choose`](Self::choose), for operations that cannot be undone: F16 does not match
    /// BF16, and 0 does not match Q8_0.
    pub(super) fn is_of(&self, file: &str) -> bool {
        let Some(quant) = &self.quant else { return is_model(file) };
        let stem = Split::of(file).map_or_else(|| stem(file), |split| split.stem);
        let name = stem.rsplit('/').next().unwrap_or(stem).to_ascii_uppercase();
        let before = name.strip_suffix(&quant.to_ascii_uppercase());
        is_model(file) && before.is_some_and(|before| before.is_empty() || before.ends_with(['.', '-']))
    }
}

/// Returns true if a file is a model, or the first part of one.
pub(super) fn is_model(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file).to_ascii_lowercase();
    begins_gguf(file) && !NO_MODELS.iter().any(|no| name.contains(no))
}

/// Returns true if a file is a GGUF of any kind, or the first part of one.
pub(super) fn begins_gguf(file: &str) -> bool {
    file.to_ascii_lowercase().ends_with(".gguf") && Split::of(file).is_none_or(|split| split.part == 1)
}

/// A file's path without the extension.
fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

/// Returns true if the path contains the quantization's name before a `.` or `-`; as a separate word if `whole`.
fn holds(file: &str, quant: &str, whole: bool) -> bool {
    let (file, quant) = (file.to_ascii_uppercase(), quant.to_ascii_uppercase());
    file.match_indices(&quant).any(|(at, _)| {
        let before = file.get(..at).and_then(|text| text.chars().next_back());
        let after = file.get(at + quant.len()..).and_then(|text| text.chars().next());
        let begins = !whole || before.is_none_or(|c| !c.is_ascii_alphanumeric());
        begins && matches!(after, Some('.' | '-'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quant(text: &str) -> HubQuant {
        match HubName::parse(text).unwrap() {
            HubName::Quant(quant) => quant,
            HubName::File(file) => panic!("{file:?}"),
        }
    }

    #[test]
    fn names() {
        let found = quant("o/r-GGUF:q4_k_m@v1");
        assert_eq!((&*found.repo, found.key(), &*found.revision), ("o/r-GGUF", "Q4_K_M", "v1"));
        assert_eq!(quant("o/r").quant, None);
        assert!(matches!(HubName::parse("o/r/q/m.gguf"), Ok(HubName::File(_))));
        for wrong in
            ["", "r", "o/", "/r", "o/r:", "o/r:a b", "o/r/m:q4", "o--x/r", "../r", "o/r@", "o/r/m.bin"]
        {
            assert!(matches!(HubName::parse(wrong), Err(PullError::Reference { .. })), "{wrong}");
        }
    }

    #[test]
    fn the_file_is_the_one_that_llama_cpp_takes() {
        let files = [
            "README.md",
            "m-BF16.gguf",
            "m-F16.gguf",
            "m-IQ4_XS.gguf",
            "m-Q4_K_M.gguf",
            "m-Q8_0.gguf",
            "mmproj-Q4_K_M.gguf",
            "q6/m.q6_k-00001-of-00002.gguf",
            "q6/m.q6_k-00002-of-00002.gguf",
        ];
        for (name, wanted) in [
            ("o/r", Some("m-Q4_K_M.gguf")),
            ("o/r:q8_0", Some("m-Q8_0.gguf")),
            ("o/r:F16", Some("m-F16.gguf")),
            ("o/r:q6_K", Some("q6/m.q6_k-00001-of-00002.gguf")),
            ("o/r:Q4_K", None),
            ("o/r:Q5_0", None),
        ] {
            assert_eq!(quant(name).choose(&files), wanted, "{name}");
        }
        assert_eq!(quant("o/r").choose(&files[..4]), Some("m-BF16.gguf"));
        assert_eq!(quant("o/r").choose(&["m-q8_0.gguf", "a.gguf"]), Some("m-q8_0.gguf"));
        assert_eq!(quant("o/r").choose(&["mmproj.gguf"]), None);
    }

    #[test]
    fn only_the_very_quantization_is_exact() {
        for (name, file, exact) in [
            ("o/r:F16", "m-F16.gguf", true),
            ("o/r:f16", "q/m.f16.gguf", true),
            ("o/r:F16", "m-BF16.gguf", false),
            ("o/r:F16", "m-F16-Q8_0.gguf", false),
            ("o/r:F16", "m-F16/m-Q8_0.gguf", false),
            ("o/r:Q8_0", "m-F16-Q8_0.gguf", true),
            ("o/r:0", "m-Q8_0.gguf", false),
            ("o/r:K_M", "m-Q4_K_M.gguf", false),
            ("o/r:Q4_K", "m-Q4_K_M.gguf", false),
            ("o/r:Q4_K_XL", "m-UD-Q4_K_XL.gguf", true),
            ("o/r:Q2_K", "s/m-Q2_K-00001-of-00002.gguf", true),
            ("o/r:Q8_0", "mmproj-Q8_0.gguf", false),
            ("o/r", "m-BF16.gguf", true),
            ("o/r", "mmproj.gguf", false),
        ] {
            assert_eq!(quant(name).is_of(file), exact, "{name} {file}");
        }
    }
}
