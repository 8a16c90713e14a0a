//! The official client libraries of other languages; each runs a script beside this file that fails on the first surprise.

use std::path::Path;

use super::shell;
use crate::lab::world::World;

/// Where `tests/tools/install.sh` puts the libraries.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.cache/tools");

#[test]
fn the_python_client_works() {
    let path = format!("{TOOLS}/python");
    run(
        &path,
        &format!("PYTHONPATH={path} python3 $FILES/client.py"),
    );
}

#[test]
fn the_node_client_works() {
    let path = format!("{TOOLS}/node");
    run(
        &path,
        &format!("NODE_MODULES={path}/node_modules node $FILES/client.mjs"),
    );
}

fn run(library: &str, line: &str) {
    if !Path::new(library).exists() {
        eprintln!(
            "skipped: {library} is not there; tests/tools/install.sh makes it and says why if it cannot"
        );
        return;
    }
    let world = World::running(1);
    let output = world.nodes[0].netns.output(shell(&world, line));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(
        output.status.success() && text.ends_with("all is well\n"),
        "{line}: {}\n{text}\n{}",
        output.status,
        world.logs()
    );
}
