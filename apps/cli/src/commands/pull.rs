//! `weft pull`: fetches a model into the cache.

use crate::args::PullArgs;
use crate::catalogue::Catalogue;
use crate::output;
use crate::progress::PullBar;
use crate::pull::{HubReference, Places, PullError};
use crate::report::CliError;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Serialize)]
struct Report {
    /// What was asked for.
    model: String,
    file: PathBuf,
    sha256: String,
    /// Whether the checksum is one that the catalogue or the hub states, and the file was held to it.
    checked: bool,
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
            let file = if args.verify { places.verify(entry, &bar)? } else { places.ensure(entry, &bar)? };
            let (model, sha256) = (entry.name.clone(), entry.sha256.clone());
            // A file that was already there is looked at by name and size alone.
            Report { model, file, sha256, checked: args.verify || !there }
        }
        (None, Some(model)) => by_reference(&places, model, args.verify)?,
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

fn by_reference(places: &Places, model: &str, verify: bool) -> Result<Report, CliError> {
    let reference = HubReference::parse(model)?;
    let bar = PullBar::new(&reference.file);
    if verify {
        places.verify_reference(&reference, &bar)?;
    }
    let pulled = places.ensure_reference(&reference, &bar)?;
    let (file, sha256, checked) = (pulled.path, pulled.sha256, pulled.checked || verify);
    Ok(Report { model: model.to_owned(), file, sha256, checked })
}
