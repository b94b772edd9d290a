//! The configuration of `acl`.

use cardinal_schema::{Schema, array, at_least_one_of, boolean, exactly_one_of, field, record, string};

pub(super) fn config() -> Schema {
    record([
        field(
            "allow",
            array(string()).describe(
                "Groups whose members are allowed; all others are rejected. Either this or `deny` must be given, not both.",
            ),
        ),
        field(
            "deny",
            array(string()).describe(
                "Groups whose members may not pass; everybody else may. Either this or `allow` must be given, not both.",
            ),
        ),
        field(
            "hide_groups_header",
            boolean().required().default(false).describe(
                "Do not tell the upstream service the groups in `X-Consumer-Groups` (or `X-Authenticated-Groups`).",
            ),
        ),
        field(
            "always_use_authenticated_groups",
            boolean().required().default(false).describe(
                "Go by the groups that an authentication plugin vouches for also when the consumer proved who it is. \
                 Otherwise such groups count only without a consumer, or for the anonymous one.",
            ),
        ),
        field(
            "include_consumer_groups",
            boolean().addition().describe(
                "The consumer groups that the consumer is in count as well (Kong Enterprise). They come after its own \
                 groups in `X-Consumer-Groups`.",
            ),
        ),
    ])
    .outer_check(exactly_one_of(["config.allow", "config.deny"]))
    .outer_check(at_least_one_of(["config.allow", "config.deny"]))
}
