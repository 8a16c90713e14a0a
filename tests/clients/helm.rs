//! helm 4: a small chart through its whole life.

use super::{
    Answer::{Refuses, Says},
    check,
};
use crate::lab::world::World;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn helm_installs_upgrades_rolls_back_and_leaves_nothing() {
    let world = World::running(1);
    check(
        &world,
        &[
            (
                "helm install hello $FILES/chart --wait --timeout 30s",
                Says("STATUS: deployed REVISION: 1"),
            ),
            (
                "kubectl get job hello-before -o jsonpath='{.status.succeeded}'",
                Says("1"),
            ),
            (
                "kubectl get deploy hello -o jsonpath='{.status.readyReplicas}'",
                Says("1"),
            ),
            (
                "helm install hello $FILES/chart",
                Refuses("cannot reuse a name that is still in use"),
            ),
            (
                "helm list",
                Says("hello default 1 … deployed greeter-1.0.0"),
            ),
            (
                "helm status hello",
                Says("STATUS: deployed … v1/Deployment"),
            ),
            (
                "helm test hello --logs --timeout 30s",
                Says("Phase: Succeeded … You've hit hello-"),
            ),
            (
                "helm upgrade hello $FILES/chart --set replicas=2 --wait --timeout 30s",
                Says("has been upgraded … REVISION: 2"),
            ),
            (
                "kubectl get deploy hello -o jsonpath='{.status.readyReplicas}'",
                Says("2"),
            ),
            ("kubectl scale deploy hello --replicas=3", Says("scaled")),
            (
                "helm upgrade hello $FILES/chart --set replicas=1",
                Refuses("conflict with \"kubectl\" … .spec.replicas"),
            ),
            (
                "helm upgrade hello $FILES/chart --set replicas=1 --force-conflicts --wait --timeout 30s",
                Says("REVISION: 4"),
            ),
            (
                "helm rollback hello 2 --wait --timeout 30s",
                Says("Rollback was a success"),
            ),
            (
                "kubectl get deploy hello -o jsonpath='{.spec.replicas}'",
                Says("2"),
            ),
            (
                "helm history hello",
                Says("1 … superseded … 3 … failed … 5 … deployed … Rollback to 2"),
            ),
            (
                "helm upgrade hello $FILES/chart --server-side=false --set replicas=3 --wait --timeout 30s",
                Says("REVISION: 6"),
            ),
            ("helm get values hello", Says("replicas: 3")),
            (
                "helm upgrade --install again $FILES/chart --dry-run=server",
                Says("Dry run complete"),
            ),
            (
                "helm uninstall hello --wait --timeout 30s",
                Says("release \"hello\" uninstalled"),
            ),
            ("kubectl get deploy,svc -o name", Says("service/kubernetes")),
            ("kubectl get deploy hello", Refuses("NotFound")),
            ("kubectl get secrets -o name -l owner=helm", Says("")),
            ("helm list", Says("NAME NAMESPACE REVISION")),
        ],
    );
}
