//! Transforming a response.

use std::sync::Arc;

use cardinal_http::{HeaderList, Name, split_list};
use cardinal_sdk::{BodyCx, BodyMode, BuildCx, BuildError, Chunk, Filter, FilterStep, Phases, ResponseCx};
use serde_json::Value;

use super::body::JsonOps;
use crate::pairs::{split, texts};

/// Longest body that is transformed.
const BODY_MAX: u64 = 64 << 20;

struct ResponseTransformer {
    remove: Vec<Box<str>>,
    rename: Vec<Pair>,
    replace: Vec<Pair>,
    add: Vec<Pair>,
    append: Vec<Pair>,
    json: JsonOps,
}

/// Name and value, or old and new name.
type Pair = (Box<str>, Box<str>);

/// The body is to be transformed.
struct Transform;

pub(super) fn build(config: &Value, _cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    // A pair without a value does nothing.
    let pairs = |group: &str| -> Vec<Pair> {
        let all = texts(config, group, "headers").map(split);
        all.filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.into(), value.into())).collect()
    };
    Ok(Arc::new(ResponseTransformer {
        remove: texts(config, "remove", "headers").map(Into::into).collect(),
        rename: pairs("rename"),
        replace: pairs("replace"),
        add: pairs("add"),
        append: pairs("append"),
        json: JsonOps::read(config),
    }))
}

impl Filter for ResponseTransformer {
    fn phases(&self) -> Phases {
        if self.json.is_empty() { Phases::RESPONSE } else { Phases::RESPONSE.and(Phases::RESPONSE_BODY) }
    }

    fn on_response_head<'a>(&'a self, cx: &'a mut ResponseCx<'_>) -> FilterStep<'a> {
        let is_json = is_json(&cx.response.headers);
        self.edit_headers(&mut cx.response.headers);
        if is_json && !self.json.is_empty() {
            cx.response.headers.remove_known(Name::ContentLength);
            cx.set_state(Transform);
            cx.want_body(BodyMode::Whole(BODY_MAX));
        }
        FilterStep::Continue
    }

    fn on_response_body(&self, cx: &mut BodyCx<'_>, chunk: &mut Chunk) {
        if cx.state::<Transform>().is_none() || chunk.data.is_empty() {
            return;
        }
        match self.json.apply(&chunk.data) {
            Ok(body) => chunk.data = body.into(),
            Err(reason) => tracing::warn!(reason, "response-transformer: body transform failed"),
        }
    }
}

impl ResponseTransformer {
    /// The presence of a header is checked in the original response, as in Kong: one that is removed or renamed is
    /// not added again.
    fn edit_headers(&self, headers: &mut HeaderList) {
        let was_there =
            |names: &[Pair]| -> Vec<bool> { names.iter().map(|(name, _)| headers.contains(name.as_bytes())).collect() };
        let (replaced, added) = (was_there(&self.replace), was_there(&self.add));
        for name in &self.remove {
            headers.remove(name.as_bytes());
        }
        for (old, new) in &self.rename {
            if headers.contains(old.as_bytes()) {
                if !old.eq_ignore_ascii_case(new) {
                    headers.remove(new.as_bytes());
                }
                headers.rename(old.as_bytes(), new.as_bytes());
            }
        }
        for ((name, value), _) in self.replace.iter().zip(replaced).filter(|(_, there)| *there) {
            headers.set(name.as_bytes(), value.as_bytes());
        }
        for ((name, value), _) in self.add.iter().zip(added).filter(|(_, there)| !*there) {
            headers.set(name.as_bytes(), value.as_bytes());
        }
        for (name, value) in &self.append {
            headers.append(name.as_bytes(), value.as_bytes());
        }
    }
}

/// `application/json`, also as the suffix of a subtype (`application/problem+json`).
fn is_json(headers: &HeaderList) -> bool {
    headers.known(Name::ContentType).is_some_and(|types| {
        split_list(types).any(|media| {
            let essence = media.split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
            essence.strip_prefix(b"application/").is_some_and(|sub| sub == b"json" || sub.ends_with(b"+json"))
        })
    })
}
