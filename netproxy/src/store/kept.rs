//! Objects as a proxy keeps them: as they came until they are planned, and as their JSON from then on.
//!
//! A typed Service is five times as large as its JSON, and is looked at again only when it or its endpoints change.

use std::borrow::Cow;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// One object.
#[derive(Debug)]
pub(crate) enum Kept<T> {
    /// Not looked at yet.
    Loose(Box<T>),
    /// To be looked at again some time.
    Packed(Box<[u8]>),
}

impl<T: Clone + Serialize + DeserializeOwned> Kept<T> {
    pub(crate) fn new(object: T) -> Self {
        Kept::Loose(Box::new(object))
    }

    /// The object.
    pub(crate) fn read(&self) -> Option<Cow<'_, T>> {
        match self {
            Kept::Loose(object) => Some(Cow::Borrowed(object)),
            Kept::Packed(json) => {
                // What was packed here can be read; a kind costs the code of one decoder, which reads values.
                let value: Value = serde_json::from_slice(json).ok()?;
                serde_json::from_value(value).ok().map(Cow::Owned)
            }
        }
    }

    /// Makes it small.
    pub(crate) fn pack(&mut self) {
        if let Kept::Loose(object) = self
            && let Ok(json) = serde_json::to_vec(object)
        {
            *self = Kept::Packed(json.into_boxed_slice());
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
    use serde_json::json;

    use super::*;

    fn check<T>(object: Value)
    where
        T: Clone + std::fmt::Debug + PartialEq + Serialize + DeserializeOwned,
    {
        let object: T = serde_json::from_value(object).expect("an object");
        let mut kept = Kept::new(object.clone());
        assert_eq!(kept.read().as_deref(), Some(&object));
        kept.pack();
        assert!(matches!(kept, Kept::Packed(_)));
        assert_eq!(kept.read().as_deref(), Some(&object));
        kept.pack();
        assert_eq!(kept.read().as_deref(), Some(&object));
    }

    #[test]
    fn what_was_packed_reads_as_it_was() {
        check::<Service>(json!({
            "metadata": {"name": "a", "namespace": "ns", "creationTimestamp": "2026-06-01T12:00:00Z"},
            "spec": {"clusterIP": "10.0.128.7", "clusterIPs": ["10.0.128.7"], "ipFamilies": ["IPv4"], "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 7}},
                "ports": [{"name": "w", "port": 80, "targetPort": "web", "protocol": "TCP", "nodePort": 30080}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.9.0.1", "ipMode": "VIP"}]}}
        }));
        check::<EndpointSlice>(json!({
            "metadata": {"name": "a-1", "namespace": "ns"}, "addressType": "IPv6",
            "endpoints": [{"addresses": ["fd00::1"], "conditions": {"ready": false, "serving": true, "terminating": true},
                "hints": {"forZones": [{"name": "z"}]}, "nodeName": "n", "zone": "z"}],
            "ports": [{"name": "w", "port": 8080, "protocol": "TCP", "appProtocol": "x"}, {"port": null}]
        }));
    }
}
