//! Arguments of a call.

use super::fault::{Outcome, fault};
use super::value::Value;
use std::sync::Arc;

/// What a call is given.
#[derive(Debug, Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Arc<str>, Value)>,
}

impl Args {
    /// The arguments of these names, the first `required` of which have to be there.
    pub(super) fn bind<const N: usize>(
        self,
        what: &str,
        names: [&str; N],
        required: usize,
    ) -> Outcome<[Option<Value>; N]> {
        let given = self.positional.len();
        if given > N {
            return fault(format!("{what}() takes at most {N} argument(s) ({given} given)"));
        }
        let mut values = [const { None }; N];
        for (slot, value) in values.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            let Some(at) = names.iter().position(|known| **known == *name) else {
                return fault(format!("{what}() got an unexpected keyword argument '{name}'"));
            };
            if values[at].replace(value).is_some() {
                return fault(format!("{what}() got multiple values for argument '{name}'"));
            }
        }
        if let Some(at) = values.iter().take(required).position(Option::is_none) {
            return fault(format!("{what}() misses its argument '{}'", names[at]));
        }
        Ok(values)
    }

    /// No arguments.
    pub(super) fn none(self, what: &str) -> Outcome<()> {
        self.bind(what, [], 0).map(|[]| ())
    }
}
