//! What a user downloads: the stripped binary.

use std::{path::Path, process::Command};

use crate::Row;

const LEAST: &str = r#"fn main() { println!("knarr"); }"#;

pub(crate) fn measure() -> Vec<Row> {
    let size = |path: &Path| {
        let bytes = std::fs::metadata(path).expect("a binary").len();
        format!("{:.1} MB", bytes as f64 / 1e6)
    };
    let scratch = std::env::temp_dir().join(format!("knarr-figures-size-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).expect("a folder of our own");
    let (source, least) = (scratch.join("least.rs"), scratch.join("least"));
    std::fs::write(&source, LEAST).expect("a file of our own");
    let built = Command::new("rustc")
        .args(["-Copt-level=s", "-Clto=fat", "-Cpanic=abort"])
        .args(["-Cstrip=symbols", "-Ccodegen-units=1", "-o"])
        .args([&least, &source])
        .status();
    assert!(built.expect("rustc").success());
    let floor = size(&least);
    std::fs::remove_dir_all(&scratch).expect("our own folder");
    vec![Row {
        what: "the binary, stripped".into(),
        figure: size(Path::new(env!("CARGO_BIN_EXE_knarr"))),
        floor,
        floor_is: "a program that prints one line, built the same way",
    }]
}
