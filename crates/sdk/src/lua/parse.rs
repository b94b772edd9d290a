//! Parses text into [`Node`]s, by recursive descent with a limit on depth and on the number of nodes.

use std::borrow::Cow;

use super::{Comparison, GLOBALS, METHODS, Names, Node, Operator, Value, number, start_of};

/// Maximum nesting of expressions.
const DEPTH_MAX: usize = 32;

/// Maximum number of nodes of an expression.
const NODES_MAX: usize = 2_000;

/// Reserved words.
const KEYWORDS: [&str; 21] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil", "not", "or",
    "repeat", "return", "then", "true", "until", "while",
];

pub(super) fn expression<'t>(text: &'t str, names: &Names) -> Result<(Node, &'t str), String> {
    let mut reader = Reader { rest: text, names, depth: 0, nodes: 0 };
    let node = reader.or()?;
    Ok((node, reader.rest))
}

struct Reader<'t, 'n> {
    rest: &'t str,
    names: &'n Names,
    depth: usize,
    nodes: usize,
}

impl<'t> Reader<'t, '_> {
    /// Counts a node.
    fn node(&mut self, node: Node) -> Result<Node, String> {
        self.nodes += 1;
        if self.nodes > NODES_MAX { Err("the expression is too long".to_owned()) } else { Ok(node) }
    }

    fn deeper(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err("too deeply nested".to_owned()) } else { Ok(()) }
    }

    fn or(&mut self) -> Result<Node, String> {
        self.deeper()?;
        let node = self.series(|reader| reader.word("or"), Self::and, Node::Or)?;
        self.depth -= 1;
        Ok(node)
    }

    fn and(&mut self) -> Result<Node, String> {
        self.series(|reader| reader.word("and"), Self::comparison, Node::And)
    }

    /// One or several operands of an operator that joins any number of operands.
    fn series(
        &mut self,
        mut operator: impl FnMut(&mut Self) -> bool,
        mut operand: impl FnMut(&mut Self) -> Result<Node, String>,
        join: fn(Vec<Node>) -> Node,
    ) -> Result<Node, String> {
        let first = operand(self)?;
        if !operator(self) {
            return Ok(first);
        }
        let mut nodes = vec![first, operand(self)?];
        while operator(self) {
            nodes.push(operand(self)?);
        }
        self.node(join(nodes))
    }

    fn comparison(&mut self) -> Result<Node, String> {
        const OPERATORS: [(&str, Comparison); 6] = [
            ("==", Comparison::Equal),
            ("~=", Comparison::Unequal),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let (mut left, depth) = (self.concat()?, self.depth);
        while let Some((_, comparison)) = OPERATORS.into_iter().find(|(token, _)| self.token(token)) {
            self.deeper()?;
            let right = self.concat()?;
            left = self.node(Node::Compare(comparison, Box::new(left), Box::new(right)))?;
        }
        self.depth = depth;
        Ok(left)
    }

    fn concat(&mut self) -> Result<Node, String> {
        self.series(|reader| !reader.peek("...") && reader.token(".."), Self::sum, Node::Concat)
    }

    fn sum(&mut self) -> Result<Node, String> {
        self.arithmetic(&[("+", Operator::Add), ("-", Operator::Subtract)], Self::product)
    }

    fn product(&mut self) -> Result<Node, String> {
        let operators = [("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Modulo)];
        self.arithmetic(&operators, Self::unary)
    }

    fn arithmetic(
        &mut self,
        operators: &[(&str, Operator)],
        mut operand: impl FnMut(&mut Self) -> Result<Node, String>,
    ) -> Result<Node, String> {
        let (mut left, depth) = (operand(self)?, self.depth);
        while let Some((_, operator)) = operators.iter().find(|(token, _)| !self.peek("--") && self.token(token)) {
            self.deeper()?;
            let right = operand(self)?;
            left = self.node(Node::Arithmetic(*operator, Box::new(left), Box::new(right)))?;
        }
        self.depth = depth;
        Ok(left)
    }

    fn unary(&mut self) -> Result<Node, String> {
        let make: fn(Box<Node>) -> Node = if self.word("not") {
            Node::Not
        } else if self.token("#") {
            Node::Length
        } else if !self.peek("--") && self.token("-") {
            Node::Negate
        } else {
            return self.power();
        };
        self.deeper()?;
        let inner = self.unary()?;
        self.depth -= 1;
        self.node(make(Box::new(inner)))
    }

    fn power(&mut self) -> Result<Node, String> {
        let base = self.postfix()?;
        if !self.token("^") {
            return Ok(base);
        }
        self.deeper()?;
        let exponent = self.unary()?;
        self.depth -= 1;
        self.node(Node::Arithmetic(Operator::Power, Box::new(base), Box::new(exponent)))
    }

    /// A value and the methods called on it.
    fn postfix(&mut self) -> Result<Node, String> {
        let (mut node, depth) = (self.primary()?, self.depth);
        // Methods can only be called on a literal in parentheses.
        let is_literal = matches!(node, Node::Constant(_));
        while !is_literal && self.token(":") {
            self.deeper()?;
            let name = self.name().ok_or("a name must follow ':'")?;
            let Some((name, function)) = METHODS.iter().find(|(known, _)| *known == name) else {
                let known: Vec<&str> = METHODS.iter().map(|(name, _)| *name).collect();
                return Err(format!("method '{name}' is not supported (only {})", known.join(", ")));
            };
            let arguments = self.arguments()?.ok_or("'(' must follow the name of a method")?;
            node = self.node(Node::Method(Box::new(node), *function, name, arguments))?;
        }
        self.depth = depth;
        Ok(node)
    }

    fn primary(&mut self) -> Result<Node, String> {
        if self.token("(") {
            let inner = self.or()?;
            self.expect(")")?;
            // The node also makes `("a"):upper()` valid, as it is not a literal.
            return self.node(Node::First(Box::new(inner)));
        }
        if let Some(text) = self.text()? {
            return self.constant(Value::Text(Cow::Owned(text)));
        }
        if let Some(number) = self.number()? {
            return self.constant(Value::Number(number));
        }
        let Some(name) = self.name() else { return Err(self.unexpected()) };
        match name {
            "nil" => return self.constant(Value::Nil),
            "true" => return self.constant(Value::Boolean(true)),
            "false" => return self.constant(Value::Boolean(false)),
            keyword if KEYWORDS.contains(&keyword) => return Err(format!("'{keyword}' is not supported")),
            _ => {}
        }
        if let Some(table) = self.names.tables.iter().position(|known| *known == name) {
            let key = self.key()?.ok_or_else(|| format!("a key must follow '{name}', as in {name}.key"))?;
            return self.node(Node::Index(table, Box::new(key)));
        }
        if self.names.empty_tables.contains(&name) {
            while self.key()?.is_some() {}
            return self.constant(Value::Nil);
        }
        self.function(name)
    }

    fn constant(&mut self, value: Value<'static>) -> Result<Node, String> {
        self.node(Node::Constant(value))
    }

    /// Parses the call of a function whose name starts with this word.
    fn function(&mut self, first: &str) -> Result<Node, String> {
        let mut path = first.to_owned();
        while !self.peek("..") && self.token(".") {
            path.push('.');
            path.push_str(self.name().ok_or("a name must follow '.'")?);
        }
        let method = path.strip_prefix("string.").and_then(|name| METHODS.iter().find(|(known, _)| *known == name));
        let standard = method.or_else(|| GLOBALS.iter().find(|(known, _)| *known == path));
        let own = self.names.functions.iter().position(|known| *known == path);
        if standard.is_none() && own.is_none() {
            return Err(format!("'{path}' is not known"));
        }
        let arguments = self.arguments()?.ok_or_else(|| format!("'(' must follow '{path}'"))?;
        let node = match (standard, own) {
            (Some((_, function)), _) => Node::Standard(*function, arguments),
            (None, own) => Node::Call(own.unwrap_or_default(), arguments),
        };
        self.node(node)
    }

    /// `(a, b)`, or a single text without parentheses.
    fn arguments(&mut self) -> Result<Option<Vec<Node>>, String> {
        if let Some(text) = self.text()? {
            return Ok(Some(vec![self.constant(Value::Text(Cow::Owned(text)))?]));
        }
        if !self.token("(") {
            return Ok(None);
        }
        let mut arguments = Vec::new();
        if self.token(")") {
            return Ok(Some(arguments));
        }
        loop {
            arguments.push(self.or()?);
            if !self.token(",") {
                self.expect(")")?;
                return Ok(Some(arguments));
            }
        }
    }

    /// `.name` or `[expression]`.
    fn key(&mut self) -> Result<Option<Node>, String> {
        if self.peek("..") {
            return Ok(None);
        }
        if self.token(".") {
            let name = self.name().ok_or("a name must follow '.'")?;
            return self.constant(Value::Text(Cow::Owned(name.as_bytes().to_vec()))).map(Some);
        }
        if !self.token("[") {
            return Ok(None);
        }
        let key = self.or()?;
        self.expect("]")?;
        Ok(Some(key))
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn peek(&mut self, token: &str) -> bool {
        self.space();
        self.rest.starts_with(token)
    }

    fn token(&mut self, token: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.token(token) { Ok(()) } else { Err(format!("'{token}' expected at {}", start_of(self.rest))) }
    }

    fn unexpected(&self) -> String {
        if self.rest.is_empty() { "unexpected end".to_owned() } else { format!("unexpected {}", start_of(self.rest)) }
    }

    /// A whole word.
    fn word(&mut self, word: &str) -> bool {
        self.space();
        let before = self.rest;
        if self.name() == Some(word) {
            return true;
        }
        self.rest = before;
        false
    }

    fn name(&mut self) -> Option<&'t str> {
        self.space();
        let ok = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !ok(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.rest = rest;
        Some(name)
    }

    fn number(&mut self) -> Result<Option<f64>, String> {
        self.space();
        let rest = self.rest.strip_prefix('.').unwrap_or(self.rest);
        if !rest.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(None);
        }
        let hex = self.rest.starts_with("0x") || self.rest.starts_with("0X");
        let mut previous = ' ';
        let end = self.rest.find(|c: char| {
            let is_sign = !hex && matches!(c, '+' | '-') && matches!(previous, 'e' | 'E');
            previous = c;
            !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_') || is_sign)
        });
        let (mut digits, mut rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        // `1..2` joins two numbers.
        if let Some(at) = digits.find("..") {
            (digits, rest) = self.rest.split_at(at);
        }
        let number = number::read(digits.as_bytes()).ok_or_else(|| "malformed number".to_owned())?;
        self.rest = rest;
        Ok(Some(number))
    }

    fn text(&mut self) -> Result<Option<Vec<u8>>, String> {
        self.space();
        let Some(quote @ ('"' | '\'')) = self.rest.chars().next() else { return Ok(None) };
        let mut out = Vec::new();
        let mut rest = self.rest.get(1..).unwrap_or_default();
        loop {
            let mut characters = rest.chars();
            match characters.next() {
                None | Some('\n' | '\r') => return Err("a text without an end".to_owned()),
                Some('\\') => {
                    rest = escape(characters.as_str(), &mut out)?;
                    continue;
                }
                Some(other) if other == quote => {
                    self.rest = characters.as_str();
                    return Ok(Some(out));
                }
                Some(other) => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
            rest = characters.as_str();
        }
    }
}

/// Parses an escape sequence after the backslash; returns the rest of the text.
fn escape<'t>(text: &'t str, out: &mut Vec<u8>) -> Result<&'t str, String> {
    let mut characters = text.chars();
    let byte = match characters.next() {
        Some('a') => 7,
        Some('b') => 8,
        Some('f') => 12,
        Some('n' | '\n') => b'\n',
        Some('r') => b'\r',
        Some('t') => b'\t',
        Some('v') => 11,
        Some('x') => {
            let digits = text.get(1..3).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            out.push(byte.ok_or("two hexadecimal digits must follow '\\x'")?);
            return Ok(text.get(3..).unwrap_or_default());
        }
        Some(digit) if digit.is_ascii_digit() => {
            let end = text.bytes().take(3).take_while(u8::is_ascii_digit).count();
            let (digits, rest) = text.split_at(end);
            out.push(digits.parse().map_err(|_| format!("'\\{digits}' is no byte"))?);
            return Ok(rest);
        }
        Some(plain @ ('\\' | '"' | '\'')) => u8::try_from(plain).unwrap_or_default(),
        _ => return Err("unknown escape in a text".to_owned()),
    };
    out.push(byte);
    Ok(characters.as_str())
}
