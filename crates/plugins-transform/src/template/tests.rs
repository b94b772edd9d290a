use cardinal_http::HeaderList;
use cardinal_sdk::Captures;

use super::{Environment, Template};

fn render(text: &str) -> String {
    let headers: HeaderList =
        [("Host", "example.com"), ("X-User-Id", "7"), ("x_raw", "r"), ("X-Two", "a"), ("X-Two", "b")]
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
    let captures = Captures {
        numbered: vec![Some("/a/b".into()), Some("b".into()), None],
        named: vec![("user".into(), "ann".into())],
    };
    let environment = Environment { headers: &headers, query: Some(b"q=1%202&flag&q=3"), captures: &captures };
    let template = Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    template.render(&environment).map_or_else(|error| error, |text| String::from_utf8(text).unwrap())
}

#[test]
fn expressions_come_to_values_of_the_request() {
    let check = |text: &str, expect: &str| assert_eq!(render(text), expect, "{text}");
    check("plain $ text (here)", "plain $ text (here)");
    check("$(headers.host)", "example.com");
    check("id-$(headers.x_user_id)-$( headers[\"X-User-ID\"] )!", "id-7-7!");
    check("$(headers.x_raw)", "r");
    check("$(headers['x-two'])", "a");
    check("$(headers.absent)", "");
    check("$(query_params.q)|$(query_params.flag)|$(query_params['none'])", "1 2|true|");
    check("$(uri_captures.user)$(uri_captures[1])$(uri_captures['0'])$(uri_captures[2])", "annb/a/b");
    check("$(shared.any.thing or 'none')", "none");
    check("$(headers.absent or query_params.q or \"x\")", "1 2");
    check("$(headers.absent or nil or 5)", "5");
    check("$(headers.host and 'yes' or 'no')", "yes");
    check("$(headers.absent and 'yes' or 'no')", "no");
    check("$('a' .. (headers.absent or 'b') .. \")\\\"\")", "ab)\"");
    check("$(false)$(true)", "true");
    check("$(headers.host == 'example.com' and 'yes' or 'no')", "yes");
    check("$(headers.x_user_id ~= '7' and 'other')", "");
    check("$(headers.host:sub(1, 7):upper())!", "EXAMPLE!");
    check("$(headers.host:gsub('%.com$', '.org'))", "example.org");
    check("$((query_params.q or ''):match('^%d'))", "1");
    check("$(not headers.absent and tonumber(headers.x_user_id) < 10 and #headers.host)", "11");
    check("$(uri_captures[1] == 'b' and uri_captures['user']:len())", "3");
    check("$(headers.order)", "");
}

#[test]
fn what_cannot_be_evaluated_is_an_error() {
    let check = |text: &str, expect: &str| {
        let found = render(text);
        assert!(found.starts_with("cannot evaluate the template: "), "{text}: {found}");
        assert!(found.ends_with(expect), "{found}");
    };
    check("a$(headers.absent:sub(1))", "attempt to call method 'sub' on a nil value");
    check("$('a' .. headers.absent)", "attempt to concatenate a nil value");
    check("$(query_params.flag:lower())", "attempt to call method 'lower' on a boolean value");
    check("$(('x'):rep(1e9))", "resulting string too large");
}

#[test]
fn other_lua_is_refused_with_the_reason() {
    let check = |text: &str, expect: &str| {
        let error = Template::parse(text).unwrap_err();
        assert!(error.contains(expect), "{text}: {error}");
        assert!(error.contains("other Lua code does not run here"), "{error}");
    };
    check("$(os.time())", "'os.time' is not known");
    check("$(headers.a:format())", "method 'format' is not supported");
    check("$(function() return 1 end)", "'function' is not supported");
    check("$(headers)", "a key must follow");
    check("$(headers.a", "')' expected");
    check("$(headers[x])", "'***' is not known");
    check("$('open)", "a text without an end");
    check("$('\\q')", "unknown escape");
    check("$()", "unexpected ')'");
    check(&format!("$({}1{})", "(".repeat(99), ")".repeat(99)), "too deeply nested");
}
