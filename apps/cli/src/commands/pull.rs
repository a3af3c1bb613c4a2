//! `weft pull`: downloads a model into the cache.

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
    /// The name that was asked for.
    model: String,
    /// Path of the model's file, or of the first part of a split model.
    file: PathBuf,
    sha256: String,
    /// True if the file was compared with a checksum that the catalogue or the hub states.
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
            // For a file that already existed, only name and size were checked.
            Report { model, file, sha256, checked: args.verify || !there, files: Vec::new() }
        }
        (None, Some(model)) => from_hub(&places, model, args.verify)?,
        (None, None) => return Err(CliError::usage("the catalogue has no default model; give a name")),
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
    // Noted before the download, so that an interrupted pull can be removed by the name that began it.
    if let HubName::Quant(quant) = &name {
        places.note(quant, &reference.file).map_err(PullError::from)?;
    }
    let pulled =
        reference.parts().iter().map(|part| pull(places, part, verify)).collect::<Result<Vec<_>, _>>()?;
    let checked = pulled.iter().all(|part| part.checked);
    let files = pulled.iter().map(|part| part.path.clone());
    let files: Vec<PathBuf> = if pulled.len() > 1 { files.collect() } else { Vec::new() };
    let wrong = PullError::Reference { text: model.to_owned(), reason: "it names no file" };
    let first = pulled.into_iter().next().ok_or(wrong)?;
    Ok(Report { model: model.to_owned(), file: first.path, sha256: first.sha256, checked, files })
}

fn pull(places: &Places, part: &HubReference, verify: bool) -> Result<Pulled, PullError> {
    let bar = PullBar::new(&part.file);
    if verify { places.repair_reference(part, &bar) } else { places.ensure_reference(part, &bar) }
}
