//! Well-known labels, annotations, finalizers and names that more than one controller goes by.

/// Topology label that gives endpoints their zone.
pub(super) const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
pub(super) const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
pub(super) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Who writes an EndpointSlice.
pub(super) const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const TRIGGER_TIME_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Either asks for topology hints; the first wins.
pub(super) const HINTS_ANNOTATIONS: [&str; 2] = [
    "service.kubernetes.io/topology-aware-hints",
    "service.kubernetes.io/topology-mode",
];
/// Keeps a Service until its load-balancer IPs are free again.
pub(super) const LOAD_BALANCER_FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
/// The ConfigMap in every namespace with the CA that signs the API's certificates.
pub(super) const ROOT_CA: &str = "kube-root-ca.crt";
