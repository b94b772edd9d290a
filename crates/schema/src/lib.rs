//! One description of a configuration type: parsing, defaults, errors, Kong /schemas form, JSON Schema.
