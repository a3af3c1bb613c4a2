//! Text from stdin and from files.

use crate::report::CliError;
use std::io::Read;
use std::path::Path;
use weft::{BuiltinTemplate, TemplateChoice};

/// All of stdin, which must be UTF-8.
pub(crate) fn stdin() -> Result<String, CliError> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).map_err(|error| CliError::read("stdin", &error))?;
    text("stdin", bytes)
}

/// All of a file, which must be UTF-8.
pub(crate) fn file(path: &Path) -> Result<String, CliError> {
    let bytes = std::fs::read(path).map_err(|error| CliError::read(path.display(), &error))?;
    text(&path.display().to_string(), bytes)
}

/// The chat template that is asked for: a built-in one, one of the model's by its name, or one in a file.
pub(crate) fn template(asked: Option<&str>) -> Result<TemplateChoice, CliError> {
    let Some(asked) = asked else { return Ok(TemplateChoice::Shipped) };
    match BuiltinTemplate::find(asked) {
        Some(template) => Ok(TemplateChoice::Builtin(template)),
        // A name without a dot or a slash, such as `tool_use`, is one of the model's own, if it is no file.
        None if !Path::new(asked).exists() && !asked.contains(['.', '/', '\\']) => {
            Ok(TemplateChoice::Named(asked.to_owned()))
        }
        None => Ok(TemplateChoice::Source(file(Path::new(asked))?)),
    }
}

fn text(input: &str, bytes: Vec<u8>) -> Result<String, CliError> {
    String::from_utf8(bytes).map_err(|error| CliError::NotUtf8 {
        input: input.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })
}
