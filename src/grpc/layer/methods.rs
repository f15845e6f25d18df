//! The methods that the server serves, read from the embedded descriptors.

use std::{collections::HashMap, sync::Arc};

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::grpc::{DESCRIPTORS, VALID_DESCRIPTORS};

const SERVED: [&[u8]; 4] = [
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    DESCRIPTORS,
];

/// Each method by its path, for metrics, traces and the log.
///
/// Unknown paths share the name `unknown`, so callers cannot create new time series.
pub(super) struct Methods {
    methods: HashMap<String, Method>,
    unknown: Method,
}

#[derive(Clone)]
pub(super) struct Method {
    /// Without the service, unless a service before it has a method of that name.
    pub(super) name: Arc<str>,
    /// Whether the client sends a stream of requests.
    pub(super) takes_stream: bool,
}

impl Methods {
    pub(super) fn decode() -> Self {
        let mut methods = HashMap::new();
        let mut services = HashMap::new();
        for descriptors in SERVED {
            let files = FileDescriptorSet::decode(descriptors).expect(VALID_DESCRIPTORS);
            for file in &files.file {
                for service in &file.service {
                    for method in &service.method {
                        let (package, service) = (file.package(), service.name());
                        let path = format!("/{package}.{service}/{}", method.name());
                        // The two versions of reflection are one service.
                        let first = services
                            .entry(method.name().to_owned())
                            .or_insert_with(|| service.to_owned());
                        let name = if first == service {
                            method.name().to_owned()
                        } else {
                            format!("{service}/{}", method.name())
                        };
                        let method = Method {
                            name: name.into(),
                            takes_stream: method.client_streaming(),
                        };
                        methods.insert(path, method);
                    }
                }
            }
        }
        let unknown = Method {
            name: Arc::from("unknown"),
            takes_stream: false,
        };
        Self { methods, unknown }
    }

    pub(super) fn find(&self, path: &str) -> &Method {
        self.methods.get(path).unwrap_or(&self.unknown)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_served_method_has_a_name_and_other_paths_are_unknown() {
        let methods = Methods::decode();
        for (path, name) in [
            ("/realchat.auth.v1.AuthService/Login", "Login"),
            ("/realchat.auth.v1.AccountService/EndSession", "EndSession"),
            ("/grpc.health.v1.Health/Watch", "Watch"),
            ("/realchat.auth.v1.EdgeService/Watch", "EdgeService/Watch"),
            ("/realchat.auth.v1.AuthService/Forget", "unknown"),
            ("realchat.auth.v1.AuthService/Login", "unknown"),
            ("Login", "unknown"),
            ("/", "unknown"),
            ("", "unknown"),
        ] {
            assert_eq!(&*methods.find(path).name, name, "{path}");
        }
        for version in ["v1", "v1alpha"] {
            let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
            let method = methods.find(&path);
            assert_eq!(&*method.name, "ServerReflectionInfo");
            assert!(method.takes_stream);
        }
    }

    #[test]
    fn no_two_services_share_the_name_of_a_method() {
        let mut services = BTreeMap::<_, Vec<_>>::new();
        for (path, Method { name, .. }) in Methods::decode().methods {
            // The two versions of reflection are one service.
            let path = path.replace(".v1alpha.", ".v1.");
            let services = services.entry(name).or_default();
            if !services.contains(&path) {
                services.push(path);
            }
        }
        services.retain(|_, services| services.len() > 1);
        assert!(services.is_empty(), "{services:?}");
    }
}
