//! kubectl, command by command.

use super::{
    Answer::{Refuses, Says},
    check,
};
use crate::lab::world::World;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn kubectl_reads_as_from_kubernetes() {
    let world = World::running(1);
    check(
        &world,
        &[
            (
                "kubectl apply -f $FILES/web.yaml",
                Says("deployment.apps/web created"),
            ),
            (
                "kubectl rollout status deploy/web --timeout=30s",
                Says("successfully rolled out"),
            ),
            (
                "kubectl get deploy",
                Says("NAME READY UP-TO-DATE AVAILABLE AGE web 2/2 2 2"),
            ),
            (
                "kubectl get deploy,rs,pods -o wide",
                Says("CONTAINERS IMAGES SELECTOR … echo … app=web … NOMINATED NODE … Running"),
            ),
            (
                "kubectl get all",
                Says(
                    "pod/web- … service/kubernetes ClusterIP 10.0.128.1 … deployment.apps/web … replicaset.apps/web-",
                ),
            ),
            ("kubectl get pods -o name", Says("pod/web- … pod/web-")),
            (
                "kubectl get deploy,svc -l '!x' -o yaml | kubectl apply -f -",
                Says("deployment.apps/web configured"),
            ),
            (
                "kubectl explain deploy.spec --output plaintext-openapiv2",
                Says("KIND: Deployment VERSION: apps/v1 … minReadySeconds"),
            ),
            (
                "kubectl get deploy web -o yaml",
                Says("apiVersion: apps/v1 kind: Deployment … replicas: 2 … status:"),
            ),
            (
                "kubectl get deploy web -o json",
                Says("\"kind\": \"Deployment\" … \"readyReplicas\": 2"),
            ),
            (
                "kubectl get deploy web -o kyaml",
                Says("kind: \"Deployment\", … replicas: 2,"),
            ),
            (
                "kubectl get deploy web -o jsonpath='{.status.readyReplicas}'",
                Says("2"),
            ),
            (
                "kubectl get deploy web -o go-template='<{{.metadata.name}}>'",
                Says("<web>"),
            ),
            (
                "kubectl get pods -o custom-columns=P:.status.phase",
                Says("P Running Running"),
            ),
            (
                "kubectl get pods -l app=web --show-labels --no-headers",
                Says("app=web,pod-template-hash="),
            ),
            (
                "kubectl get pods -l app=other",
                Says("No resources found in default namespace."),
            ),
            (
                "kubectl get pods -A --field-selector status.phase=Running",
                Says("NAMESPACE NAME READY … default web-"),
            ),
            (
                "kubectl get pods --sort-by=.metadata.name",
                Says("web- … web-"),
            ),
            (
                "kubectl get nodes -o wide",
                Says("node-1 Ready <none> … 10.77.0.11"),
            ),
            (
                "kubectl get pod nope",
                Refuses("Error from server (NotFound): pods \"nope\" not found"),
            ),
            (
                "kubectl get gadgets",
                Refuses("the server doesn't have a resource type \"gadgets\""),
            ),
            ("kubectl get pods -w --request-timeout=1s", Says("web-")),
            ("kubectl get --raw /readyz", Says("ok")),
            (
                "kubectl describe deploy web",
                Says(
                    "Name: web … 2 desired | 2 updated | 2 total | 2 available … NewReplicaSet: web- … ScalingReplicaSet",
                ),
            ),
            (
                "kubectl describe pod -l app=web",
                Says(
                    "Node: node-1/10.77.0.11 … Controlled By: ReplicaSet/web- … State: Running … Ready True … Started",
                ),
            ),
            (
                "kubectl describe node node-1",
                Says(
                    "Lease: … HolderIdentity: node-1 … Ready True … InternalIP: 10.77.0.11 … web- … Allocated resources",
                ),
            ),
            (
                "kubectl describe svc kubernetes",
                Says("Type: ClusterIP … IP: 10.0.128.1 … TargetPort: 6443/TCP … Endpoints:"),
            ),
            ("kubectl describe ns default", Says("Status: Active")),
            (
                "kubectl explain svc.spec.type",
                Says("FIELD: type <string> ENUM: ClusterIP ExternalName LoadBalancer NodePort"),
            ),
            (
                "kubectl explain deploy",
                Says("GROUP: apps KIND: Deployment VERSION: v1 … spec <DeploymentSpec>"),
            ),
            (
                "kubectl api-resources",
                Says(
                    "pods po v1 true Pod … deployments deploy apps/v1 true Deployment … endpointslices discovery.k8s.io/v1",
                ),
            ),
            ("kubectl api-versions", Says("apps/v1 … batch/v1 … v1")),
            (
                "kubectl events --for deploy/web",
                Says("ScalingReplicaSet Deployment/web"),
            ),
            (
                "kubectl get events --sort-by=.lastTimestamp",
                Says("Successfully assigned default/web-"),
            ),
            ("kubectl version", Says("Server Version: v1.37")),
            (
                "kubectl cluster-info",
                Says("control plane is running at https://"),
            ),
            (
                "kubectl auth whoami",
                Says("Username system:admin Groups [system:masters"),
            ),
            ("kubectl auth can-i create pods", Says("yes")),
            (
                "kubectl auth can-i --list",
                Says("Resources Non-Resource URLs Resource Names Verbs"),
            ),
        ],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn kubectl_writes_as_to_kubernetes() {
    let world = World::running(1);
    check(
        &world,
        &[
            (
                "kubectl apply -f $FILES/web.yaml",
                Says("deployment.apps/web created"),
            ),
            (
                "kubectl apply -f $FILES/web.yaml",
                Says("deployment.apps/web unchanged"),
            ),
            (
                "kubectl create -f $FILES/web.yaml",
                Refuses("(AlreadyExists) … deployments.apps \"web\" already exists"),
            ),
            (
                "sed 's/replicas: 2/replicas: 1/' $FILES/web.yaml > one.yaml",
                Says(""),
            ),
            (
                "kubectl diff -f one.yaml",
                Refuses("- replicas: 2 + replicas: 1"),
            ),
            (
                "kubectl diff --server-side --force-conflicts -f one.yaml",
                Refuses("- replicas: 2 + replicas: 1"),
            ),
            (
                "kubectl apply -f one.yaml --dry-run=server",
                Says("configured (server dry run)"),
            ),
            (
                "kubectl apply -f one.yaml",
                Says("deployment.apps/web configured"),
            ),
            (
                "kubectl apply --server-side -f one.yaml",
                Says("deployment.apps/web serverside-applied"),
            ),
            (
                "kubectl scale deploy web --replicas=2",
                Says("deployment.apps/web scaled"),
            ),
            (
                "kubectl apply --server-side -f one.yaml --field-manager=other",
                Refuses("Apply failed with … .spec.replicas"),
            ),
            (
                "kubectl apply --server-side -f one.yaml --field-manager=other --force-conflicts",
                Says("serverside-applied"),
            ),
            (
                "kubectl scale deploy web --replicas=2 --current-replicas=3",
                Refuses("Expected replicas to be 3, was 1"),
            ),
            (
                "KUBE_EDITOR=\"sed -i 's/replicas: 1/replicas: 2/'\" kubectl edit deploy web",
                Says("deployment.apps/web edited"),
            ),
            (
                "kubectl get deploy web -o jsonpath='{.spec.replicas}'",
                Says("2"),
            ),
            (
                "kubectl patch deploy web -p '{\"spec\":{\"replicas\":1}}'",
                Says("patched"),
            ),
            (
                "kubectl patch deploy web --type=json -p '[{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":2}]'",
                Says("patched"),
            ),
            (
                "kubectl patch deploy web --type=merge -p '{\"spec\":{\"replicas\":1}}'",
                Says("patched"),
            ),
            (
                // Of an object whose status nobody writes meanwhile.
                "kubectl patch sa default --type=merge -p '{\"metadata\":{\"name\":\"default\"}}'",
                Says("serviceaccount/default patched (no change)"),
            ),
            ("kubectl label deploy web tier=front", Says("labeled")),
            (
                "kubectl label deploy web tier=back",
                Refuses("'tier' already has a value (front)"),
            ),
            (
                "kubectl label deploy web tier=back --overwrite",
                Says("labeled"),
            ),
            ("kubectl label deploy web tier-", Says("unlabeled")),
            ("kubectl annotate deploy web note=hello", Says("annotated")),
            (
                "kubectl expose deploy web --port=80 --target-port=8080",
                Says("service/web exposed"),
            ),
            (
                "kubectl create configmap settings --from-literal=a=b",
                Says("configmap/settings created"),
            ),
            (
                "kubectl create secret generic keys --from-literal=a=b",
                Says("secret/keys created"),
            ),
            (
                "kubectl create service nodeport np --tcp=80:8080 --node-port=30099",
                Says("service/np created"),
            ),
            (
                "kubectl create service nodeport taken --tcp=80:8080 --node-port=30099",
                Refuses("provided port is already allocated"),
            ),
            (
                "kubectl create serviceaccount robot",
                Says("serviceaccount/robot created"),
            ),
            (
                "kubectl create role reader --verb=get --resource=pods",
                Says("role.rbac.authorization.k8s.io/reader created"),
            ),
            (
                "kubectl create rolebinding robots --role=reader --serviceaccount=default:robot",
                Says("created"),
            ),
            (
                "kubectl auth can-i get pods --as=system:serviceaccount:default:robot",
                Says("yes"),
            ),
            (
                "kubectl auth can-i delete pods --as=system:serviceaccount:default:robot",
                Refuses("no"),
            ),
            ("kubectl create token robot", Says("ey")),
            (
                "kubectl create job once --image=host -- true",
                Says("job.batch/once created"),
            ),
            (
                "kubectl wait --for=condition=complete job/once --timeout=30s",
                Says("condition met"),
            ),
            (
                "kubectl create cronjob often --image=host --schedule='0 0 1 1 *' -- true",
                Says("cronjob.batch/often created"),
            ),
            (
                "kubectl create deployment d --image=nginx --dry-run=server",
                Says("created (server dry run)"),
            ),
            ("kubectl get deploy d", Refuses("NotFound")),
            (
                "kubectl create namespace other",
                Says("namespace/other created"),
            ),
            ("kubectl -n other apply -f one.yaml", Says("created")),
            (
                "kubectl delete namespace other --timeout=30s",
                Says("namespace \"other\" deleted"),
            ),
            (
                "kubectl wait --for=create cm/settings --timeout=5s",
                Says("condition met"),
            ),
            (
                "kubectl wait --for=jsonpath='{.status.readyReplicas}'=1 deploy/web --timeout=20s",
                Says("condition met"),
            ),
            (
                "kubectl get cm settings -o yaml | sed 's/a: b/a: c/' | kubectl replace -f -",
                Says("configmap/settings replaced"),
            ),
            (
                "kubectl delete cm,secret settings keys --ignore-not-found",
                Says("configmap \"settings\" deleted … secret \"keys\" deleted"),
            ),
            (
                "kubectl delete -f one.yaml",
                Says("deployment.apps \"web\" deleted"),
            ),
            (
                "kubectl wait --for=delete pod -l app=web --timeout=20s",
                Says(""),
            ),
            ("kubectl get pods -l app=web", Says("No resources found")),
        ],
    );
}

