//! From the text of an expression to tokens.

use std::sync::Arc;

/// A token with where it begins, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Ident(Arc<str>),
    /// A field name in backticks, which only stands behind a dot.
    Quoted(Arc<str>),
    /// Digits, decimal or hexadecimal: the sign, if any, decides whether they fit.
    Int {
        digits: Box<str>,
        radix: u32,
    },
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    /// An operator or bracket.
    Mark(&'static str),
    End,
}

/// What is wrong with a text, and where, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) at: usize,
    pub(super) message: String,
}

/// Longest first, so that `<=` is not `<` and `=`.
const MARKS: [&str; 27] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",",
    "(", ")", "[", "]", "{", "}", "=", "&", "|",
];

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, SyntaxError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let end = token.kind == Kind::End;
        tokens.push(token);
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error<T>(&self, at: usize, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError {
            at: at.min(self.text.len()),
            message: message.into(),
        })
    }

    fn next(&mut self) -> Result<Token, SyntaxError> {
        self.skip_blanks();
        let at = self.at;
        let kind = self.kind()?;
        Ok(Token { at, kind })
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn kind(&mut self) -> Result<Kind, SyntaxError> {
        let rest = self.rest();
        let mut chars = rest.chars();
        let Some(first) = chars.next() else {
            return Ok(Kind::End);
        };
        let second = chars.next();
        if let Some(kind) = self.quoted_text()? {
            return Ok(kind);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            self.at += end;
            return Ok(Kind::Ident(Arc::from(rest.get(..end).unwrap_or_default())));
        }
        let fraction = first == '.' && second.is_some_and(|c| c.is_ascii_digit());
        if first.is_ascii_digit() || fraction {
            return self.number();
        }
        if first == '`' {
            return self.backticks();
        }
        match MARKS.iter().find(|mark| rest.starts_with(**mark)) {
            Some(&single @ ("=" | "&" | "|")) => self.error(
                self.at,
                format!("a single {single:?} means nothing here: write {single}{single}"),
            ),
            Some(mark) => {
                self.at += mark.len();
                Ok(Kind::Mark(mark))
            }
            None => self.error(self.at, format!("unexpected character {first:?}")),
        }
    }

    fn backticks(&mut self) -> Result<Kind, SyntaxError> {
        let name = self.rest().get(1..).unwrap_or_default();
        let Some(end) = name.find('`').filter(|end| *end > 0) else {
            return self.error(self.at, "a name in backticks doesn't end");
        };
        self.at += end + 2;
        Ok(Kind::Quoted(Arc::from(name.get(..end).unwrap_or_default())))
    }

    fn number(&mut self) -> Result<Kind, SyntaxError> {
        let at = self.at;
        let rest = self.rest();
        let hex = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X"));
        let (digits, radix) = match hex {
            Some(hex) => (leading(hex, |c| c.is_ascii_hexdigit()), 16),
            None => (leading(rest, |c| c.is_ascii_digit()), 10),
        };
        if hex.is_some() && digits.is_empty() {
            return self.error(at, "a hexadecimal number without digits");
        }
        let mut length = digits.len() + if hex.is_some() { 2 } else { 0 };
        let mut is_double = false;
        if hex.is_none() {
            let tail = fraction_and_exponent(rest.get(length..).unwrap_or_default());
            is_double = tail > 0;
            length += tail;
        }
        let text = rest.get(..length).unwrap_or_default();
        self.at += length;
        let kind = if is_double {
            match text.parse::<f64>() {
                Ok(d) if d.is_finite() => Kind::Double(d),
                Ok(_) | Err(_) => return self.error(at, format!("{text} is no double")),
            }
        } else if self.rest().starts_with(['u', 'U']) {
            self.at += 1;
            match u64::from_str_radix(digits, radix) {
                Ok(u) => Kind::Uint(u),
                Err(_too_large) => {
                    return self.error(at, format!("{text}u is more than 64 bits hold"));
                }
            }
        } else {
            Kind::Int {
                digits: digits.into(),
                radix,
            }
        };
        if self
            .rest()
            .starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        {
            return self.error(at, "a number is followed by a letter or digit");
        }
        Ok(kind)
    }

    /// A text or bytes in quotes, with its prefix; `None` if there is none here.
    fn quoted_text(&mut self) -> Result<Option<Kind>, SyntaxError> {
        let start = self.at;
        let rest = self.rest();
        let prefix = leading(rest, |c| matches!(c, 'r' | 'R' | 'b' | 'B'));
        let behind = rest.get(prefix.len()..).unwrap_or_default();
        let lower = prefix.to_ascii_lowercase();
        if !behind.starts_with(['"', '\''])
            || !matches!(lower.as_str(), "" | "r" | "b" | "br" | "rb")
        {
            return Ok(None);
        }
        let raw = lower.contains('r');
        let bytes = lower.contains('b');
        let delimiter = ["\"\"\"", "'''", "\"", "'"]
            .into_iter()
            .find(|delimiter| behind.starts_with(delimiter))
            .unwrap_or("\"");
        let inner = behind.get(delimiter.len()..).unwrap_or_default();
        let Some(end) = text_end(inner, delimiter, raw) else {
            return self.error(start, "a text doesn't end: its closing quote is missing");
        };
        let content = inner.get(..end).unwrap_or_default();
        let content_at = start + prefix.len() + delimiter.len();
        self.at = content_at + end + delimiter.len();
        let unescaped = if raw {
            content.as_bytes().to_vec()
        } else {
            super::escapes::unescape(content, bytes).map_err(|error| SyntaxError {
                at: content_at + error.at,
                message: error.message,
            })?
        };
        if bytes {
            return Ok(Some(Kind::Bytes(Arc::from(unescaped))));
        }
        match String::from_utf8(unescaped) {
            Ok(text) => Ok(Some(Kind::String(Arc::from(text)))),
            Err(_never_for_texts) => self.error(start, "a text that is not UTF-8"),
        }
    }
}

fn leading(text: &str, wanted: impl Fn(char) -> bool) -> &str {
    let end = text.find(|c| !wanted(c)).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// How long `.digits` and `e±digits` are at the beginning of `text`.
fn fraction_and_exponent(text: &str) -> usize {
    let mut length = 0;
    if let Some(fraction) = text.strip_prefix('.') {
        let digits = leading(fraction, |c| c.is_ascii_digit());
        if digits.is_empty() {
            return 0;
        }
        length = 1 + digits.len();
    }
    let rest = text.get(length..).unwrap_or_default();
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let digits = leading(unsigned, |c| c.is_ascii_digit());
        if !digits.is_empty() {
            length += 1 + (exponent.len() - unsigned.len()) + digits.len();
        }
    }
    length
}

/// Where the text in front of its closing delimiter ends.
fn text_end(inner: &str, delimiter: &str, raw: bool) -> Option<usize> {
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        if inner.get(at..)?.starts_with(delimiter) {
            return Some(at);
        }
        match c {
            '\\' if !raw => {
                chars.next();
            }
            '\n' | '\r' if delimiter.len() == 1 => return None,
            _ => {}
        }
    }
    None
}
