//! The configuration of `jwt`.

use cardinal_schema::{Schema, boolean, conditional, field, number, record, rules, set, string, typedefs};
use serde_json::json;

pub(super) fn config() -> Schema {
    record([
        field(
            "uri_param_names",
            set(string()).default(json!(["jwt"])).describe("Query arguments that may contain the token."),
        ),
        field("cookie_names", set(string()).default(json!([])).describe("Cookies that may contain the token.")),
        field(
            "key_claim_name",
            string().default("iss").describe(
                "The claim that names the credential's `key`. It is read from the payload, else from the token's \
                 header. With `jwks_uri` it may also name the consumer itself.",
            ),
        ),
        field(
            "secret_is_base64",
            boolean().required().default(false).describe(
                "The secrets of credentials are written in base64; tokens are signed with what they decode to.",
            ),
        ),
        field(
            "claims_to_verify",
            set(string().one_of(["exp", "nbf"])).describe(
                "Registered claims that a token must have and that must hold: `exp` (not expired), `nbf` (already \
                 valid).",
            ),
        ),
        field(
            "anonymous",
            string().describe(
                "Id or username of the consumer that requests without a valid token are handled as. Without it they \
                 are rejected.",
            ),
        ),
        field(
            "run_on_preflight",
            boolean()
                .required()
                .default(true)
                .describe("Authenticate `OPTIONS` requests, too. If off, they always pass."),
        ),
        field(
            "maximum_expiration",
            number().default(0).between(0, 31_536_000).describe(
                "Most seconds that `exp` may lie in the future; 0 is any number. Needs `exp` in `claims_to_verify`.",
            ),
        ),
        field(
            "header_names",
            set(string())
                .default(json!(["authorization"]))
                .describe("Headers that may contain the token, as `Bearer <token>`."),
        ),
        field("realm", string().describe("The realm in the `WWW-Authenticate` header of rejected requests.")),
        field(
            "jwks_uri",
            typedefs::url().match_any(["^https?://"], "expected an http or https URL").addition().describe(
                "URL of an identity provider's JSON Web Key Set. A token whose key claim names \
                 no credential is then verified with the key that its `kid` names, and authenticates the consumer \
                 whose custom id, else username, the key claim is. Not in Kong.",
            ),
        ),
        field(
            "jwks_cache_ttl",
            number().default(300).between(1, 86_400).describe(
                "Seconds after which the key set of `jwks_uri` is fetched anew. The old one is used meanwhile, and \
                 for at most one hour more while fetching fails. Not in Kong.",
            ),
        ),
    ])
    .outer_check(conditional(
        "config.maximum_expiration",
        rules().gt(0),
        "config.claims_to_verify",
        rules().contains("exp"),
    ))
}
