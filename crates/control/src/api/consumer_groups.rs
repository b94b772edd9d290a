//! Members of consumer groups: `/consumer_groups/{g}/consumers` and `/consumers/{c}/consumer_groups`, as Kong Enterprise
//! has them.

use cardinal_kong::entities::Kind;
use serde_json::{Value, json};

use super::body::{self, Body};
use super::call::Call;
use super::entities::id_of;
use super::message::Response;
use crate::dao::{Fault, Fields, Selector};
use crate::permissions::Action;

/// A path to members, or to the groups of a consumer.
#[derive(Debug)]
pub(super) struct Path<'p> {
    from: From,
    name: &'p str,
    other: Option<&'p str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Group,
    Consumer,
}

/// Consumers, or groups, of one request at most.
const MEMBERS_MAX: usize = 1_000;

pub(super) fn find<'p>(parts: &[&'p str]) -> Option<Path<'p>> {
    let (from, name, other) = match *parts {
        ["consumer_groups", name, "consumers"] => (From::Group, name, None),
        ["consumer_groups", name, "consumers", other] => (From::Group, name, Some(other)),
        ["consumers", name, "consumer_groups"] => (From::Consumer, name, None),
        ["consumers", name, "consumer_groups", other] => (From::Consumer, name, Some(other)),
        _ => return None,
    };
    Some(Path { from, name, other })
}

impl Path<'_> {
    pub(super) fn methods(&self) -> &'static [&'static str] {
        match self.other {
            None => &["GET", "POST", "DELETE"],
            Some(_) => &["GET", "DELETE"],
        }
    }

    pub(super) async fn answer(&self, call: &Call<'_>, method: &str) -> Result<Response, Fault> {
        let registry = call.dao().registry();
        let (Some(groups), Some(consumers)) = (registry.kind("consumer_groups"), registry.kind("consumers")) else {
            return Err(Fault::not_found());
        };
        let (own, others) = if self.from == From::Group { (groups, consumers) } else { (consumers, groups) };
        let entity = call.selected(own, self.name).await?.ok_or_else(Fault::not_found)?;
        if method != "GET" && call.admin.declarative.is_some() {
            return Err(Fault::read_only("update", "consumer_groups", None));
        }
        let Some(other) = self.other else {
            return match method {
                "GET" => self.list(call, &entity, others).await,
                "POST" => self.add(call, &entity, others).await,
                _ => {
                    for other in self.members(call, &entity, others).await? {
                        self.set(call, &entity, &other, false).await?;
                    }
                    Ok(Response::no_content())
                }
            };
        };
        let other = call.selected(others, other).await?.ok_or_else(Fault::not_found)?;
        let is_member = self.members(call, &entity, others).await?.iter().any(|member| id_of(member) == id_of(&other));
        if !is_member {
            return Err(Fault::not_found());
        }
        if method == "DELETE" {
            self.set(call, &entity, &other, false).await?;
            return Ok(Response::no_content());
        }
        let (group, consumer) = if self.from == From::Group { (&entity, &other) } else { (&other, &entity) };
        Ok(Response::ok(json!({ "consumer_group": group, "consumer": consumer })))
    }

    async fn members(&self, call: &Call<'_>, entity: &Fields, others: &Kind) -> Result<Vec<Fields>, Fault> {
        let mut out = Vec::new();
        for id in call.dao().memberships(self.from == From::Group, id_of(entity)).await? {
            if call.tenant.allows(&id, Action::Read) {
                out.extend(call.dao().select(&call.tenant, others, Selector::Id(&id)).await?);
            }
        }
        Ok(out)
    }

    async fn list(&self, call: &Call<'_>, entity: &Fields, others: &Kind) -> Result<Response, Fault> {
        let members = self.members(call, entity, others).await?;
        let name = if self.from == From::Group { "consumers" } else { "consumer_groups" };
        Ok(Response::ok(json!({ name: members, "data": members, "next": null })))
    }

    async fn add(&self, call: &Call<'_>, entity: &Fields, others: &Kind) -> Result<Response, Fault> {
        let field = if self.from == From::Group { "consumer" } else { "group" };
        let (Body::Json(mut given) | Body::Form(mut given)) = body::read(call.request)?;
        let names = match given.remove(field) {
            Some(Value::Array(names)) => names,
            Some(name) => vec![name],
            None => return Err(Fault::message(400, &format!("must provide {field}"))),
        };
        if names.len() > MEMBERS_MAX {
            return Err(Fault::message(400, "Too many arguments"));
        }
        let mut found = Vec::new();
        for name in &names {
            let name = name.as_str().or_else(|| name.get("id")?.as_str());
            let name = name.ok_or_else(|| Fault::message(400, &format!("{field} must be a name or an id")))?;
            let message = || Fault::message(404, &format!("{field} not found for {name}"));
            found.push(call.selected(others, name).await?.ok_or_else(message)?);
        }
        for other in &found {
            self.set(call, entity, other, true).await?;
        }
        Ok(Response::created(match self.from {
            From::Group => json!({ "consumer_group": entity, "consumers": found }),
            From::Consumer => json!({ "consumer": entity, "consumer_groups": found }),
        }))
    }

    async fn set(&self, call: &Call<'_>, entity: &Fields, other: &Fields, is_member: bool) -> Result<(), Fault> {
        let (group, consumer) = if self.from == From::Group { (entity, other) } else { (other, entity) };
        call.dao().set_membership(&call.tenant, id_of(group), id_of(consumer), is_member).await
    }
}
