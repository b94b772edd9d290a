//! The configuration of `file-log`.

use cardinal_schema::{Schema, boolean, field, record, string, typedefs};

pub(super) fn config() -> Schema {
    record([
        field(
            "path",
            string()
                .required()
                .matches(r"(?s)^[^\s*&%`][^*&%`]*[^\s*&%`]$")
                .message("not a valid filename")
                .describe("The file. It is created if it does not exist; lines are appended."),
        ),
        field(
            "reopen",
            boolean()
                .required()
                .default(false)
                .describe("Reopen the file for each batch of lines, so that it can be rotated."),
        ),
        field(
            "custom_fields_by_lua",
            typedefs::lua_code().describe(
                "Fields of the record by dotted path, each with a Lua chunk that returns an expression; nil removes the \
                 field.",
            ),
        ),
    ])
    // Any protocol may be named, as in Kong; the default is what it is used for.
    .outer_field("protocols", typedefs::protocols())
}
