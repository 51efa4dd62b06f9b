//! Enough of protocol buffers' text format to read the conformance tests.

/// A message: its fields in order, repeated ones several times.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<(String, Field)>);

#[derive(Debug)]
pub(super) enum Field {
    /// A number or word, as it is written.
    Word(String),
    /// A string's bytes.
    Text(Vec<u8>),
    Message(Message),
}

impl Message {
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Field> {
        self.0
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, field)| field)
    }

    pub(super) fn get<'a>(&'a self, name: &'a str) -> Option<&'a Field> {
        self.all(name).next()
    }

    pub(super) fn messages<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.all(name).filter_map(|field| match field {
            Field::Message(message) => Some(message),
            Field::Word(_) | Field::Text(_) => None,
        })
    }

    pub(super) fn message<'a>(&'a self, name: &'a str) -> Option<&'a Self> {
        self.messages(name).next()
    }

    pub(super) fn text<'a>(&'a self, name: &'a str) -> Option<String> {
        match self.get(name)? {
            Field::Text(bytes) => String::from_utf8(bytes.clone()).ok(),
            Field::Word(_) | Field::Message(_) => None,
        }
    }

    pub(super) fn fields(&self) -> &[(String, Field)] {
        &self.0
    }
}

/// Reads a whole file.
pub(super) fn parse(text: &str) -> Message {
    let mut reader = Reader { rest: text };
    let message = reader.message("");
    assert!(reader.rest.is_empty());
    message
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
    }

    fn eat(&mut self, mark: &str) -> bool {
        self.skip();
        let rest = self.rest.strip_prefix(mark);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&mut self) -> String {
        self.skip();
        let end = self
            .rest
            .find(|c: char| !c.is_alphanumeric() && !"_.+-/".contains(c))
            .unwrap_or(self.rest.len());
        assert!(end > 0, "{:.40}", self.rest);
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    fn message(&mut self, close: &str) -> Message {
        let mut message = Message::default();
        loop {
            self.skip();
            if self.rest.is_empty() || (!close.is_empty() && self.eat(close)) {
                return message;
            }
            let name = if self.eat("[") {
                let name = self.word();
                assert!(self.eat("]"));
                name
            } else {
                self.word()
            };
            self.eat(":");
            if self.eat("[") {
                while !self.eat("]") {
                    let field = self.field();
                    message.0.push((name.clone(), field));
                    self.eat(",");
                }
            } else {
                let field = self.field();
                message.0.push((name, field));
            }
            if !self.eat(",") {
                self.eat(";");
            }
        }
    }

    fn field(&mut self) -> Field {
        if self.eat("{") {
            return Field::Message(self.message("}"));
        }
        if self.eat("<") {
            return Field::Message(self.message(">"));
        }
        self.skip();
        if !self.rest.starts_with(['"', '\'']) {
            return Field::Word(self.word());
        }
        let mut bytes = Vec::new();
        loop {
            self.skip();
            let Some(quote) = self.rest.chars().next().filter(|c| "\"'".contains(*c)) else {
                return Field::Text(bytes);
            };
            self.rest = &self.rest[1..];
            let mut end = 0;
            while !self.rest[end..].starts_with(quote) {
                end += if self.rest[end..].starts_with('\\') {
                    2
                } else {
                    1
                };
                while !self.rest.is_char_boundary(end) {
                    end += 1;
                }
            }
            bytes.extend(unescape(&self.rest[..end]));
            self.rest = &self.rest[end + 1..];
        }
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let code = |digits: &str, radix| u32::from_str_radix(digits, radix).unwrap();
        let octal = rest.len() - rest.trim_start_matches(|c| ('0'..='7').contains(&c)).len();
        let mut take = 1;
        match &rest[..1] {
            "n" => bytes.push(b'\n'),
            "r" => bytes.push(b'\r'),
            "t" => bytes.push(b'\t'),
            "a" => bytes.push(7),
            "b" => bytes.push(8),
            "f" => bytes.push(12),
            "v" => bytes.push(11),
            "x" => {
                let hex = rest[1..]
                    .chars()
                    .take(2)
                    .take_while(char::is_ascii_hexdigit)
                    .count();
                bytes.push(u8::try_from(code(&rest[1..=hex], 16)).unwrap());
                take = 1 + hex;
            }
            "u" | "U" => {
                let length = if rest.starts_with('u') { 4 } else { 8 };
                let c = char::from_u32(code(&rest[1..=length], 16)).unwrap();
                bytes.extend_from_slice(c.to_string().as_bytes());
                take = 1 + length;
            }
            _ if octal > 0 => {
                take = octal.min(3);
                bytes.push(u8::try_from(code(&rest[..take], 8)).unwrap());
            }
            other => bytes.extend_from_slice(other.as_bytes()),
        }
        rest = &rest[take..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
