//! Completion indexes: which are done, written as `0-2,5`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

pub(super) const ANNOTATION: &str = "batch.kubernetes.io/job-completion-index";

/// The index a pod works on.
pub(super) fn of(pod: &Pod) -> Option<i32> {
    pod.metadata
        .annotations
        .as_ref()?
        .get(ANNOTATION)?
        .parse()
        .ok()
}

/// Reads a list of indexes below `limit`; what cannot be read is left out.
pub(super) fn parse(text: &str, limit: i32) -> BTreeSet<i32> {
    let mut indexes = BTreeSet::new();
    for piece in text.split(',').filter(|piece| !piece.is_empty()) {
        let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            indexes.extend(first.max(0)..=last.min(limit - 1));
        }
    }
    indexes
}

/// Writes a list of indexes, neighbours as ranges.
pub(super) fn format(indexes: &BTreeSet<i32>) -> String {
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => ranges.push((*index, *index)),
        }
    }
    let texts = ranges.into_iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_survive_writing_and_reading() {
        for (indexes, text) in [
            (&[][..], ""),
            (&[0], "0"),
            (&[0, 1], "0,1"),
            (&[0, 1, 2, 5, 7, 8], "0-2,5,7,8"),
        ] {
            let indexes: BTreeSet<i32> = indexes.iter().copied().collect();
            assert_eq!(format(&indexes), text);
            assert_eq!(parse(text, 10), indexes);
        }
        assert_eq!(parse("0-9999999,x,3-", 3), BTreeSet::from([0, 1, 2]));
    }
}
