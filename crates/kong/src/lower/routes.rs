//! Routes, to records with rank and condition.

use std::sync::Arc;

use cardinal_ir::{
    Code, Criteria, Field, Id, Literal, Matches, Op, PathHandling, PathMatch, Predicate, Rank, Require, Rewrite, Route,
    Table, TextMatch, TlsRequired, Traffic, Wire,
};
use serde_json::Value;

use super::Lowering;
use crate::declarative::Entity;
use crate::pcre::{self, PcreError};
use crate::rank::{self, Flavor, Peer, RouteFields, Standing};
use crate::settings::{RouterFlavor, Settings};

const STREAM: [&str; 4] = ["tcp", "tls", "udp", "tls_passthrough"];

impl Lowering<'_> {
    pub(super) fn routes(&mut self) {
        let mut records = Vec::new();
        self.each("routes", |lowering, entity| lowering.route(entity, &mut records));
        self.ir.routes = Table::from_shared(records);
    }

    pub(super) fn route(&mut self, entity: &Entity, out: &mut Vec<(Id, Arc<Route>)>) {
        let service = entity.reference("service");
        let backend = service.filter(|id| self.ir.backends.contains(id));
        if let (Some(service), None) = (service, backend) {
            if self.snapshot.get("services", &service).is_some_and(|service| !service.flag("enabled")) {
                return;
            }
            // The route keeps its place: its requests must not go to a route that is less particular.
            let message = "its service cannot be used: the route answers 503";
            self.refuse("routes", entity, Code::Reference, "service", message);
        }
        let protocols: Vec<String> = entity.texts("protocols").map(str::to_owned).collect();
        let is_stream = protocols.iter().any(|p| STREAM.contains(&p.as_str()));
        let traffic = if is_stream { Traffic::Stream } else { Traffic::Http };
        let parts = match entity.text("expression") {
            Some(text) => match by_expression(entity, text, traffic, &protocols) {
                Ok(part) => vec![part],
                Err(message) => {
                    self.refuse("routes", entity, Code::Pattern, "expression", message);
                    return;
                }
            },
            None => match by_fields(entity, self.settings, traffic, &protocols) {
                Ok(parts) => parts,
                Err((path, error)) => {
                    let message = format!("the regular expression cannot be used: {error}");
                    self.refuse("routes", entity, Code::Pattern, &path, message);
                    return;
                }
            },
        };
        if entity.text("path_handling") == Some("v1") && self.settings.router_flavor != RouterFlavor::Traditional {
            let message =
                "v1 is honoured by the router flavor 'traditional' only, as in Kong; the route is served as v0";
            self.warn("routes", entity, Code::Unsupported, "path_handling", message);
        }
        let workspace = entity.workspace();
        for (id, matches, rank) in parts {
            let mut route = Route {
                origin: self.memory.origins.origin("routes", entity),
                group: workspace,
                of_tenant: workspace.is_some(),
                rank,
                traffic,
                matches,
                action: backend.into(),
                rewrite: self.rewrite(entity),
                require: require(entity, &protocols),
                request_buffering: entity.flag("request_buffering"),
                response_buffering: entity.flag("response_buffering"),
                policies: None,
                document: self.memory.no_document.clone(),
            };
            route.document = self.memory.documents.of("routes", entity, &route);
            out.push((id, Arc::new(route)));
        }
    }

    fn rewrite(&self, entity: &Entity) -> Rewrite {
        let honoured = self.settings.router_flavor == RouterFlavor::Traditional;
        let v1 = honoured && entity.text("path_handling") == Some("v1");
        Rewrite {
            strip_path: entity.flag("strip_path"),
            path_handling: if v1 { PathHandling::V1 } else { PathHandling::V0 },
            preserve_host: entity.flag("preserve_host"),
        }
    }
}

type Part = (Id, Matches, Rank);

impl From<RouterFlavor> for Flavor {
    fn from(flavor: RouterFlavor) -> Self {
        match flavor {
            RouterFlavor::Traditional => Self::Traditional,
            RouterFlavor::TraditionalCompatible => Self::TraditionalCompatible,
            RouterFlavor::Expressions => Self::Expressions,
        }
    }
}

fn by_expression(entity: &Entity, text: &str, traffic: Traffic, protocols: &[String]) -> Result<Part, String> {
    let predicate = cardinal_route::expression::parse_for(text, traffic).map_err(|e| e.to_string())?;
    let wires = rank::wires(protocols);
    let predicate = if wires.is_empty() {
        predicate
    } else {
        let any = wires.iter().map(|wire| is_wire(*wire)).collect();
        Predicate::All(vec![Predicate::Any(any), predicate])
    };
    let priority = entity.int("priority").and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    Ok((entity.id, Matches::Predicate(predicate), rank::expression_rank(priority, entity.id)))
}

fn is_wire(wire: Wire) -> Predicate {
    let value = Literal::Text(wire.as_str().into());
    Predicate::Compare { field: Field::Protocol, lower: false, any: false, op: Op::Equal, value }
}

fn by_fields(
    entity: &Entity,
    settings: &Settings,
    traffic: Traffic,
    protocols: &[String],
) -> Result<Vec<Part>, (String, PcreError)> {
    let flavor = settings.router_flavor.into();
    let fields = fields(entity, protocols);
    let parts = rank::split_and_rank(flavor, settings.router_order, &fields).into_iter();
    parts
        .map(|(id, mut conditions, rank)| {
            if traffic == Traffic::Stream {
                stream_wires(&mut conditions, protocols);
            }
            if flavor == Flavor::Traditional {
                translate_patterns(&mut conditions, &fields)?;
            }
            Ok((id, conditions.into(), rank))
        })
        .collect()
}

