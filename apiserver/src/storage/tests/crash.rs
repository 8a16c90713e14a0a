//! Kills a writing process again and again; what it was told is stored must be there.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write as _},
    process::{Command, Stdio},
    time::Duration,
};

use super::*;

const DIRECTORY_VARIABLE: &str = "KNARR_CRASH_TEST_DIRECTORY";
const ROUNDS: u64 = 12;
const TASKS: usize = 4;

/// The state of a task's object after its `step`th write; every fifth deletes.
fn expected(step: u64) -> Option<u64> {
    (step % 5 != 4).then_some(step)
}

/// The process that gets killed: a test of its own so that the test binary can run itself.
#[tokio::test]
#[ignore = "run by `what_was_acknowledged_survives_kill_9`"]
async fn writes_until_killed() {
    let Ok(directory) = std::env::var(DIRECTORY_VARIABLE) else {
        return;
    };
    let store = Store::open(Path::new(&directory), KINDS).await.unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(write_and_tell(store.clone(), task)))
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn write_and_tell(store: Store, task: usize) {
    let object = key(&WIDGETS, &format!("task{task}"));
    let present = store
        .get(&object)
        .and_then(|s| s.object()["value"].as_u64());
    let first = present.map_or(0, |value| value + 1).next_multiple_of(5);
    for step in first.. {
        let write = match expected(step) {
            Some(value) => put(object.clone(), Expect::Any, value),
            None => Write::Delete {
                key: object.clone(),
                expect: Expect::Any,
            },
        };
        let done = store.commit(vec![write]).await.unwrap();
        let line = format!("{task} {step} {}\n", done[0].revision);
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

/// Runs a writer for a while, kills it, and returns the last step each task was told of, and the last revision.
fn run_and_kill(directory: &Directory, life: Duration) -> (BTreeMap<usize, u64>, u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "storage::tests::crash::writes_until_killed"])
        .args(["--ignored", "--nocapture"])
        .env(DIRECTORY_VARIABLE, &directory.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = (BTreeMap::new(), 0);
    let mut note = |line: String| {
        let numbers: Vec<u64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
        if let [task, step, revision] = numbers[..] {
            told.0.insert(task as usize, step);
            told.1 = told.1.max(revision);
        }
    };
    // The harness prints lines of its own before the first write's.
    for line in lines.by_ref().map_while(Result::ok) {
        let is_write = line.split(' ').count() == 3 && line.ends_with(|c: char| c.is_ascii_digit());
        note(line);
        if is_write {
            break;
        }
    }
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    lines.map_while(Result::ok).for_each(note);
    told
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let directory = Directory::new();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let life = Duration::from_millis(5 + round * 17 % 90);
        let (steps, revision) = run_and_kill(&directory, life);
        let store = reopen(&directory).await;
        assert!(
            store.revision().0 >= revision,
            "revisions would be given out twice"
        );
        for (task, step) in steps {
            let object = store.get(&key(&WIDGETS, &format!("task{task}")));
            let value = object.and_then(|s| s.object()["value"].as_u64());
            let possible = [expected(step), expected(step + 1)];
            assert!(
                possible.contains(&value),
                "task {task} was told of {step}, found {value:?}"
            );
            acknowledged += 1;
        }
        close(store, &directory).await;
    }
    assert!(acknowledged > 2 * ROUNDS, "the writers never got to write");
}
