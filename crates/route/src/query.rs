//! Parameters of a query, for conditions and predicates.

use std::ops::ControlFlow;

use cardinal_http::query::decoded;

/// Parameters of a query that are read; Kong's `lua_max_uri_args`.
const PARAMETERS_MAX: usize = 100;

/// Shows `visit` each value of a parameter, decoded, until it breaks off. One without `=` has an empty value.
pub(crate) fn each(query: &[u8], name: &str, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) {
    for parameter in query.split(|byte| *byte == b'&').filter(|part| !part.is_empty()).take(PARAMETERS_MAX) {
        let (key, value) = match memchr::memchr(b'=', parameter) {
            Some(at) => (parameter.get(..at).unwrap_or_default(), parameter.get(at + 1..).unwrap_or_default()),
            None => (parameter, &b""[..]),
        };
        if *decoded(key) == *name.as_bytes() && visit(&decoded(value)).is_break() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_parameter() {
        let values = |query: &str, name: &str| {
            let mut all = Vec::new();
            each(query.as_bytes(), name, &mut |value| {
                all.push(String::from_utf8(value.to_vec()).unwrap());
                ControlFlow::Continue(())
            });
            all
        };
        assert_eq!(values("a=1&b=2&a=%33+x", "a"), ["1", "3 x"]);
        assert_eq!(values("a&=1", "a"), [""]);
        assert_eq!(values("a%20b=1&a+b=2", "a b"), ["1", "2"]);
        assert!(values("", "a").is_empty());
        let many = "b=1&".repeat(PARAMETERS_MAX - 1);
        assert_eq!(values(&format!("{many}a=1&a=2"), "a"), ["1"]);
    }
}
