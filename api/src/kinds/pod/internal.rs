//! Differences between objects as Kubernetes prints them into error messages. Judges nothing.

use serde::Serialize;
use serde_json::{Value, ser::PrettyFormatter};

const CONTEXT_LINES: usize = 3;

/// A unified diff of two objects of a type, indented by one space as Go's encoder was told to.
pub fn diff(old: &Value, new: &Value) -> String {
    let (old, new) = (pretty(old), pretty(new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    unified(&old, &new)
}

fn pretty(value: &Value) -> String {
    let mut out = Vec::new();
    let formatter = PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    if value.serialize(&mut serializer).is_err() {
        return value.to_string();
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit {
    Keep,
    Remove,
    Add,
}

/// One line of either text, with its line number in both.
struct Line<'a> {
    edit: Edit,
    text: &'a str,
    old: usize,
    new: usize,
}

fn unified(old: &[&str], new: &[&str]) -> String {
    let lines = script(old, new);
    let changed: Vec<usize> = (0..lines.len())
        .filter(|i| lines[*i].edit != Edit::Keep)
        .collect();
    let mut out = String::new();
    let mut rest = changed.as_slice();
    while let Some(first) = rest.first() {
        let gap = rest
            .windows(2)
            .position(|pair| pair[1] - pair[0] > 2 * CONTEXT_LINES + 1);
        let (group, after) = rest.split_at(gap.map_or(rest.len(), |gap| gap + 1));
        let last = group.last().unwrap_or(first);
        let start = first.saturating_sub(CONTEXT_LINES);
        let end = (last + CONTEXT_LINES + 1).min(lines.len());
        hunk(&mut out, &lines[start..end]);
        rest = after;
    }
    out
}

fn hunk(out: &mut String, lines: &[Line]) {
    let (Some(first), count) = (lines.first(), |unwanted: Edit| {
        lines.iter().filter(|line| line.edit != unwanted).count()
    }) else {
        return;
    };
    let old = range(first.old, count(Edit::Add));
    let new = range(first.new, count(Edit::Remove));
    out.push_str(&format!("@@ -{old} +{new} @@\n"));
    for line in lines {
        let mark = match line.edit {
            Edit::Keep => ' ',
            Edit::Remove => '-',
            Edit::Add => '+',
        };
        out.push(mark);
        out.push_str(line.text);
        out.push('\n');
    }
}

/// `start,length` with lines counted from one, and without the length where it is one.
fn range(start: usize, length: usize) -> String {
    match length {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        _ => format!("{},{length}", start + 1),
    }
}

/// The edits between two texts along a longest common subsequence.
fn script<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let common_start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let common_end = old[common_start..]
        .iter()
        .rev()
        .zip(new[common_start..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let old_middle = common_start..old.len() - common_end;
    let new_middle = common_start..new.len() - common_end;
    let lengths = suffix_lengths(&old[old_middle.clone()], &new[new_middle.clone()]);
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    let mut push = |edit, i: &mut usize, j: &mut usize| {
        let text = if edit == Edit::Add { new[*j] } else { old[*i] };
        lines.push(Line {
            edit,
            text,
            old: *i,
            new: *j,
        });
        *i += usize::from(edit != Edit::Add);
        *j += usize::from(edit != Edit::Remove);
    };
    while i < old.len() || j < new.len() {
        let edit = if !old_middle.contains(&i) && !new_middle.contains(&j) {
            Edit::Keep
        } else if !old_middle.contains(&i) {
            Edit::Add
        } else if !new_middle.contains(&j) {
            Edit::Remove
        } else {
            let (row, column) = (i - common_start, j - common_start);
            if old[i] == new[j] {
                Edit::Keep
            } else if lengths[row + 1][column] >= lengths[row][column + 1] {
                Edit::Remove
            } else {
                Edit::Add
            }
        };
        push(edit, &mut i, &mut j);
    }
    lines
}

fn suffix_lengths(old: &[&str], new: &[&str]) -> Vec<Vec<u32>> {
    let mut lengths = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            lengths[i][j] = if old[i] == new[j] {
                lengths[i + 1][j + 1] + 1
            } else {
                lengths[i + 1][j].max(lengths[i][j + 1])
            };
        }
    }
    lengths
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_changed_line_shows_with_three_lines_around_it() {
        let old = json!({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7});
        let mut new = old.clone();
        new["d"] = json!(0);
        assert_eq!(
            diff(&old, &new),
            "@@ -2,7 +2,7 @@\n  \"a\": 1,\n  \"b\": 2,\n  \"c\": 3,\n- \"d\": 4,\n+ \"d\": 0,\n  \"e\": 5,\n  \"f\": 6,\n  \"g\": 7\n"
        );
    }

    #[test]
    fn distant_changes_make_two_hunks_and_equal_objects_none() {
        let lines: Vec<String> = (0..20).map(|i| format!("k{i:02}")).collect();
        let object = |skip: usize| -> Value {
            lines
                .iter()
                .enumerate()
                .map(|(i, k)| (k.clone(), json!(i + skip * usize::from(i == 1 || i == 18))))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        assert_eq!(diff(&object(0), &object(50)).matches("@@ -").count(), 2);
        assert_eq!(diff(&object(0), &object(0)), "");
    }
}
