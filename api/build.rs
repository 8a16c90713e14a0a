//! Takes the descriptions of types and fields out of k8s-openapi, so that the binary holds them compressed and not as the
//! code that makes them.

use std::{collections::BTreeMap, env, error::Error, fs::File, io::Write, path::Path};

use flate2::{Compression, write::ZlibEncoder};
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
use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let path = Path::new(&env::var("OUT_DIR")?).join("prose.json.zz");
    let mut out = ZlibEncoder::new(File::create(path)?, Compression::best());
    out.write_all(&serde_json::to_vec(&prose())?)?;
    out.finish()?;
    Ok(())
}

/// By type and field; a type's own description is that of the field without a name.
fn prose() -> BTreeMap<String, BTreeMap<String, String>> {
    let definitions = described_types().into_iter();
    definitions
        .map(|(name, schema)| {
            let of_fields = schema["properties"].as_object().into_iter().flatten();
            let of_type = std::iter::once((String::new(), description(&schema)));
            let of_fields = of_fields.map(|(field, schema)| (field.clone(), description(schema)));
            let all = of_type.chain(of_fields);
            (
                name,
                all.filter_map(|(key, text)| Some((key, text?))).collect(),
            )
        })
        .collect()
}

fn description(schema: &Value) -> Option<String> {
    schema["description"].as_str().map(str::to_owned)
}

macro_rules! describe {
    ($($kind:ty),+ $(,)?) => {{
        let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
        $(generator.subschema_for::<$kind>();)+
        generator.take_definitions(false).into_iter().collect()
    }};
}

/// The schemas of everything that is served, and of all they refer to.
fn described_types() -> BTreeMap<String, Value> {
    describe!(
        meta::ObjectMeta,
        meta::ListMeta,
        meta::DeleteOptions,
        meta::Status,
        meta::Patch,
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
        apps::ReplicaSet,
        apps::Deployment,
        apps::DaemonSet,
        apps::StatefulSet,
        apps::ControllerRevision,
        autoscaling::Scale,
        batch::Job,
        batch::CronJob,
        discovery::EndpointSlice,
        events::Event,
        coordination::Lease,
        networking::IPAddress,
        networking::ServiceCIDR,
        rbac::Role,
        rbac::ClusterRole,
        rbac::RoleBinding,
        rbac::ClusterRoleBinding,
        authentication::TokenReview,
        authentication::SelfSubjectReview,
        authorization::SubjectAccessReview,
        authorization::SelfSubjectAccessReview,
        authorization::LocalSubjectAccessReview,
        authorization::SelfSubjectRulesReview,
    )
}