#[test]
fn kubectl_rolls_out_and_back() {
    let world = World::running(1);
    check(
        &world,
        &[
            ("kubectl apply -f $FILES/web.yaml", Says("created")),
            (
                "kubectl rollout status deploy/web --timeout=30s",
                Says("successfully rolled out"),
            ),
            ("kubectl set env deploy/web A=B", Says("env updated")),
            (
                "kubectl rollout status deploy/web --timeout=30s",
                Says("successfully rolled out"),
            ),
            (
                "kubectl rollout history deploy/web",
                Says("REVISION CHANGE-CAUSE 1 <none> 2 <none>"),
            ),
            (
                "kubectl rollout history deploy/web --revision=2",
                Says("with revision #2 … A: B"),
            ),
            ("kubectl rollout undo deploy/web", Says("rolled back")),
            (
                "kubectl rollout status deploy/web --timeout=30s",
                Says("successfully rolled out"),
            ),
            ("kubectl get deploy web -o jsonpath='<{..env}>'", Says("<>")),
            ("kubectl rollout restart deploy/web", Says("restarted")),
            (
                "kubectl rollout status deploy/web --timeout=30s",
                Says("successfully rolled out"),
            ),
            ("kubectl rollout pause deploy/web", Says("paused")),
            (
                "kubectl rollout restart deploy/web",
                Refuses("can't restart paused deployment"),
            ),
            ("kubectl rollout resume deploy/web", Says("resumed")),
            (
                "kubectl set image deploy/web echo=host",
                Says("image updated"),
            ),
            (
                "kubectl wait --for=condition=Available deploy/web --timeout=20s",
                Says("condition met"),
            ),
        ],
    );
}

