//! Which Kubernetes release is served, and which build of knarr serves it.

macro_rules! release {
    () => {
        "v1.37.1"
    };
}

/// The release of Kubernetes whose behaviour is served.
pub const RELEASE: &str = release!();
/// What server and nodes say they run.
pub const VERSION: &str = concat!(release!(), "+knarr", env!("CARGO_PKG_VERSION"));
