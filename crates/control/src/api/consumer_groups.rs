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
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    from: From,
    /// Whether the path names one of them.
    is_one: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Group,
    Consumer,
}

/// The paths.
pub(super) const PATHS: [(&str, Path); 4] = [
    ("/consumer_groups/{consumer_groups}/consumers", Path { from: From::Group, is_one: false }),
    ("/consumer_groups/{consumer_groups}/consumers/{consumers}", Path { from: From::Group, is_one: true }),
    ("/consumers/{consumers}/consumer_groups", Path { from: From::Consumer, is_one: false }),
    ("/consumers/{consumers}/consumer_groups/{consumer_groups}", Path { from: From::Consumer, is_one: true }),
];

/// Consumers, or groups, of one request at most.
const MEMBERS_MAX: usize = 1_000;

impl Path {
    pub(super) fn methods(self) -> &'static [&'static str] {
        if self.is_one { &["GET", "DELETE"] } else { &["GET", "POST", "DELETE"] }
    }

    /// Whether the path is below a group, and whether it names one member.
    pub(super) fn shape(self) -> (bool, bool) {
        (self.from == From::Group, self.is_one)
    }

    pub(super) async fn answer(self, call: &Call<'_>, names: &[&str], method: &str) -> Result<Response, Fault> {
        let [name, rest @ ..] = names else { return Err(Fault::not_found()) };
        let registry = call.dao().registry();
        let (Some(groups), Some(consumers)) = (registry.kind("consumer_groups"), registry.kind("consumers")) else {
            return Err(Fault::not_found());
        };
        let (own, others) = if self.from == From::Group { (groups, consumers) } else { (consumers, groups) };
        let entity = call.selected(own, name).await?.ok_or_else(Fault::not_found)?;
        if method != "GET" && call.admin.declarative.is_some() {
            return Err(Fault::read_only("update", "consumer_groups", None));
        }
        let [other] = rest else {
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

    async fn members(self, call: &Call<'_>, entity: &Fields, others: &Kind) -> Result<Vec<Fields>, Fault> {
        let mut out = Vec::new();
        for id in call.dao().memberships(self.from == From::Group, id_of(entity)).await? {
            if call.tenant.allows(&id, Action::Read) {
                out.extend(call.dao().select(&call.tenant, others, Selector::Id(&id)).await?);
            }
        }
        Ok(out)
    }

    async fn list(self, call: &Call<'_>, entity: &Fields, others: &Kind) -> Result<Response, Fault> {
        let members = self.members(call, entity, others).await?;
        let name = if self.from == From::Group { "consumers" } else { "consumer_groups" };
        Ok(Response::ok(json!({ name: members, "data": members, "next": null })))
    }

    async fn add(self, call: &Call<'_>, entity: &Fields, others: &Kind) -> Result<Response, Fault> {
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

    async fn set(self, call: &Call<'_>, entity: &Fields, other: &Fields, is_member: bool) -> Result<(), Fault> {
        let (group, consumer) = if self.from == From::Group { (entity, other) } else { (other, entity) };
        call.dao().set_membership(&call.tenant, id_of(group), id_of(consumer), is_member).await
    }
}