#[test]
fn kubectl_tends_nodes() {
    let world = World::running(1);
    check(
        &world,
        &[
            ("kubectl apply -f $FILES/web.yaml", Says("created")),
            (
                "kubectl run lonely --image=host --command -- sleep 1000",
                Says("pod/lonely created"),
            ),
            (
                "kubectl wait --for=condition=Ready pod --all --timeout=30s",
                Says("condition met"),
            ),
            ("kubectl cordon node-1", Says("node/node-1 cordoned")),
            ("kubectl get nodes", Says("Ready,SchedulingDisabled")),
            ("kubectl uncordon node-1", Says("node/node-1 uncordoned")),
            (
                "kubectl taint node node-1 k=v:NoSchedule",
                Says("node/node-1 tainted"),
            ),
            (
                "kubectl taint node node-1 k-",
                Says("node/node-1 untainted"),
            ),
            (
                "kubectl drain node-1 --timeout=30s",
                Refuses("cannot delete Pods that declare no controller"),
            ),
            (
                "kubectl drain node-1 --force --timeout=30s",
                Says("evicting pod default/lonely … pod/lonely evicted … node/node-1 drained"),
            ),
            ("kubectl get pods", Says("web- … Pending … web- … Pending")),
            ("kubectl uncordon node-1", Says("uncordoned")),
            (
                "kubectl rollout status deploy/web --timeout=30s",
                Says("successfully rolled out"),
            ),
        ],
    );
}

