//! `weft list`: lists the models of the catalogue, which of them are downloaded, and other models that were pulled
//! completely or in part.

use crate::args::ListArgs;
use crate::catalogue::Catalogue;
use crate::error::CliError;
use crate::pull::{Here, Places, PullError};
use crate::style::Style;
use crate::{memory, output};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Serialize)]
struct Report<'a> {
    models: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    aliases: &'a [String],
    /// Description and license, for models of the catalogue.
    description: Option<&'a str>,
    license: Option<&'a str>,
    /// Size of the model over all parts. If the model is only partly downloaded and its size is unknown, the size of
    /// that part.
    bytes: u64,
    /// SHA-256 of the file or of its first part; absent if it is unknown.
    sha256: Option<&'a str>,
    default: bool,
    /// Path of the file or of its first part; absent if it is not downloaded.
    file: Option<PathBuf>,
    parts: usize,
    /// Bytes that an interrupted pull left behind.
    partial_bytes: Option<u64>,
}

impl<'a> From<&'a Here> for Entry<'a> {
    fn from(model: &'a Here) -> Self {
        Self {
            name: &model.name,
            aliases: &model.aliases,
            description: None,
            license: None,
            bytes: model.bytes,
            sha256: model.sha256.as_deref(),
            default: false,
            file: model.file.clone(),
            parts: model.parts,
            partial_bytes: model.file.is_none().then_some(model.bytes),
        }
    }
}

/// Runs the command.
pub(super) fn run(args: &ListArgs) -> Result<(), CliError> {
    let catalogue = Catalogue::embedded().map_err(PullError::from)?;
    // Without a cache folder, nothing is downloaded.
    let places = Places::from_environment().ok();
    let pulled = places.as_ref().map(Places::pulled).unwrap_or_default();
    let models = catalogue.models.iter().map(|model| Entry {
        name: &model.name,
        aliases: &model.aliases,
        description: Some(&model.description),
        license: Some(&model.license),
        bytes: model.bytes,
        sha256: Some(&model.sha256),
        default: model.default,
        file: places.as_ref().and_then(|places| places.cached(model)),
        parts: 1,
        partial_bytes: places.as_ref().and_then(|places| places.begun(model)),
    });
    let report = Report { models: models.chain(pulled.iter().map(Entry::from)).collect() };
    if args.json {
        return output::json(&report);
    }
    let style = Style::stdout();
    for model in &report.models {
        let default = if model.default { " (default)" } else { "" };
        let parts = if model.parts > 1 { format!(" in {} parts", model.parts) } else { String::new() };
        output::line(&format!("{}{default}  {}{parts}", style.bold(model.name), memory::human(model.bytes)))?;
        if !model.aliases.is_empty() {
            output::line(&format!("  also {}", model.aliases.join(", ")))?;
        }
        if let (Some(description), Some(license)) = (model.description, model.license) {
            output::line(&format!("  {description}; {license}"))?;
        }
        let place = match (&model.file, model.partial_bytes) {
            (Some(file), _) => file.display().to_string(),
            (None, Some(bytes)) => {
                let (name, bytes) = (model.name, memory::human(bytes));
                format!("{bytes} downloaded; `weft pull {name}` completes it, `weft rm {name}` removes it")
            }
            (None, None) => "not downloaded".to_owned(),
        };
        output::line(&format!("  {}", style.dim(&place)))?;
    }
    Ok(())
}
