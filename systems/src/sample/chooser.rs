//! Who chooses a request's tokens, by its settings.

use weft_components::SamplerSettings;

/// Who can choose tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chooser {
    /// The host alone, from logits that are read back.
    Host,
    /// A device, which has to be told the tokens chosen before.
    Device,
    /// A device, whatever was chosen before: steps may start before the tokens of earlier ones have been read.
    Ahead,
}

impl Chooser {
    /// Who can choose with these settings.
    pub fn of(settings: &SamplerSettings) -> Self {
        let greedy = settings.temperature == 0.0 && settings.typical_p >= 1.0;
        let penalties = settings.penalty_last_n > 0
            && (settings.repetition_penalty != 1.0
                || settings.presence_penalty != 0.0
                || settings.frequency_penalty != 0.0);
        if greedy && settings.logprobs.is_none() && settings.logit_bias.is_empty() && !penalties {
            Self::Ahead
        } else {
            Self::Host
        }
    }
}
