//! Translates option spellings of other programs before the line is parsed. The parser takes one letter after a single
//! dash, but llama.cpp has words there, and it also allows `_` for `-` in long names.

use clap::{ArgAction, Command};
use std::ffi::OsString;

/// llama.cpp's words after a single dash, and the options that they stand for.
const WORDS: [(&str, &str); 4] =
    [("-ngl", "--gpu-layers"), ("-sys", "--system"), ("-hf", "--model"), ("-hfr", "--model")];

/// Translates the line. Values of options and everything after `--` stay unchanged.
pub(super) fn ours(line: impl IntoIterator<Item = OsString>, cli: &Command) -> Vec<OsString> {
    let mut ours = Vec::new();
    let mut command = cli;
    let (mut value, mut all_values) = (false, false);
    for (at, word) in line.into_iter().enumerate() {
        let text = word.to_str().filter(|_| at > 0 && !value && !all_values);
        value = false;
        let Some(text) = text else {
            ours.push(word);
            continue;
        };
        all_values = text == "--";
        if !text.starts_with('-') {
            command = command.find_subcommand(text).unwrap_or(command);
            ours.push(word);
            continue;
        }
        let text = respell(text);
        value = !text.contains('=') && takes_value(command, &text);
        ours.push(text.into());
    }
    ours
}

fn respell(text: &str) -> String {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let name = match WORDS.iter().find(|(word, _)| *word == name) {
        Some((_, ours)) => (*ours).to_owned(),
        None if name.starts_with("--") => name.replace('_', "-"),
        None => return text.to_owned(),
    };
    value.map_or_else(|| name.clone(), |value| format!("{name}={value}"))
}

/// Returns true if the word after this option is its value.
fn takes_value(command: &Command, option: &str) -> bool {
    let long = option.strip_prefix("--");
    let short = option
        .strip_prefix('-')
        .filter(|rest| rest.chars().count() == 1)
        .and_then(|rest| rest.chars().next());
    let named = |arg: &&clap::Arg| match long {
        Some(long) => {
            arg.get_long() == Some(long) || arg.get_all_aliases().is_some_and(|all| all.contains(&long))
        }
        None => short.is_some() && arg.get_short() == short,
    };
    let takes = |arg: &clap::Arg| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    command.get_arguments().find(named).is_some_and(takes)
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::*;

    fn respelt(line: &str) -> String {
        let words = line.split(' ').map(OsString::from);
        let ours = ours(words, &command());
        ours.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_of_other_programs_become_ours() {
        let line = "weft run -ngl 99 --n_predict=3 -hf o/r:q4_0 -sys x_y hi_there";
        assert_eq!(
            respelt(line),
            "weft run --gpu-layers 99 --n-predict=3 --model o/r:q4_0 --system x_y hi_there"
        );
        assert_eq!(respelt("weft run -ngl=4"), "weft run --gpu-layers=4");
    }

    #[test]
    fn values_stay_as_they_are() {
        for line in [
            "weft run --stop -ngl --system --a_b -- -ngl --a_b",
            "weft run -r -hf hi",
            "weft chat --ctx-size 9 x",
            "-ngl",
        ] {
            assert_eq!(respelt(line), line);
        }
    }
}
