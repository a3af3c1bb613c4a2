//! Names of models that are split over several GGUF files.

/// `STEM-00002-of-00003.gguf`: one part of a model that is split over files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split<'a> {
    /// The path before the part's number.
    pub(super) stem: &'a str,
    /// Number of this part, from 1.
    pub(super) part: usize,
    /// Number of parts.
    pub(super) of: usize,
    extension: &'a str,
}

/// Digits of a part's number.
const DIGITS: usize = 5;
/// Maximum number of parts, so that a name alone cannot cause requests for more files.
const MOST_PARTS: usize = 1000;

impl<'a> Split<'a> {
    /// Parses a file's path; `None` if it is not a part of a split model.
    pub(super) fn of(file: &'a str) -> Option<Self> {
        let (path, extension) = file.split_at_checked(file.len().checked_sub(".gguf".len())?)?;
        let number = |text: &str| {
            let digits = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits)
        };
        let (rest, of) = path.rsplit_once("-of-")?;
        let (stem, part) = rest.rsplit_once('-')?;
        let (part, of) = (number(part)?, number(of)?);
        ((1..=of).contains(&part) && of <= MOST_PARTS).then_some(Self { stem, part, of, extension })
    }

    /// The files of the model, in order.
    pub(super) fn files(self) -> impl Iterator<Item = String> + use<'a> {
        (1..=self.of).map(move |part| format!("{}-{part:05}-of-{:05}{}", self.stem, self.of, self.extension))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_split_model() {
        let split = Split::of("a/m-00002-of-00003.gguf").unwrap();
        assert_eq!((split.part, split.of), (2, 3));
        assert_eq!(split.files().last().unwrap(), "a/m-00003-of-00003.gguf");
        for no in ["m.gguf", "m-2-of-3.gguf", "m-00004-of-00003.gguf", "m-00001-of-99999.gguf", ".gguf"] {
            assert_eq!(Split::of(no), None, "{no}");
        }
    }
}
