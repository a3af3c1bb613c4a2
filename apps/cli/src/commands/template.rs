//! `weft template`: renders messages with a chat template.

use crate::args::TemplateArgs;
use crate::error::CliError;
use crate::{host, input, output};
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::Path;
use weft::{ChatTemplate, TemplateVars, VocabularyFile};

#[derive(Serialize)]
struct Report {
    text: String,
}

/// Runs the command. `strftime_now` uses UTC.
pub(super) fn run(args: &TemplateArgs) -> Result<(), CliError> {
    let generation_prompt = !args.no_generation_prompt;
    let extra = further_vars(args.vars.as_deref())?;
    let (template, mut vars) = match &args.file {
        Some(file) => {
            let vars = TemplateVars {
                add_generation_prompt: generation_prompt,
                now: weft::wall_clock(),
                ..TemplateVars::default()
            };
            (ChatTemplate::new(&input::file(file)?)?, vars)
        }
        None => {
            let file = VocabularyFile::read(host::model_file(args.model.as_deref())?.as_path())?;
            let vars = file.template_vars(generation_prompt);
            let template = input::template(args.chat_template.as_deref())?.choose(file.template)?;
            (template.ok_or(weft::Error::NoTemplate)?, vars)
        }
    };
    vars.extra = extra;
    if let Some(file) = &args.tools {
        vars.tools = Some(Value::Array(tools(file)?));
    }
    let messages = messages(input::unmarked(&input::stdin()?))?;
    let text = template.render(&messages, &vars)?;
    if args.json { output::json(&Report { text }) } else { output::exact(&text) }
}

/// Reads tool definitions from a file.
fn tools(file: &Path) -> Result<Vec<Value>, CliError> {
    const WANTED: &str = "give a JSON array of definitions, as in OpenAI's `tools`";
    let name = file.display().to_string();
    serde_json::from_str(&input::file(file)?).map_err(|error| bad(&name, &error, WANTED))
}

fn further_vars(json: Option<&str>) -> Result<Map<String, Value>, CliError> {
    const WANTED: &str = "give a JSON object, such as {\"bos_token\": \"<s>\"}";
    let Some(json) = json else { return Ok(Map::new()) };
    serde_json::from_str(json).map_err(|error| bad("--vars", &error, WANTED))
}

/// Parses messages. All fields are kept, because templates may use more than role and content.
fn messages(json: &str) -> Result<Vec<Value>, CliError> {
    const WANTED: &str =
        "give a JSON array of messages, such as [{\"role\": \"user\", \"content\": \"Hello\"}]";
    serde_json::from_str(json).map_err(|error| bad("stdin", &error, WANTED))
}

fn bad(input: &str, error: &serde_json::Error, wanted: &'static str) -> CliError {
    CliError::BadJson { input: input.to_owned(), reason: error.to_string(), wanted }
}
