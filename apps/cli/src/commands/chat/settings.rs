//! The settings that `/set` changes: how tokens are sampled, and how long an answer may be.
//!
//! A value comes from the command line, else from the recommendation in the model's file, else from the default.

use crate::args;
use crate::error::CliError;
use weft::{GenerateOptions, SamplerSettings, SamplingDefaults};

/// Default sampling, used for values that neither the user nor the model's file sets.
fn usual() -> SamplerSettings {
    SamplerSettings { temperature: 0.8, top_p: 0.95, min_p: 0.05, ..SamplerSettings::default() }
}

/// Where a setting's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    User,
    Model,
    Usual,
}

/// A setting's value, typed by its valid range.
enum Value<'a> {
    Number(&'a mut f32, fn(f32) -> bool),
    Count(&'a mut usize),
    /// `-1` stands for all.
    CountOrAll(&'a mut usize),
    Seed(&'a mut u64),
    AtLeastOne(&'a mut Option<usize>),
}

impl Value<'_> {
    /// Parses a value and stores it; `None` if the text is not a valid value.
    fn parse(self, text: &str) -> Option<()> {
        match self {
            Self::Number(value, allowed) => *value = text.parse().ok().filter(|value| allowed(*value))?,
            Self::Count(value) => *value = text.parse().ok()?,
            Self::CountOrAll(value) => *value = if text == "-1" { usize::MAX } else { text.parse().ok()? },
            Self::Seed(value) => {
                *value = args::seed(if text == "random" { "-1" } else { text }).ok()?;
            }
            Self::AtLeastOne(value) if text == "-1" => *value = None,
            Self::AtLeastOne(value) => *value = Some(text.parse().ok().filter(|value| *value > 0)?),
        }
        Some(())
    }

    fn show(&self) -> String {
        match self {
            Self::Number(value, _) => value.to_string(),
            Self::Count(value) => value.to_string(),
            Self::CountOrAll(value) if **value == usize::MAX => "-1".to_owned(),
            Self::CountOrAll(value) => value.to_string(),
            Self::Seed(value) => value.to_string(),
            Self::AtLeastOne(value) => match value.filter(|value| *value != usize::MAX) {
                Some(value) => value.to_string(),
                None => "-1".to_owned(),
            },
        }
    }
}

/// One setting.
struct Setting {
    /// The name as on the command line, followed by aliases.
    names: &'static [&'static str],
    /// Description of the valid values.
    wanted: &'static str,
    value: fn(&mut GenerateOptions) -> Value<'_>,
    /// Returns true if the model's file recommends a value.
    recommended: fn(&SamplingDefaults) -> bool,
}

const FRACTION: &str = "a number between 0 and 1";
const WHOLE: &str = "a whole number from 0";
const FINITE: &str = "a number";

fn fraction(x: f32) -> bool {
    (0.0..=1.0).contains(&x)
}

const fn setting(
    names: &'static [&'static str],
    wanted: &'static str,
    value: fn(&mut GenerateOptions) -> Value<'_>,
) -> Setting {
    Setting { names, wanted, value, recommended: |_| false }
}

impl Setting {
    const fn or_recommended(self, recommended: fn(&SamplingDefaults) -> bool) -> Self {
        Self { recommended, ..self }
    }
}

const SETTINGS: &[Setting] = &[
    setting(&["temperature", "temp"], "a number from 0; 0 always takes the most likely token", |options| {
        Value::Number(&mut options.sampler.temperature, |x| x >= 0.0 && x.is_finite())
    })
    .or_recommended(|model| model.temperature.is_some()),
    setting(&["top-k"], WHOLE, |options| Value::Count(&mut options.sampler.top_k))
        .or_recommended(|model| model.top_k.is_some()),
    setting(&["top-p"], FRACTION, |options| Value::Number(&mut options.sampler.top_p, fraction))
        .or_recommended(|model| model.top_p.is_some()),
    setting(&["min-p"], FRACTION, |options| Value::Number(&mut options.sampler.min_p, fraction))
        .or_recommended(|model| model.min_p.is_some()),
    setting(&["typical", "typical-p"], FRACTION, |options| {
        Value::Number(&mut options.sampler.typical_p, fraction)
    }),
    setting(&["repeat-penalty", "repetition-penalty"], "a number above 0; 1 for none", |options| {
        Value::Number(&mut options.sampler.repetition_penalty, |x| x > 0.0 && x.is_finite())
    })
    .or_recommended(|model| model.repetition_penalty.is_some()),
    setting(&["repeat-last-n"], "a whole number from 0, or -1 for all tokens", |options| {
        Value::CountOrAll(&mut options.sampler.penalty_last_n)
    })
    .or_recommended(|model| model.penalty_last_n.is_some()),
    setting(&["presence-penalty"], FINITE, |options| {
        Value::Number(&mut options.sampler.presence_penalty, f32::is_finite)
    }),
    setting(&["frequency-penalty"], FINITE, |options| {
        Value::Number(&mut options.sampler.frequency_penalty, f32::is_finite)
    }),
    setting(&["seed"], "a whole number from 0, or -1 for a random one", |options| {
        Value::Seed(&mut options.sampler.seed)
    }),
    setting(&["max-tokens", "n"], "a whole number from 1, or -1 for no limit", |options| {
        Value::AtLeastOne(&mut options.max_tokens)
    }),
];

/// The settings of a chat.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) options: GenerateOptions,
    /// One per entry of [`SETTINGS`], in the same order.
    origins: Vec<Origin>,
    /// Number of answers since the seed was set.
    answers: u64,
}

