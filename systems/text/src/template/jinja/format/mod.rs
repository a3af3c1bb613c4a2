//! Python's two ways to format text: `'%s' % value` and `'{}'.format(value)`.

mod braces;
mod layout;
mod numbers;
mod percent;

pub(super) use braces::braces;
pub(super) use percent::percent;
