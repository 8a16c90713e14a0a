// What programs do with the official JavaScript client: typed, untyped, watch, informer, exec, logs, port-forward.

import assert from "node:assert";
import { createRequire } from "node:module";
import { PassThrough, Writable } from "node:stream";

const require = createRequire(`${process.env.NODE_MODULES}/`);
const k8s = await import(require.resolve("@kubernetes/client-node"));
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const namespace = "default";

/** Something that arrives by a callback, or not in time. */
const arrival = (what, begin) =>
  new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`${what}: not in time`)), 20_000);
    const arrived = (value) => (clearTimeout(late), resolve(value));
    Promise.resolve(begin(arrived)).catch(reject);
  });

/** A sink that shows all that came so far. */
const sink = (show) => {
  let text = "";
  return new Writable({ write: (chunk, _encoding, done) => (show((text += chunk)), done()) });
};

const steps = {
  async typed() {
    const spec = { terminationGracePeriodSeconds: 1, containers: [{ name: "c", command: ["knarr", "echo"] }] };
    const body = { metadata: { name: "js", labels: { app: "js" } }, spec };
    assert((await core.createNamespacedPod({ namespace, body })).metadata.uid);
    await assert.rejects(core.readNamespacedPod({ name: "nope", namespace }), (error) => error.code === 404);
    assert.equal((await core.listNode()).items[0].metadata.name, "node-1");
  },
  async watch() {
    const isReady = (pod) => pod.status.conditions?.some(({ type, status }) => type === "Ready" && status === "True");
    await arrival("a ready pod", (arrived) =>
      new k8s.Watch(config).watch(
        `/api/v1/namespaces/${namespace}/pods`,
        { labelSelector: "app=js" },
        (_type, pod) => isReady(pod) && arrived(),
        () => {},
      ),
    );
  },
  async patch() {
    const headers = k8s.setHeaderOptions("Content-Type", k8s.PatchStrategy.StrategicMergePatch);
    const body = { metadata: { labels: { a: "b" } } };
    const pod = await core.patchNamespacedPod({ name: "js", namespace, body }, headers);
    assert.deepEqual(pod.metadata.labels, { a: "b", app: "js" });
  },
  async informer() {
    const list = () => core.listNamespacedPod({ namespace });
    const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/pods`, list);
    await arrival("the pod", async (arrived) => {
      informer.on("add", (pod) => pod.metadata.name === "js" && arrived());
      await informer.start();
    });
    await informer.stop();
  },
  async exec() {
    let said = "";
    const [stdin, output] = [new PassThrough(), sink((text) => (said = text))];
    const status = await arrival("an exit", async (arrived) => {
      const command = ["sh", "-c", "read word; echo heard $word; exit 3"];
      await new k8s.Exec(config).exec(namespace, "js", "c", command, output, output, stdin, false, arrived);
      stdin.write("hi\n");
    });
    assert.equal(said, "heard hi\n");
    assert.equal(status.details.causes[0].message, "3");
  },
  async portForward() {
    await arrival("an answer", async (arrived) => {
      const output = sink((text) => text.includes("You've hit js") && arrived());
      const input = new PassThrough();
      await new k8s.PortForward(config).portForward(namespace, "js", [8080], output, null, input);
      input.write("GET / HTTP/1.1\r\nHost: js\r\nConnection: close\r\n\r\n");
    });
  },
  async logs() {
    const metadata = { name: "said", namespace };
    const spec = { restartPolicy: "Never", containers: [{ name: "c", command: ["echo", "said"] }] };
    await core.createNamespacedPod({ namespace, body: { metadata, spec } });
    const isOver = async () => (await core.readNamespacedPod({ name: "said", namespace })).status.phase === "Succeeded";
    await arrival("the end", async (arrived) => {
      while (!(await isOver())) await new Promise((next) => setTimeout(next, 50));
      arrived();
    });
    await arrival("a log", (arrived) =>
      new k8s.Log(config).log(namespace, "said", "c", sink((text) => text === "said\n" && arrived()), {}),
    );
  },
  async untyped() {
    const map = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "js", namespace }, data: { a: "b" } };
    await objects.create(map);
    assert.deepEqual((await objects.read(map)).data, { a: "b" });
    const strategy = k8s.PatchStrategy.ServerSideApply;
    const applied = await objects.patch({ ...map, data: { c: "d" } }, undefined, undefined, "js", true, strategy);
    assert.deepEqual(applied.data, { a: "b", c: "d" });
    await objects.delete(map);
  },
};

for (const [name, step] of Object.entries(steps)) {
  await step();
  console.log(name);
}
console.log("all is well");
process.exit(0);