impl Settings {
    /// Starts from the options of the command line. Those not named in `given` are replaced by the model's or default
    /// values.
    pub(super) fn new(mut options: GenerateOptions, given: &[&str], model: &SamplingDefaults) -> Self {
        let mut base = GenerateOptions { sampler: model.over(usual()), ..options.clone() };
        // Models do not recommend a seed.
        base.sampler.seed = options.sampler.seed;
        let mut origins = Vec::with_capacity(SETTINGS.len());
        for Setting { names, value, recommended, .. } in SETTINGS {
            let user = names.iter().any(|name| given.contains(name));
            if !user {
                let shown = value(&mut base).show();
                // Cannot fail: the text was formatted from a value of the same setting.
                let _ = value(&mut options).parse(&shown);
            }
            origins.push(match user {
                true => Origin::User,
                false if recommended(model) => Origin::Model,
                false => Origin::Usual,
            });
        }
        Self { options, origins, answers: 0 }
    }

    /// The options for the next answer. Each answer has its own seed, counted up from the set one.
    pub(super) fn for_answer(&mut self) -> GenerateOptions {
        let mut options = self.options.clone();
        options.sampler.seed = options.sampler.seed.wrapping_add(self.answers);
        self.answers += 1;
        options
    }

    /// Maximum tokens of an answer.
    pub(super) fn max_tokens(&self) -> usize {
        self.options.max_tokens.unwrap_or(usize::MAX)
    }

    /// Changes a setting and returns its line; without a value, only returns the line.
    pub(super) fn set(&mut self, line: &str) -> Result<String, CliError> {
        let (name, text) = line.split_once([' ', '\t', '=']).unwrap_or((line, ""));
        let asked = name.trim_start_matches('-').replace('_', "-");
        let found = SETTINGS.iter().position(|setting| setting.names.contains(&asked.as_str()));
        let Some((place, setting)) = found.and_then(|place| Some((place, SETTINGS.get(place)?))) else {
            let names: Vec<_> =
                SETTINGS.iter().filter_map(|setting| setting.names.first()).copied().collect();
            let names = names.join(", ");
            return Err(CliError::usage(format!("there is no setting `{name}`; there are {names}")));
        };
        let text = text.trim_start_matches([' ', '\t', '=']).trim_end();
        if !text.is_empty() {
            let set = (setting.value)(&mut self.options).parse(text);
            set.ok_or_else(|| {
                CliError::usage(format!("{asked} cannot be `{text}`; it is {}", setting.wanted))
            })?;
            if let Some(origin) = self.origins.get_mut(place) {
                *origin = Origin::User;
            }
            if matches!((setting.value)(&mut self.options), Value::Seed(_)) {
                self.answers = 0;
            }
        }
        Ok(self.show(place, setting))
    }

