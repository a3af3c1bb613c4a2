//! Arguments of a call.

use super::fault::{Outcome, fault};
use super::value::Value;
use std::sync::Arc;

/// The evaluated arguments of one call. The callee takes them by value.
#[derive(Debug, Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Arc<str>, Value)>,
}

impl Args {
    /// Returns the arguments by these names. The first `required` of them must be present.
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
            return fault(format!("{what}() is missing its argument '{}'", names[at]));
        }
        Ok(values)
    }

    /// Fails if there are arguments.
    pub(super) fn none(self, what: &str) -> Outcome<()> {
        self.bind(what, [], 0).map(|[]| ())
    }
}
