//! `base64.*`.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose};

use super::{Entry, arg, global, text, wrong};
use crate::engine::cel::{budget::Fault, value::Value};

pub(super) const TABLE: &[Entry] = &[
    global("base64.encode", 1, 1, |args, budget| match arg(args, 0) {
        Value::Bytes(bytes) => {
            budget.charge_bytes(bytes.len() * 2)?;
            Ok(Value::text(&general_purpose::STANDARD.encode(bytes)))
        }
        other => wrong("base64.encode", "bytes", other),
    }),
    global("base64.decode", 1, 1, |args, budget| {
        let encoded = text("base64.decode", args, 0)?;
        budget.charge_bytes(encoded.len())?;
        let unpadded = encoded.trim_end_matches('=');
        match general_purpose::STANDARD_NO_PAD.decode(unpadded) {
            Ok(bytes) => Ok(Value::Bytes(Arc::from(bytes))),
            Err(_invalid) => Fault::new("base64.decode(): the text is no base64"),
        }
    }),
];
