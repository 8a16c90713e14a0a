//! Unified diffs of two texts, three lines of context around each change. Judges nothing.

use serde_json::Value;

const CONTEXT_LINES: usize = 3;

/// How a value of an internal type changed.
pub fn of(shape: &str, old: &Value, new: &Value) -> String {
    unified(&super::pretty(shape, old), &super::pretty(shape, new))
}

fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    hunks(&script(&old, &new))
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

fn hunks(lines: &[Line]) -> String {
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
    use super::*;

    fn numbered(change: impl Fn(usize) -> Option<&'static str>) -> String {
        let line = |i: usize| change(i).map_or(format!("line {i}"), str::to_owned);
        (1..=20).map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_changed_line_shows_with_three_lines_around_it() {
        let expected = "@@ -7,7 +7,7 @@\n line 7\n line 8\n line 9\n-line 10\n+ten\n line 11\n line 12\n line 13\n";
        let new = numbered(|i| (i == 10).then_some("ten"));
        assert_eq!(unified(&numbered(|_| None), &new), expected);
    }

    #[test]
    fn lines_added_and_removed_count_in_their_own_text() {
        let new = numbered(|i| (i == 1).then_some("line 1\nextra"));
        let expected = "@@ -1,4 +1,5 @@\n line 1\n+extra\n line 2\n line 3\n line 4\n";
        assert_eq!(unified(&numbered(|_| None), &new), expected);
        assert_eq!(unified("a\nb", "a"), "@@ -1,2 +1 @@\n a\n-b\n");
    }

    #[test]
    fn distant_changes_make_two_hunks_and_equal_texts_none() {
        let old = numbered(|_| None);
        let near = numbered(|i| [4, 11].contains(&i).then_some("x"));
        let far = numbered(|i| [4, 12].contains(&i).then_some("x"));
        assert_eq!(unified(&old, &near).matches("@@ -").count(), 1);
        assert_eq!(unified(&old, &far).matches("@@ -").count(), 2);
        assert_eq!(unified(&old, &old), "");
    }
}
