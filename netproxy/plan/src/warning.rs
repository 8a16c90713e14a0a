//! What the planner noticed and could not make true.

use std::{fmt, sync::Arc};

use crate::key::{FrontendKey, ServiceKey};

/// Something in a Service or its slices that the plan had to leave out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// Another Service has the same address, port and protocol.
    FrontendTaken {
        /// The Service that loses.
        service: Arc<ServiceKey>,
        /// The contested frontend.
        frontend: FrontendKey,
        /// The Service that keeps it.
        holder: Arc<ServiceKey>,
    },
    /// A field holds something that is not what it should be.
    Unreadable {
        /// The Service.
        service: Arc<ServiceKey>,
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
}

impl Warning {
    /// The warning in one word, as an Event's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::FrontendTaken { .. } => "FrontendTaken",
            Self::Unreadable { .. } => "FieldIgnored",
        }
    }

    /// The Service that the warning is about.
    #[must_use]
    pub fn service(&self) -> &Arc<ServiceKey> {
        match self {
            Self::FrontendTaken { service, .. } | Self::Unreadable { service, .. } => service,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrontendTaken {
                service,
                frontend,
                holder,
            } => {
                write!(f, "{service}: {frontend} already belongs to {holder}")
            }
            Self::Unreadable {
                service,
                field,
                value,
            } => {
                write!(f, "{service}: {field} {value:?} is ignored")
            }
        }
    }
}
