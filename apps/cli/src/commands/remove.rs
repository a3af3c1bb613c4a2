//! `weft rm`: removes models from the cache.

use crate::args::RemoveArgs;
use crate::catalogue::Catalogue;
use crate::error::CliError;
use crate::pull::{HubName, Places, PullError, Removed};
use crate::{memory, output};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Serialize)]
struct Report {
    removed: Vec<PathBuf>,
    bytes: u64,
}

/// Runs the command. Stops at the first name that is not in the cache; names after it are not removed.
pub(super) fn run(args: &RemoveArgs) -> Result<(), CliError> {
    let catalogue = Catalogue::embedded().map_err(PullError::from)?;
    let places = Places::from_environment()?;
    let mut all = Report { removed: Vec::new(), bytes: 0 };
    for model in &args.models {
        let Removed { files, bytes } = match catalogue.find(model) {
            Some(entry) => places.remove(entry)?,
            None => places.remove_reference(&HubName::parse(model)?, model)?,
        };
        if !args.json {
            for file in &files {
                output::line(&file.display().to_string())?;
            }
        }
        all.removed.extend(files);
        all.bytes += bytes;
    }
    if args.json {
        return output::json(&all);
    }
    output::note(&format!("{} removed", memory::human(all.bytes)));
    Ok(())
}
