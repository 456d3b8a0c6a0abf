//! The calls, described for programs: OpenAPI 3.1.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

/// Written by hand; a test holds it to the routes.
const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub(super) async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// Every route of `mod.rs` with its methods, and every path of the document with its own.
    #[test]
    fn the_document_describes_every_route_and_no_other() {
        let source = include_str!("mod.rs");
        let mut routes = BTreeSet::new();
        for route in source.split(".route(").skip(1) {
            let route = route.split("\n        .").next().unwrap();
            let [_, path, handlers] = route.splitn(3, '"').collect::<Vec<_>>()[..] else {
                panic!("{route}");
            };
            for method in ["get", "post", "put", "patch", "delete"] {
                if handlers.contains(&format!("{method}(")) {
                    routes.insert((path.to_owned(), method.to_owned()));
                }
            }
        }
        let document: serde_json::Value = serde_json::from_str(super::DOCUMENT).unwrap();
        let described: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, calls)| {
                calls
                    .as_object()
                    .unwrap()
                    .keys()
                    .map(|method| (path.clone(), method.clone()))
            })
            .filter(|(_, method)| method != "parameters")
            .collect();
        assert!(routes.len() > 40, "{}", routes.len());
        assert_eq!(routes, described);
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document: serde_json::Value = serde_json::from_str(super::DOCUMENT).unwrap();
        let mut open = vec![&document];
        while let Some(value) = open.pop() {
            if let Some(reference) = value["$ref"].as_str() {
                assert!(
                    document
                        .pointer(reference.trim_start_matches('#'))
                        .is_some(),
                    "{reference}"
                );
            }
            open.extend(value.as_object().into_iter().flat_map(|map| map.values()));
            open.extend(value.as_array().into_iter().flatten());
        }
    }
}
