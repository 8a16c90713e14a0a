//! The clients that users bring, each used as its users do, on real pods.

mod helm;
mod kubectl;
mod libraries;
mod rust;
mod streams;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::lab::world::World;
use Answer::{Refuses, Says};

/// How a command ends, and words it says in this order; `…` stands for anything between them.
#[derive(Clone, Copy)]
enum Answer {
    Says(&'static str),
    Refuses(&'static str),
}

/// Runs command lines one after the other as the administrator on node-1, each to be answered as its row says.
fn check(world: &World, rows: &[(&str, Answer)]) {
    for (line, answer) in rows {
        let output = world.nodes[0].netns.output(shell(world, line));
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let (should_succeed, words) = match answer {
            Says(words) => (true, words),
            Refuses(words) => (false, words),
        };
        assert!(
            output.status.success() == should_succeed && says(&text, words),
            "{line}\n{}, expected {words:?}:\n{text}\n{}",
            output.status,
            world.logs()
        );
    }
}

/// A command line of node-1's administrator, with a kubeconfig and an end.
fn shell(world: &World, line: &str) -> Command {
    let data_dir = world.nodes[0].data_dir();
    let home = data_dir.parent().expect("the node's folder");
    let mut command = Command::new("timeout");
    command
        .args(["60", "sh", "-c", line])
        .current_dir(home)
        .env("HOME", home)
        .env("KUBECONFIG", data_dir.join("kubeconfig.yaml"))
        .env("FILES", files());
    command
}

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn says(text: &str, words: &str) -> bool {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rest = text.as_str();
    words.split('…').all(|piece| {
        let found = rest.find(piece.trim());
        found
            .map(|at| rest = &rest[at + piece.trim().len()..])
            .is_some()
    })
}

#[test]
fn an_answer_has_its_words_in_order() {
    let check = |text: &str, words: &str, expected: bool| {
        assert_eq!(says(text, words), expected, "{text:?} {words:?}");
    };
    check("NAME   READY\nweb    2/2", "web 2/2", true);
    check("NAME   READY\nweb    2/2", "NAME … 2/2", true);
    check("NAME   READY\nweb    2/2", "2/2 … NAME", false);
    check("NAME   READY", "web", false);
    check("anything", "", true);
}
