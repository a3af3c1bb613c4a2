//! `weft pull`: fetches a model into the cache.

use crate::args::PullArgs;
use crate::catalogue::Catalogue;
use crate::error::CliError;
use crate::output;
use crate::progress::PullBar;
use crate::pull::{HubName, HubReference, Places, PullError, Pulled};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Serialize)]
struct Report {
    /// What was asked for.
    model: String,
    /// The model's file, or the first of a split one.
    file: PathBuf,
    sha256: String,
    /// Whether the checksum is one that the catalogue or the hub states, and the file was held to it.
    checked: bool,
    /// All files of a split model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: &PullArgs) -> Result<(), CliError> {
    let catalogue = Catalogue::embedded().map_err(PullError::from)?;
    let places = Places::from_environment()?;
    let entry = match args.model.as_deref() {
        Some(model) => catalogue.find(model),
        None => catalogue.default_model(),
    };
    let report = match (entry, args.model.as_deref()) {
        (Some(entry), _) => {
            let bar = PullBar::new(&entry.name);
            let there = places.cached(entry).is_some();
            let file = if args.verify { places.repair(entry, &bar)? } else { places.ensure(entry, &bar)? };
            let (model, sha256) = (entry.name.clone(), entry.sha256.clone());
            // A file that was already there is looked at by name and size alone.
            Report { model, file, sha256, checked: args.verify || !there, files: Vec::new() }
        }
        (None, Some(model)) => from_hub(&places, model, args.verify)?,
        (None, None) => return Err(CliError::usage("the catalogue names no default model; name one")),
    };
    if args.json {
        return output::json(&report);
    }
    output::line(&report.file.display().to_string())?;
    let word = if report.checked { "checked" } else { "not checked" };
    output::note(&format!("sha256 {} ({word})", report.sha256));
    Ok(())
}

fn from_hub(places: &Places, model: &str, verify: bool) -> Result<Report, CliError> {
    let name = HubName::parse(model)?;
    let reference = match &name {
        HubName::File(reference) => reference.clone(),
        HubName::Quant(quant) => places.find(quant, &PullBar::new(&quant.repo))?,
    };
    // Before anything is fetched: a pull that is interrupted is removed by the name that it was begun by.
    if let HubName::Quant(quant) = &name {
        places.note(quant, &reference.file).map_err(PullError::from)?;
    }
    let pulled =
        reference.parts().iter().map(|part| pull(places, part, verify)).collect::<Result<Vec<_>, _>>()?;
    let checked = pulled.iter().all(|part| part.checked);
    let files = pulled.iter().map(|part| part.path.clone());
    let files: Vec<PathBuf> = if pulled.len() > 1 { files.collect() } else { Vec::new() };
    let wrong = PullError::Reference { text: model.to_owned(), reason: "it has no parts" };
    let first = pulled.into_iter().next().ok_or(wrong)?;
    Ok(Report { model: model.to_owned(), file: first.path, sha256: first.sha256, checked, files })
}

fn pull(places: &Places, part: &HubReference, verify: bool) -> Result<Pulled, PullError> {
    let bar = PullBar::new(&part.file);
    if verify { places.repair_reference(part, &bar) } else { places.ensure_reference(part, &bar) }
}
