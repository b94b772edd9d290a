//! `/cardinal/v1/quarantine`: entities of the store that are valid and cannot be served.

use cardinal_store::TagFilter;
use serde_json::{Value, json};

use super::call::Call;
use super::entities::further;
use super::information::paged;
use super::message::Response;
use crate::dao::{DEFAULT_WORKSPACE, Fault, Selector, Tags, parse_tags};
use crate::history::time_text;
use crate::quarantine::Quarantined;

pub(super) async fn answer(call: &Call<'_>) -> Result<Response, Fault> {
    let Some(source) = &call.admin.source else {
        let message =
            "the entities come from files: /status lists those that are not served (config.left_out_entities)";
        return Err(Fault::message(404, message));
    };
    let filter = match call.listing().tags {
        Tags::None => TagFilter::None,
        Tags::Text(text) => parse_tags(&text)?,
    };
    let mut data = Vec::new();
    for entity in source.quarantine() {
        let Some(kind) = call.dao().registry().kind(&entity.kind) else { continue };
        let id = entity.id.to_string();
        // It may have been deleted meanwhile, or be one of another workspace.
        let tags = match call.dao().select(&call.tenant, kind, Selector::Id(&id)).await {
            Ok(Some(fields)) => fields.get("tags").cloned().unwrap_or(Value::Null),
            Ok(None) => continue,
            // It cannot be read, so it is not known which workspace it is in.
            Err(fault) if fault.is_damage() && &*call.tenant.workspace == DEFAULT_WORKSPACE => Value::Null,
            Err(fault) if fault.is_damage() => continue,
            Err(fault) => return Err(fault),
        };
        if has_tags(&tags, &filter) {
            data.push(shown(&entity, &tags));
        }
    }
    paged(call, data, "/cardinal/v1/quarantine", &further(call))
}

fn shown(entity: &Quarantined, tags: &Value) -> Value {
    let since = time_text(i64::try_from(entity.since.0).unwrap_or(i64::MAX));
    json!({ "kind": &*entity.kind, "id": entity.id.to_string(), "name": entity.name, "tags": tags,
        "reason": entity.reason, "hint": entity.hint, "since": since, "revision": entity.revision })
}

fn has_tags(tags: &Value, filter: &TagFilter) -> bool {
    let has = |wanted: &std::sync::Arc<str>| {
        tags.as_array().into_iter().flatten().filter_map(Value::as_str).any(|own| *own == **wanted)
    };
    match filter {
        TagFilter::None => true,
        TagFilter::All(wanted) => wanted.iter().all(has),
        TagFilter::Any(wanted) => wanted.iter().any(has),
    }
}
