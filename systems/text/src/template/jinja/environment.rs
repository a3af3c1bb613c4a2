//! The environment of chat templates: all filters and tests.

use super::checks::CHECKS;
use super::filters::FILTERS;
use super::interpreter::Environment;

pub(super) static ENVIRONMENT: Environment = Environment { filters: FILTERS, checks: CHECKS };
