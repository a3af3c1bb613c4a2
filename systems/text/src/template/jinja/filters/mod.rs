//! Jinja's filters, as `jinja2/filters.py` 3.1 defines them. `tojson` is Hugging Face's.

mod inputs;
mod json;
mod markup;
mod numbers;
mod sequences;
mod texts;

use super::fault::fault;
use super::interpreter::Filter;
use std::cmp::Ordering;

macro_rules! filters {
    ($($name:literal => $apply:expr,)+) => { &[$(Filter { name: $name, apply: $apply },)+] };
}

/// Every filter, in alphabetical order.
pub(super) const FILTERS: &[Filter] = filters! {
    "abs" => numbers::abs,
    "attr" => sequences::attr,
    "batch" => sequences::batch,
    "capitalize" => texts::capitalize,
    "center" => texts::center,
    "count" => sequences::length,
    "d" => sequences::default,
    "default" => sequences::default,
    "dictsort" => sequences::dictsort,
    "e" => markup::escape,
    "escape" => markup::escape,
    "filesizeformat" => numbers::filesizeformat,
    "first" => sequences::first,
    "float" => numbers::float,
    "forceescape" => markup::forceescape,
    "format" => texts::format,
    "groupby" => sequences::groupby,
    "indent" => texts::indent,
    "int" => numbers::int,
    "items" => sequences::items,
    "join" => sequences::join,
    "last" => sequences::last,
    "length" => sequences::length,
    "list" => sequences::list,
    "lower" => texts::lower,
    "map" => sequences::map,
    "max" => |run, value, args| sequences::extreme(run, value, args, Ordering::Greater),
    "min" => |run, value, args| sequences::extreme(run, value, args, Ordering::Less),
    "pprint" => texts::pprint,
    "random" => |_, _, _| fault("the filter `random` is not supported: its result differs each time"),
    "reject" => |run, value, args| sequences::select(run, value, args, false, false),
    "rejectattr" => |run, value, args| sequences::select(run, value, args, true, false),
    "replace" => texts::replace,
    "reverse" => sequences::reverse,
    "round" => numbers::round,
    "safe" => markup::safe,
    "select" => |run, value, args| sequences::select(run, value, args, false, true),
    "selectattr" => |run, value, args| sequences::select(run, value, args, true, true),
    "slice" => sequences::slice,
    "sort" => sequences::sort,
    "string" => texts::string,
    "striptags" => markup::striptags,
    "sum" => sequences::sum,
    "title" => texts::title,
    "tojson" => json::tojson,
    "trim" => texts::trim,
    "truncate" => texts::truncate,
    "unique" => sequences::unique,
    "upper" => texts::upper,
    "urlencode" => markup::urlencode,
    "urlize" => |_, _, _| fault("the filter `urlize` is not supported: it makes HTML"),
    "wordcount" => texts::wordcount,
    "wordwrap" => texts::wordwrap,
    "xmlattr" => markup::xmlattr,
};
