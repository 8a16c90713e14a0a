//! Which field a number is: `protobuf.txt` as a table. The text is ours, so a mistake in it shows in tests.

use std::{collections::HashMap, sync::OnceLock};

/// A field's name and the numbers that lead to it; more than one where Go inlines a struct.
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) path: Vec<u64>,
}

/// The places of a definition's fields.
pub(super) fn places(definition: &str) -> &'static [Place] {
    static TABLE: OnceLock<HashMap<&'static str, Vec<Place>>> = OnceLock::new();
    let table = TABLE.get_or_init(|| parse(include_str!("../../schema/protobuf.txt")));
    table.get(definition).map(Vec::as_slice).unwrap_or_default()
}

fn parse(text: &'static str) -> HashMap<&'static str, Vec<Place>> {
    let mut table: HashMap<&str, Vec<Place>> = HashMap::new();
    let mut definition = "";
    for line in text.lines() {
        let Some(field) = line.strip_prefix(' ') else {
            definition = line;
            continue;
        };
        if let Some((name, numbers)) = field.split_once(' ') {
            let path = numbers.split('.').filter_map(|n| n.parse().ok()).collect();
            let places = table.entry(definition).or_default();
            places.push(Place { name, path });
        }
    }
    table
}
