//! The configuration of `ip-restriction`.

use cardinal_schema::{Schema, array, at_least_one_of, field, number, record, string, typedefs};

pub(super) fn config() -> Schema {
    record([
        field(
            "allow",
            array(typedefs::ip_or_cidr()).describe(
                "Addresses and networks (`10.0.0.0/8`) that may come; nobody else may. At least this or `deny` must \
                 be given.",
            ),
        ),
        field(
            "deny",
            array(typedefs::ip_or_cidr()).describe(
                "Addresses and networks that may not come, even where `allow` has them. At least this or `allow` must \
                 be given.",
            ),
        ),
        field("status", number().describe("The status of refusals, 200 to 599; 403 when left out.")),
        field("message", string().describe("The message of refusals. When left out it names the client's address.")),
    ])
    .outer_check(at_least_one_of(["config.allow", "config.deny"]))
}