    fn show(&self, place: usize, setting: &Setting) -> String {
        let value = (setting.value)(&mut self.options.clone()).show();
        let from = match self.origins.get(place) {
            Some(Origin::Model) => "   from the model",
            _ => "",
        };
        format!("{:<18} {value}{from}", setting.names.first().unwrap_or(&""))
    }

    /// All settings, one per line.
    pub(super) fn list(&self) -> String {
        let lines = SETTINGS.iter().enumerate().map(|(place, setting)| self.show(place, setting) + "\n");
        lines.collect()
    }

    /// The settings that differ from greedy sampling, on one line.
    pub(super) fn summary(&self) -> String {
        let mut plain = GenerateOptions::default();
        let mut options = self.options.clone();
        let mut differing = Vec::new();
        for Setting { names, value, .. } in SETTINGS {
            let name = names.first().copied().unwrap_or_default();
            let shown = value(&mut options).show();
            if name == "temperature" || name != "max-tokens" && shown != value(&mut plain).show() {
                differing.push(format!("{name} {shown}"));
            }
        }
        differing.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(given: &[&str], model: &SamplingDefaults) -> Settings {
        let mut options = GenerateOptions { max_tokens: Some(1024), ..GenerateOptions::default() };
        options.sampler.top_k = 7;
        options.sampler.seed = 5;
        Settings::new(options, given, model)
    }

    #[test]
    fn what_the_user_gave_comes_before_the_model_and_that_before_the_usual() {
        let model = SamplingDefaults {
            temperature: Some(0.25),
            top_k: Some(20),
            penalty_last_n: Some(usize::MAX),
            ..SamplingDefaults::default()
        };
        let sampler = settings(&["top-k", "seed"], &model).options.sampler;
        assert_eq!((sampler.temperature, sampler.top_k, sampler.top_p, sampler.seed), (0.25, 7, 0.95, 5));
        assert_eq!((sampler.min_p, sampler.penalty_last_n), (0.05, usize::MAX));
        let sampler = settings(&[], &SamplingDefaults::default()).options.sampler;
        assert_eq!((sampler.temperature, sampler.top_k, sampler.seed), (0.8, 0, 5));
        let list = settings(&["top-k"], &model).list();
        assert!(list.contains("temperature        0.25   from the model\n"), "{list}");
        assert!(list.contains("top-k              7\n"), "{list}");
    }

    #[test]
    fn values_are_set_by_name_and_checked() {
        let mut set = settings(&[], &SamplingDefaults::default());
        for line in ["temperature 0.5", "temp=0.5", "--temperature 0.5", "temperature = 0.5"] {
            set.options.sampler.temperature = 0.0;
            assert!(set.set(line).is_ok_and(|shown| shown.ends_with(" 0.5")), "{line}");
            assert_eq!(set.options.sampler.temperature, 0.5);
        }
        assert!(set.set("top_k 40").is_ok() && set.set("presence-penalty -1.5").is_ok());
        assert!(set.set("repeat-last-n -1").is_ok_and(|shown| shown.ends_with(" -1")));
        assert!(set.set("n -1").is_ok() && set.max_tokens() == usize::MAX);
        assert!(set.set("n 3").is_ok() && set.set("seed -1").is_ok() && set.set("seed").is_ok());
        assert_eq!((set.max_tokens(), set.options.sampler.top_k), (3, 40));
        let refused = ["temperature -1", "temperature NaN", "temperature inf", "top-p 1.1", "top-k -1"];
        for line in refused.into_iter().chain(["max-tokens 0", "seed x", "repeat-penalty 0", "warmth 1"]) {
            let before = set.list();
            assert!(set.set(line).is_err(), "{line}");
            assert_eq!(set.list(), before);
        }
        assert!(set.summary().starts_with("temperature 0.5, top-k 40, top-p 0.95"), "{}", set.summary());
    }
}
