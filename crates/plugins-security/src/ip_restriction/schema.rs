//! The configuration of `ip-restriction`.

use cardinal_schema::{Schema, array, at_least_one_of, field, number, record, string, typedefs};

pub(super) fn config() -> Schema {
    record([
        field(
            "allow",
            array(typedefs::ip_or_cidr()).describe(
                "Addresses and networks (`10.0.0.0/8`) that are allowed; all others are rejected. At least this or \
                 `deny` must be given.",
            ),
        ),
        field(
            "deny",
            array(typedefs::ip_or_cidr()).describe(
                "Addresses and networks that are rejected, even if `allow` has them. At least this or `allow` must be \
                 given.",
            ),
        ),
        field("status", number().describe("The status of rejected requests, 200 to 599; 403 by default.")),
        field(
            "message",
            string().describe("The message of rejected requests. By default it names the client's address."),
        ),
    ])
    .outer_check(at_least_one_of(["config.allow", "config.deny"]))
}
