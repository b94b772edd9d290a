//! The configuration of `acl`.

use cardinal_schema::{Schema, array, at_least_one_of, boolean, exactly_one_of, field, record, string};

pub(super) fn config() -> Schema {
    record([
        field(
            "allow",
            array(string()).describe(
                "Groups whose members are allowed; all others are rejected. Either this or `deny` must be given, not \
                 both.",
            ),
        ),
        field(
            "deny",
            array(string()).describe(
                "Groups whose members are rejected; all others are allowed. Either this or `allow` must be given, not \
                 both.",
            ),
        ),
        field(
            "hide_groups_header",
            boolean().required().default(false).describe(
                "Do not send the groups to the upstream service in `X-Consumer-Groups` (or `X-Authenticated-Groups`).",
            ),
        ),
        field(
            "always_use_authenticated_groups",
            boolean().required().default(false).describe(
                "Use the groups that an authentication plugin has set even if a consumer is authenticated. Otherwise such \
                 groups count only without a consumer, or for the anonymous one.",
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