#[test]
fn kubectl_says_clearly_what_is_not_served() {
    let world = World::running(1);
    check(
        &world,
        &[
            (
                "kubectl run p --image=host --command -- sleep 1000",
                Says("pod/p created"),
            ),
            (
                "kubectl wait --for=condition=Ready pod/p --timeout=30s",
                Says("condition met"),
            ),
            (
                "kubectl top nodes",
                Refuses("error: Metrics API not available"),
            ),
            (
                "kubectl top pods",
                Refuses("error: Metrics API not available"),
            ),
            (
                "kubectl autoscale deploy web --max=3",
                Refuses("deployments.apps \"web\" not found"),
            ),
            (
                "kubectl debug p --image=busybox",
                Refuses("ephemeral containers are disabled for this cluster"),
            ),
            (
                "kubectl get hpa",
                Refuses("the server doesn't have a resource type \"hpa\""),
            ),
            (
                "kubectl get ingress",
                Refuses("the server doesn't have a resource type \"ingress\""),
            ),
            ("kubectl run n --image=nginx", Says("pod/n created")),
            (
                "kubectl wait --for=jsonpath='{.status.containerStatuses[0].state.waiting.reason}'=ErrImageNeverPull pod/n --timeout=20s",
                Says("condition met"),
            ),
        ],
    );
}