/// Patterns of PCRE in our syntax; where that fails, the field.
fn translate_patterns(conditions: &mut Criteria, fields: &RouteFields) -> Result<(), (String, PcreError)> {
    for path in &mut conditions.paths {
        let PathMatch::Regex(pattern) = path else { continue };
        let at = || fields.paths.iter().position(|path| path.strip_prefix('~') == Some(&**pattern)).unwrap_or(0);
        let translated = pcre::translate(pattern).map_err(|error| (format!("paths[{}]", at()), error))?;
        *pattern = translated.into();
    }
    for header in &mut conditions.headers {
        for value in &mut header.any_of {
            let TextMatch::Regex(pattern) = value else { continue };
            let translated = pcre::translate(pattern).map_err(|error| (format!("headers.{}", header.name), error))?;
            *pattern = translated.into();
        }
    }
    Ok(())
}

/// A record that a route becomes, as far as its order among others goes.
pub(crate) struct RoutePart {
    pub(crate) id: Id,
    pub(crate) matches: Matches,
    pub(crate) rank: Rank,
    pub(crate) traffic: Traffic,
    pub(crate) standing: Standing,
}

/// The records that a route becomes; `None` where it cannot be lowered.
pub(crate) fn route_parts(entity: &Entity, settings: &Settings) -> Option<Vec<RoutePart>> {
    let protocols: Vec<String> = entity.texts("protocols").map(str::to_owned).collect();
    let is_stream = protocols.iter().any(|p| STREAM.contains(&p.as_str()));
    let traffic = if is_stream { Traffic::Stream } else { Traffic::Http };
    if let Some(text) = entity.text("expression") {
        let (id, matches, rank) = by_expression(entity, text, traffic, &protocols).ok()?;
        return Some(vec![RoutePart { id, matches, rank, traffic, standing: Standing::Expression }]);
    }
    let fields = fields(entity, &protocols);
    let parts = rank::split_and_rank(settings.router_flavor.into(), settings.router_order, &fields);
    let part = |(id, conditions, rank): (Id, Criteria, Rank)| {
        let standing = Standing::of(&fields, &conditions);
        RoutePart { id, matches: conditions.into(), rank, traffic, standing }
    };
    Some(parts.into_iter().map(part).collect())
}

/// The ids of the records that a route with fields becomes.
pub(super) fn part_ids(entity: &Entity, settings: &Settings) -> Vec<Id> {
    if entity.text("expression").is_some() {
        return vec![entity.id];
    }
    let protocols: Vec<String> = entity.texts("protocols").map(str::to_owned).collect();
    let fields = fields(entity, &protocols);
    let parts = rank::split_and_rank(settings.router_flavor.into(), settings.router_order, &fields);
    parts.into_iter().map(|(id, ..)| id).collect()
}

/// The listener's kind gives the protocol of a connection: datagrams, bytes (also from terminated TLS), passed-through
/// TLS.
fn stream_wires(conditions: &mut Criteria, protocols: &[String]) {
    if !conditions.wires.is_empty() {
        return;
    }
    let mut add = |wire: Wire| {
        if !conditions.wires.contains(&wire) {
            conditions.wires.push(wire);
        }
    };
    for protocol in protocols {
        match protocol.as_str() {
            "udp" => add(Wire::Udp),
            "tls_passthrough" => add(Wire::TlsPassthrough),
            _ => {
                add(Wire::Tcp);
                add(Wire::Tls);
            }
        }
    }
}

fn fields(entity: &Entity, protocols: &[String]) -> RouteFields {
    let texts = |name: &str| -> Vec<String> { entity.texts(name).map(str::to_owned).collect() };
    let headers = entity.get("headers").and_then(Value::as_object).into_iter().flatten();
    let mut headers: Vec<(String, Vec<String>)> = headers
        .map(|(name, values)| {
            let values = values.as_array().into_iter().flatten().filter_map(Value::as_str);
            (name.clone(), values.map(str::to_owned).collect())
        })
        .collect();
    headers.sort();
    RouteFields {
        id: entity.id,
        protocols: protocols.to_vec(),
        methods: texts("methods"),
        hosts: texts("hosts"),
        paths: texts("paths"),
        headers,
        snis: texts("snis"),
        sources: peers(entity, "sources"),
        destinations: peers(entity, "destinations"),
        regex_priority: entity.int("regex_priority").unwrap_or(0),
        created_at: entity.int("created_at").unwrap_or(0),
    }
}

fn peers(entity: &Entity, name: &str) -> Vec<Peer> {
    let list = entity.get(name).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|peer| {
        let port = peer["port"].as_u64().and_then(|n| u16::try_from(n).ok());
        Peer::new(peer["ip"].as_str(), port)
    })
    .collect()
}

fn require(entity: &Entity, protocols: &[String]) -> Require {
    let has = |name: &str| protocols.iter().any(|p| p == name);
    let only_tls = (has("https") && !has("http")) || (has("grpcs") && !has("grpc"));
    let status = entity.int("https_redirect_status_code").and_then(|n| u16::try_from(n).ok());
    let tls = only_tls.then(|| status.and_then(TlsRequired::of).unwrap_or_default());
    Require { tls, grpc: has("grpc") || has("grpcs") }
}
