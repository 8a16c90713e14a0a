//! kubectl's streams: what goes in and out of a running pod.

use std::{process::Stdio, time::Duration};

use super::{
    Answer::{Refuses, Says},
    check, shell,
};
use crate::lab::{wait, world::World};

const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// Says what it is told, and that nothing more comes.
const PARROT: &str = r#"kubectl create -f - <<END
apiVersion: v1
kind: Pod
metadata: { name: parrot }
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    stdin: true
    command: [sh, -c, 'while read line; do echo heard \$line; done; sleep 1000']
END"#;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn kubectl_reaches_into_pods() {
    let world = World::running(1);
    check(
        &world,
        &[
            ("kubectl apply -f $FILES/web.yaml", Says("created")),
            (
                "kubectl expose deploy web --port=80 --target-port=8080",
                Says("exposed"),
            ),
            (PARROT, Says("pod/parrot created")),
            (
                "kubectl wait --for=condition=Ready pod --all --timeout=30s",
                Says("condition met"),
            ),
            (
                "kubectl exec parrot -- sh -c 'echo out; echo err >&2'",
                Says("out … err"),
            ),
            (
                "kubectl exec parrot -- sh -c 'exit 3' || test $? = 3",
                Says("command terminated with exit code 3"),
            ),
            (
                "kubectl exec deploy/web -- sh -c 'echo $HOSTNAME; hostname'",
                Says("web-"),
            ),
            (
                "kubectl exec parrot -- no-such-command",
                Refuses("no-such-command"),
            ),
            ("echo hello | kubectl exec -i parrot -- cat", Says("hello")),
            (
                "script -qec \"kubectl exec -it parrot -- sh -c 'tty; echo typed'\" /dev/null </dev/null",
                Says("/dev/pts/ … typed"),
            ),
            (
                "(echo one; sleep 1; echo two; sleep 1) | timeout 10 kubectl attach -i parrot; kubectl logs parrot",
                Says("heard one … heard two"),
            ),
            ("kubectl logs parrot --tail=1", Says("heard two")),
            (
                "(echo older; sleep 1) | KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false timeout 10 kubectl attach -i parrot; kubectl logs parrot --tail=1",
                Says("heard older"),
            ),
            (
                "kubectl logs parrot --timestamps --since=1h",
                Says("Z heard one"),
            ),
            (
                "kubectl logs parrot -c nope",
                Refuses("container nope is not valid for pod parrot"),
            ),
            ("kubectl logs nope", Refuses("pods \"nope\" not found")),
            ("kubectl logs deploy/web --prefix", Says("Found 2 pods")),
            (
                "head -c 3000000 /dev/urandom > big && kubectl cp big parrot:/tmp/$$ && kubectl cp parrot:/tmp/$$ back && cmp big back; kubectl exec parrot -- rm /tmp/$$",
                Says(""),
            ),
            (
                "kubectl run once --image=host --restart=Never --command -- echo said",
                Says("pod/once created"),
            ),
            (
                "kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/once --timeout=20s",
                Says("met"),
            ),
            ("kubectl logs once", Says("said")),
            (
                "echo typed | kubectl run brief --image=host --restart=Never -i --rm --command -- cat",
                Says("typed … pod \"brief\" deleted"),
            ),
            (
                "kubectl run open --image=host --port=80 --expose --command -- sleep 1000",
                Says("open created"),
            ),
        ],
    );
    for target in ["deploy/web", "svc/web"] {
        let port = if target == "svc/web" { "80" } else { "8080" };
        forwards(&world, target, port);
    }
    follows_a_log(&world);
}

/// Asks through a forwarded port, several times over one session.
fn forwards(world: &World, target: &str, port: &str) {
    let mut command = shell(
        world,
        &format!("exec kubectl port-forward {target} :{port}"),
    );
    let log = world.nodes[0].data_dir().join("../forward.log");
    command.stdout(std::fs::File::create(&log).expect("a file"));
    let mut session = world.nodes[0].netns.spawn(command);
    let local = wait::until("a local port", ANSWER_TIME_MAX, || {
        let text = std::fs::read_to_string(&log).expect("its output");
        let address = text
            .split_whitespace()
            .find(|word| word.starts_with("127.0.0.1:"));
        address.map(str::to_owned).ok_or(text)
    });
    for _ in 0..3 {
        let line = format!("curl -sS --max-time 5 http://{local}");
        let output = world.nodes[0].netns.output(shell(world, &line));
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            answer.starts_with("You've hit web-"),
            "{target}: {output:?}"
        );
    }
    crate::lab::machine::terminate(&mut session);
}

fn follows_a_log(world: &World) {
    let log = world.nodes[0].data_dir().join("../followed.log");
    let mut command = shell(world, "exec kubectl logs -f parrot --tail=2");
    command.stdout(std::fs::File::create(&log).expect("a file"));
    command.stderr(Stdio::null());
    let mut session = world.nodes[0].netns.spawn(command);
    let wait_for = |words: &str| {
        wait::until(words, ANSWER_TIME_MAX, || {
            let text = std::fs::read_to_string(&log).expect("its output");
            if text.contains(words) {
                Ok(())
            } else {
                Err(text)
            }
        });
    };
    wait_for("heard two");
    let line = "(echo three; sleep 1) | timeout 10 kubectl attach -i parrot";
    world.nodes[0].netns.output(shell(world, line));
    wait_for("heard three");
    crate::lab::machine::terminate(&mut session);
}
