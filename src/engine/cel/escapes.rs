//! Escape sequences in texts and bytes.

use super::lexer::SyntaxError;

/// The bytes that `content` stands for. In texts an escape names a character, in bytes `\x` and
/// octal ones name a byte.
pub(super) fn unescape(content: &str, bytes: bool) -> Result<Vec<u8>, SyntaxError> {
    let mut out = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(rest.get(..at).unwrap_or_default().as_bytes());
        let escape = rest.get(at + 1..).unwrap_or_default();
        let offset = content.len() - escape.len() - 1;
        let length = one(escape, bytes, &mut out).map_err(|message| SyntaxError {
            at: offset,
            message,
        })?;
        rest = escape.get(length..).unwrap_or_default();
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// Appends what one escape (without its backslash) stands for; returns its length.
fn one(escape: &str, bytes: bool, out: &mut Vec<u8>) -> Result<usize, String> {
    let Some(first) = escape.chars().next() else {
        return Err("a backslash at the end of a text".to_owned());
    };
    let simple = match first {
        'a' => Some(7),
        'b' => Some(8),
        'f' => Some(12),
        'n' => Some(b'\n'),
        'r' => Some(b'\r'),
        't' => Some(b'\t'),
        'v' => Some(11),
        '\\' => Some(b'\\'),
        '?' => Some(b'?'),
        '"' => Some(b'"'),
        '\'' => Some(b'\''),
        '`' => Some(b'`'),
        _ => None,
    };
    if let Some(byte) = simple {
        out.push(byte);
        return Ok(1);
    }
    let (skip, digits, radix) = match first {
        'x' | 'X' => (1, 2, 16),
        'u' if !bytes => (1, 4, 16),
        'U' if !bytes => (1, 8, 16),
        '0'..='3' => (0, 3, 8),
        _ => return Err(format!("unknown escape \\{first}")),
    };
    let text = escape.get(skip..skip + digits);
    let code = text
        .filter(|text| text.chars().all(|c| c.is_digit(radix)))
        .and_then(|text| u32::from_str_radix(text, radix).ok())
        .ok_or_else(|| format!("the escape \\{first} needs {digits} digits of base {radix}"))?;
    if bytes {
        out.push(u8::try_from(code).map_err(|_large| "an escape beyond one byte".to_owned())?);
    } else {
        let c =
            char::from_u32(code).ok_or_else(|| format!("no character has the code {code:x}"))?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(skip + digits)
}
