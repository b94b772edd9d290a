//! One description of a configuration type: parsing, defaults, errors, Kong `/schemas` form, JSON Schema, docs.
//!
//! A [`Schema`] describes a record (a plugin's `config`, an entity). It is built from [`field`]s whose types come from
//! the functions of [`build`] or the ready-made ones of [`typedefs`]. [`Schema::process`] turns what a user wrote into
//! a complete value, or into the same [`Errors`] tree, with the same texts, as Kong's schema engine
//! (`kong/db/schema/init.lua`) gives.
//!
//! *Must not know*: which entities or plugins there are, files, sockets, the clock.
//!
//! Start at [`record`]:
//!
//! ```
//! use cardinal_schema::{at_least_one_of, boolean, field, number, record, string};
//! use serde_json::json;
//!
//! let schema = record([
//!     field("minute", number().gt(0).describe("Requests a minute.")),
//!     field("limit_by", string().one_of(["consumer", "ip"]).default("consumer")),
//!     field("hide_client_headers", boolean().required().default(false)),
//! ])
//! .check(at_least_one_of(["minute"]));
//!
//! let value = schema.process(&json!({"minute": 5}), &Default::default()).unwrap();
//! assert_eq!(value, json!({"minute": 5, "limit_by": "consumer", "hide_client_headers": false}));
//! ```

#![warn(missing_docs)]

pub mod build;
mod check;
mod docs;
mod errors;
mod field;
mod forms;
mod json_schema;
mod process;
mod record;
mod rules;
mod shorthand;
mod suggest;
pub mod typedefs;
mod validate;

pub use build::{any, array, boolean, field, foreign, integer, json, map, number, record, set, shorthand, string};
pub use check::{
    Check, CheckFailure, Conditional, ConditionalAtLeastOneOf, all_or_none, at_least_one_of, conditional,
    conditional_at_least_one_of, custom, distinct, exactly_one_of, mutually_exclusive, mutually_exclusive_sets,
};
pub use docs::DocRow;
pub use errors::{Errors, Step};
pub use field::{Field, Kind, Named};
pub use json_schema::{JsonForm, TTL_MAX, View};
pub use process::{Auto, Options};
pub use record::Schema;
pub use rules::{Pattern, Rules, Validator, rules};
pub use shorthand::{Deprecation, Shorthand};
pub use suggest::suggest;
pub use validate::is_reference;

#[cfg(test)]
mod tests;
