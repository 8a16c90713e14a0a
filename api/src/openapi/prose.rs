//! Descriptions of types and fields, as k8s-openapi's types carry them. Shapes are taken from elsewhere.

use k8s_openapi::{
    api::{
        apps::v1 as apps, authentication::v1 as authentication, authorization::v1 as authorization,
        autoscaling::v1 as autoscaling, batch::v1 as batch, coordination::v1 as coordination,
        core::v1 as core, discovery::v1 as discovery, events::v1 as events,
        networking::v1 as networking, policy::v1 as policy, rbac::v1 as rbac,
    },
    apimachinery::pkg::apis::meta::v1 as meta,
    schemars::{SchemaGenerator, generate::SchemaSettings},
};
use serde_json::{Map, Value};

macro_rules! describe {
    ($generator:expr, $($kind:ty),+ $(,)?) => {{
        $($generator.subschema_for::<$kind>();)+
    }};
}

/// The described schemas of every type of a group version, by published name.
pub(super) fn of(group: &str, version: &str) -> Map<String, Value> {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    describe!(
        generator,
        meta::ObjectMeta,
        meta::ListMeta,
        meta::DeleteOptions,
        meta::Status,
        meta::Patch,
    );
    add_group_version(&mut generator, group, version);
    generator.take_definitions(false).into_iter().collect()
}

fn add_group_version(generator: &mut SchemaGenerator, group: &str, version: &str) {
    match (group, version) {
        ("", "v1") => describe!(
            generator,
            core::Namespace,
            core::Node,
            core::Pod,
            core::PodTemplate,
            core::Service,
            core::Endpoints,
            core::Event,
            core::ConfigMap,
            core::Secret,
            core::ServiceAccount,
            core::Binding,
            policy::Eviction,
            authentication::TokenRequest,
        ),
        ("apps", "v1") => describe!(
            generator,
            apps::ReplicaSet,
            apps::Deployment,
            apps::DaemonSet,
            apps::StatefulSet,
            apps::ControllerRevision,
            autoscaling::Scale,
        ),
        ("batch", "v1") => describe!(generator, batch::Job, batch::CronJob),
        ("discovery.k8s.io", "v1") => describe!(generator, discovery::EndpointSlice),
        ("events.k8s.io", "v1") => describe!(generator, events::Event),
        ("coordination.k8s.io", "v1") => describe!(generator, coordination::Lease),
        ("networking.k8s.io", "v1") => {
            describe!(generator, networking::IPAddress, networking::ServiceCIDR);
        }
        ("policy", "v1") => describe!(generator, policy::Eviction),
        ("rbac.authorization.k8s.io", "v1") => describe!(
            generator,
            rbac::Role,
            rbac::ClusterRole,
            rbac::RoleBinding,
            rbac::ClusterRoleBinding,
        ),
        ("authentication.k8s.io", "v1") => describe!(
            generator,
            authentication::TokenReview,
            authentication::SelfSubjectReview,
        ),
        ("authorization.k8s.io", "v1") => describe!(
            generator,
            authorization::SubjectAccessReview,
            authorization::SelfSubjectAccessReview,
            authorization::LocalSubjectAccessReview,
            authorization::SelfSubjectRulesReview,
        ),
        _ => {}
    }
}
