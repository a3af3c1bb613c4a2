//! `weft list`: the models of the catalogue, and which are here.

use crate::args::ListArgs;
use crate::catalogue::Catalogue;
use crate::pull::{Places, PullError};
use crate::report::CliError;
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
    description: &'a str,
    license: &'a str,
    bytes: u64,
    sha256: &'a str,
    default: bool,
    /// Its file, where it has been fetched.
    file: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: &ListArgs) -> Result<(), CliError> {
    let catalogue = Catalogue::embedded().map_err(PullError::from)?;
    // Without a cache folder nothing has been fetched.
    let places = Places::from_environment().ok();
    let models = catalogue.models.iter().map(|model| Entry {
        name: &model.name,
        aliases: &model.aliases,
        description: &model.description,
        license: &model.license,
        bytes: model.bytes,
        sha256: &model.sha256,
        default: model.default,
        file: places.as_ref().and_then(|places| places.cached(model)),
    });
    let report = Report { models: models.collect() };
    if args.json {
        return output::json(&report);
    }
    let style = Style::stdout();
    for model in &report.models {
        let default = if model.default { " (default)" } else { "" };
        output::line(&format!("{}{default}  {}", style.bold(model.name), memory::human(model.bytes)))?;
        output::line(&format!("  {}; {}", model.description, model.license))?;
        let place = model.file.as_ref().map_or("not fetched".to_owned(), |file| file.display().to_string());
        output::line(&format!("  {}", style.dim(&place)))?;
    }
    Ok(())
}
