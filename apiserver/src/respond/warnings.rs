//! How many warnings an answer carries: headers must stay small, whatever there is to say.

use std::collections::HashSet;

/// Characters of all warnings together; beyond, each is cut short.
const TOTAL_CHARACTERS_MAX: usize = 4 * 1024;
const CHARACTERS_MAX: usize = 256;

/// What is said: each warning once and, if they are too many for the headers, the start of the first ones.
pub(super) fn fitting(warnings: &[String]) -> Vec<&str> {
    let mut seen = HashSet::new();
    let said = warnings.iter().map(String::as_str);
    let said: Vec<&str> = said
        .filter(|text| !text.is_empty() && seen.insert(*text))
        .collect();
    let mut total = 0;
    let overflow = said.iter().position(|text| {
        total += text.chars().count();
        total > TOTAL_CHARACTERS_MAX
    });
    let Some(overflow) = overflow else {
        return said;
    };
    let mut total = 0;
    let mut shortened = Vec::new();
    for (index, text) in said.into_iter().enumerate() {
        if index > overflow && total >= TOTAL_CHARACTERS_MAX {
            break;
        }
        let end = text.char_indices().nth(CHARACTERS_MAX);
        let text = end.map_or(text, |(end, _)| &text[..end]);
        total += text.chars().count();
        shortened.push(text);
    }
    shortened
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expected` is how many of the texts are said, and the characters of the longest one.
    fn check(lengths: &[usize], expected: (usize, usize)) {
        let text = |(index, length): (usize, &usize)| format!("{index:0length$}é");
        let texts: Vec<String> = lengths.iter().enumerate().map(text).collect();
        let said = fitting(&texts);
        let longest = said.iter().map(|text| text.chars().count()).max();
        assert_eq!((said.len(), longest.unwrap_or_default()), expected);
    }

    #[test]
    fn warnings_that_fit_are_said_in_full() {
        check(&[], (0, 0));
        check(&[3, 300], (2, 301));
        check(&[4095], (1, 4096));
        check(&[2047, 2047], (2, 2048));
    }

    #[test]
    fn too_many_are_cut_short_until_the_headers_are_full() {
        check(&[4096], (1, 256));
        check(&[2047, 2048], (2, 256));
        check(&[300; 14], (14, 256));
        check(&[300; 16], (16, 256));
        check(&[300; 40], (16, 256));
        check(&[9; 1000], (410, 10));
    }

    #[test]
    fn what_was_said_is_not_said_again() {
        let texts = ["a", "b", "a", ""].map(str::to_owned);
        assert_eq!(fitting(&texts), ["a", "b"]);
    }
}
