//! What the client is told, in its words.

use serde_json::{Value, json};
use worldline_runtime::{ImageView, Instance, Runtime, Sizes, Snapshot, Status, Ttl};

use super::request::Query;
use crate::error::ApiError;
use crate::limits::{MAX_PAGE, PAGE};

fn spec(sizes: &Sizes) -> Value {
    json!({ "vcpus": sizes.vcpus, "memory": sizes.memory_mib, "disk_size": sizes.disk_mib })
}

pub(super) fn image(image: &ImageView) -> Value {
    json!({
        "id": image.id,
        "object": "image",
        "name": image.id,
        "description": image.digest,
        "disk_size": image.bytes,
        "created": image.created,
        "kind": image.kind,
    })
}

pub(super) fn snapshot(worlds: &Runtime, snapshot: &Snapshot) -> Value {
    json!({
        "id": snapshot.id,
        "object": "snapshot",
        "created": snapshot.created,
        "status": "ready",
        "spec": spec(&snapshot.sizes),
        "refs": { "image_id": snapshot.image },
        "digest": snapshot.digest,
        "metadata": snapshot.metadata,
        "ttl": { "ttl_seconds": snapshot.ttl.seconds, "ttl_expire_at": snapshot.ttl.expires_at },
        "kind": snapshot.kind,
        "world": snapshot.world,
        "bytes": snapshot.bytes,
        "pause_ms": snapshot.pause_ms,
        "durable": worlds.is_durable(snapshot),
    })
}

fn ttl(ttl: &Ttl) -> Value {
    json!({ "ttl_seconds": ttl.seconds, "ttl_expire_at": ttl.expires_at, "ttl_action": ttl.action })
}

pub(super) fn instance(instance: &Instance) -> Value {
    let status = match instance.status {
        Status::Ready => "ready",
        Status::Paused => "paused",
        Status::Error => "error",
    };
    json!({
        "id": instance.id,
        "object": "instance",
        "created": instance.created,
        "status": status,
        "spec": spec(&instance.sizes),
        // The client wants text here; a match with players comes from no snapshot.
        "refs": { "snapshot_id": instance.snapshot.as_deref().unwrap_or_default(), "image_id": instance.image },
        "networking": { "internal_ip": null, "http_services": instance.services },
        "ttl": ttl(&instance.ttl),
        "wake_on": { "wake_on_ssh": instance.wake_on.ssh, "wake_on_http": instance.wake_on.http },
        "metadata": instance.metadata,
        "kind": instance.kind,
        "backend": instance.backend,
        "parent": instance.parent,
        "trit": instance.trit,
    })
}

/// One page of a list.
pub(super) fn page(name: &str, all: Vec<Value>, query: &Query) -> Result<Value, ApiError> {
    let (page, limit) = (
        query.number("page", 1usize)?.max(1),
        query.number("limit", PAGE)?.clamp(1, MAX_PAGE),
    );
    let total = all.len();
    let pages = total.div_ceil(limit);
    let shown: Vec<Value> = all
        .into_iter()
        .skip((page - 1).saturating_mul(limit))
        .take(limit)
        .collect();
    Ok(json!({
        name: shown,
        "total": total,
        "page": page,
        "size": limit,
        "total_pages": pages,
        "has_next": page < pages,
        "has_prev": page > 1,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_everything_once() {
        let all = |page: usize| {
            let query = Query(vec![
                ("page".into(), page.to_string()),
                ("limit".into(), "2".into()),
            ]);
            super::page("things", (0..5).map(Value::from).collect(), &query).unwrap()
        };
        assert_eq!(all(1)["things"], json!([0, 1]));
        assert_eq!(
            (
                &all(3)["things"],
                &all(3)["has_next"],
                &all(3)["total_pages"]
            ),
            (&json!([4]), &json!(false), &json!(3))
        );
        assert_eq!(all(usize::MAX)["things"], json!([]));
    }
}
