use super::{Budget, Environment, Expression, Failure, Names, Value};

const NAMES: Names =
    Names { tables: &["headers"], empty_tables: &["shared"], functions: &["kong.request.get_header", "fail"] };

struct Request;

impl Environment for Request {
    fn index(&self, _table: usize, key: &[u8]) -> Value<'_> {
        match key {
            b"name" => Value::text(&b"Ann Lee"[..]),
            b"token" => Value::text(&b"Bearer k_1"[..]),
            b"five" => Value::text(&b"5"[..]),
            b"flag" => Value::Boolean(true),
            b"1" => Value::text(&b"one"[..]),
            b"raw" => Value::text(&b"\xff\0\x80"[..]),
            b"long" => Value::text(vec![b'a'; 30_000]),
            _ => Value::Nil,
        }
    }

    fn call(&self, function: usize, arguments: &[Value<'_>]) -> Result<Value<'_>, Failure> {
        match (function, arguments) {
            (0, [Value::Text(name)]) => Ok(self.index(0, name)),
            _ => Err(Failure("bad argument".into())),
        }
    }
}

fn run(text: &str) -> Result<String, String> {
    let expression = Expression::parse(text, &NAMES)?;
    let value = expression.evaluate(&Request, &mut Budget::default()).map_err(|failure| failure.to_string())?;
    let mut out = Vec::new();
    value.write(&mut out);
    Ok(String::from_utf8(out).unwrap_or_else(|error| error.as_bytes().escape_ascii().to_string()))
}

fn check(text: &str, expect: &str) {
    assert_eq!(run(text).as_deref(), Ok(expect), "{text}");
}

fn fails(text: &str, expect: &str) {
    let error = run(text).expect_err(text);
    assert!(error.contains(expect), "{text}: {error}");
}

#[test]
fn operators_have_the_precedence_of_lua() {
    check("1 + 2 * 3 ^ 2", "19");
    check("2 ^ 3 ^ 2", "512");
    check("-2 ^ 2", "-4");
    check("2 ^ -1", "0.5");
    check("7 % 3 .. 8 / 2", "14");
    check("-7 % 3", "2");
    check("1 .. 2 == '12'", "true");
    check("not 1 == 2", "false");
    check("not (1 == 2)", "true");
    check("not nil == true and 'x'", "x");
    check("1 < 2 == true", "true");
    check("false or nil and 1", "nil");
    check("false or (1 and nil) == nil", "true");
    check("nil or false", "false");
    check("1 and nil or 'b'", "b");
    check("nil and 1 or 'c'", "c");
    check("'a' < 'b' and 'A' < 'a'", "true");
    check("2 <= 2 and 3 > 2 and not (2 >= 3)", "true");
    check("'10' + 5", "15");
    check("'0x10' * 1", "16");
    check("10 .. ''", "10");
    check("0.1 + 0.2", "0.3");
    check("not not 'x'", "true");
    check("#'abc' + #headers.name", "10");
    check("1 == '1'", "false");
    check("nil == false", "false");
    check("'a' ~= 'b'", "true");
    check("1..2", "12");
}

#[test]
fn operands_on_the_right_are_evaluated_only_when_needed() {
    check("true or fail()", "true");
    check("nil and fail()", "nil");
    fails("false or fail()", "bad argument");
    check("headers.absent == nil or headers.absent:sub(1, 1) == 'x'", "true");
    check("headers.absent ~= nil and headers.absent:sub(1, 9) ~= 'x' and 'y' or 'z'", "z");
}

#[test]
fn values_come_from_the_environment() {
    check("headers.name", "Ann Lee");
    check("headers['na' .. 'me']", "Ann Lee");
    check("headers[\"name\"]", "Ann Lee");
    check("headers[1]", "one");
    check("headers[nil]", "nil");
    check("headers.absent", "nil");
    check("headers.flag", "true");
    check("shared.a.b['c']", "nil");
    check("kong.request.get_header('name') or 'none'", "Ann Lee");
    check("kong.request.get_header(\"x\") or \"none\"", "none");
    check("kong.request.get_header 'name'", "Ann Lee");
    fails("kong.request.get_header()", "bad argument");
}

#[test]
fn texts_have_the_functions_of_the_string_library() {
    check("headers.name:sub(1, 3)", "Ann");
    check("headers.name:sub(-3)", "Lee");
    check("headers.name:sub(-100, 100)", "Ann Lee");
    check("headers.name:sub(3, 2)", "");
    check("headers.name:sub(0)", "Ann Lee");
    check("headers.name:sub('2', '3')", "nn");
    check("string.sub(headers.name, 5)", "Lee");
    check("headers.name:lower():upper()", "ANN LEE");
    check("headers.name:len()", "7");
    check("('ab'):rep(3)", "ababab");
    check("('ab'):rep(3, '-')", "ab-ab-ab");
    check("('ab'):rep(-1)", "");
    check("string.rep('', 1e9)", "");
    check("('abc'):reverse()", "cba");
    check("string.len(512)", "3");
    check("headers.raw:len()", "3");
    check("headers.raw:sub(1, 1) == '\\255'", "true");
    check("'\\65\\x42\\n\\9z' == 'AB\\n\\tz'", "true");
    check("tostring(nil) .. tostring(1.5) .. tostring(true)", "nil1.5true");
    check("tonumber('0x1F') + tonumber('11', 2) + tonumber(' 1e1 ')", "44");
    check("tonumber('x')", "nil");
    check("tonumber('zz', 36)", "1295");
    check("type(headers.name) .. type(nil) .. type(1) .. type(true)", "stringnilnumberboolean");
}

#[test]
fn patterns_match_as_in_lua() {
    check("headers.name:find('Lee')", "5");
    check("headers.name:find('lee')", "nil");
    check("('a.b'):find('.', 1, true)", "2");
    check("('a+b'):find('+', 1, true)", "2");
    check("('abc'):find('b', -1)", "nil");
    check("('abc'):find('', 4)", "4");
    check("('abc'):find('', 5)", "nil");
    check("headers.token:match('^Bearer%s+(.+)$')", "k_1");
    check("headers.token:match('^Basic')", "nil");
    check("('key = value'):match('(%w+)%s*=%s*(%w+)')", "key");
    check("('2024-05-06'):match('%d+-(%d+)')", "05");
    check("('abc'):match('()c')", "3");
    check("('aaab'):match('a-b')", "aaab");
    check("('aaab'):match('a-')", "");
    check("('aaab'):match('a?b')", "ab");
    check("('aaa'):match('a*')", "aaa");
    check("('f(a(b)c)d'):match('%b()')", "(a(b)c)");
    check("('THE (quick) fox'):find('%f[%a]%a+%f[%A]')", "1");
    check("('the quick'):gsub('%f[%w]%w+', 'x')", "x x");
    check("('abab'):match('^(ab)%1$')", "ab");
    check("('[]]'):match('[]]+')", "]]");
    check("('a-z'):match('[a%-z]+')", "a-z");
    check("('hello'):match('[^aeiou]+')", "h");
    check("('x9_'):match('[%w_]+')", "x9_");
    check("('a$'):match('a$$')", "a$");
    check("('a^b'):match('a^b')", "a^b");
    check("('Tab\\t'):match('%c') == '\\t'", "true");
    check("('aXb'):match('%u') .. ('aXb'):match('%l')", "Xa");
    check("('!a'):match('%p')", "!");
    check("('zF0'):match('%x+')", "F0");
    check("('a\\0b'):find('%z')", "2");
    check("('a b'):match('%S+')", "a");
    check("headers.raw:match('[\\128-\\255]') == '\\255'", "true");
}

#[test]
fn gsub_replaces() {
    check("('hello world'):gsub('o', '0')", "hell0 w0rld");
    check("('hello'):gsub('l', 'L', 1)", "heLlo");
    check("('hello'):gsub('', '-')", "-h-e-l-l-o-");
    check("('hello world'):gsub('(%w+) (%w+)', '%2 %1')", "world hello");
    check("('abc'):gsub('%w', '%0%0')", "aabbcc");
    check("('abc'):gsub('%w', '%%%1')", "%a%b%c");
    check("('abc'):gsub('^a', 'x')", "xbc");
    check("('aaa'):gsub('^a', 'x')", "xaa");
    check("headers.token:gsub('Bearer ', '')", "k_1");
    check("(headers.token:gsub('Bearer ', '')) .. '!'", "k_1!");
    check("('abc'):gsub('b*', 'x')", "xaxxcx");
    check("string.rep(('ab'):gsub('b', 'c'))", "ac");
    check("('a,b'):gsub(',', ' '):upper()", "A B");
}

#[test]
fn errors_are_those_of_lua() {
    fails("headers.absent:sub(1)", "attempt to call method 'sub' on a nil value");
    fails("headers.flag:lower()", "attempt to call method 'lower' on a boolean value");
    fails("'a' .. nil", "attempt to concatenate a nil value");
    fails("'a' .. true", "attempt to concatenate a boolean value");
    fails("1 < 'x'", "attempt to compare number with string");
    fails("nil < nil", "attempt to compare two nil values");
    fails("nil + 1", "attempt to perform arithmetic on a nil value");
    fails("'x' + 1", "attempt to perform arithmetic on a string value");
    fails("#nil", "attempt to get length of a nil value");
    fails("string.sub(nil, 1)", "bad argument #1 to 'sub' (string expected, got nil)");
    fails("('a'):sub()", "bad argument #2 to 'sub' (number expected, got no value)");
    fails("('a'):find()", "bad argument #2 to 'find' (string expected, got no value)");
    fails("('a'):match('[a')", "missing ']'");
    fails("('a'):match('%')", "ends with '%'");
    fails("('a'):match('(a')", "unfinished capture");
    fails("('a'):match('a)')", "invalid pattern capture");
    fails("('a'):match('%1')", "invalid capture index");
    fails("('a'):match('%b')", "missing arguments to '%b'");
    fails("('a'):match('%fa')", "missing '[' after '%f'");
    fails("('a'):gsub('a', '%2')", "invalid capture index");
    fails("('a'):gsub('a', nil)", "tables and functions are not supported");
    fails("tonumber('1', 99)", "base out of range");
    fails(&format!("headers.long:match('{}')", "(a)".repeat(33)), "too many captures");
}

#[test]
fn what_is_not_supported_is_refused_with_the_reason() {
    fails("os.time()", "'os.time' is not known");
    fails("headers", "a key must follow 'headers'");
    fails("headers.name:format()", "method 'format' is not supported (only find, gsub");
    fails("function() return 1 end", "'function' is not supported");
    fails("headers.a = 1", "unexpected '='");
    fails("a", "'a' is not known");
    fails("'open", "a text without an end");
    fails("'\\q'", "unknown escape");
    fails("'\\999'", "is no byte");
    fails("", "unexpected end");
    fails("(1", "')' expected");
    fails("1 2", "unexpected a number");
    fails("3x", "malformed number");
    fails("{}", "unexpected '{'");
    fails("'a':upper()", "unexpected ':'");
    fails("1 --", "unexpected '-'");
    fails("tostring", "'(' must follow 'tostring'");
}

#[test]
fn nesting_and_length_are_limited() {
    fails(&format!("{}1{}", "(".repeat(99), ")".repeat(99)), "too deeply nested");
    fails(&"not ".repeat(10_000), "too deeply nested");
    fails(&"-".repeat(9), "unexpected");
    fails(&format!("1{}", "+1".repeat(100_000)), "too deeply nested");
    fails(&format!("1{}", " == 1".repeat(100_000)), "too deeply nested");
    fails(&format!("headers.name{}", ":len()".repeat(100_000)), "too deeply nested");
    fails(&format!("1{}", " or 1".repeat(100_000)), "too long");
    check(&format!("nil{} or 2", " or nil".repeat(500)), "2");
}

/// For any request and configuration, an evaluation ends soon and uses little memory.
#[test]
fn evaluation_is_bounded() {
    fails("headers.long:match('.-.-.-.-b')", "too many steps");
    fails("headers.long:find('a*a*a*a*b')", "too many steps");
    fails("headers.long:gsub('a-a-a-b', '')", "too many steps");
    fails("('%b()'):rep(99) .. headers.long:match(('.-'):rep(150) .. 'b')", "too many steps");
    fails("headers.long:match(('a?'):rep(300))", "pattern too complex");
    fails("('x'):rep(1e9)", "resulting string too large");
    fails("('x'):rep(1e300)", "resulting string too large");
    fails("headers.long:gsub('a', headers.long)", "resulting string too large");
    fails(&format!("('x'):rep(200000){}", " .. ('x'):rep(200000)".repeat(9)), "resulting string too large");
    fails(&format!("{}1", "#('x'):rep(250000) + ".repeat(30)), "too deeply nested");
    check("#headers.long:gsub('a', 'bb')", "60000");
}

/// A set is compared byte by byte: its length counts as steps.
#[test]
fn long_sets_of_patterns_cost_steps() {
    let set = "b".repeat(7_000);
    let text = "a".repeat(7_000);
    for pattern in [format!("[^{set}]*z"), format!("%f[{set}]z"), format!("[{set}]z"), format!("[^{set}]-z")] {
        fails(&format!("('{text}'):match('{pattern}')"), "too many steps");
    }
    check(&format!("('{text}'):match('^[^{set}]')"), "a");
}
