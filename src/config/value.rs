//! How each type of value is read and shown.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};

use super::LogFormat;

/// A value that is set from text and shown as text; showing never reveals a secret.
pub trait Value {
    /// Sets it; on an error it is left as it was.
    ///
    /// # Errors
    /// What is wrong with the text, and what is wanted.
    fn set(&mut self, text: &str) -> Result<(), String>;

    /// Shows it as it may be given again; empty when unset.
    fn show(&self) -> String;
}

/// A size, written as `1024`, `64MiB` or `8GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// So many KiB.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count * 1024)
    }

    /// So many MiB.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self::kib(count * 1024)
    }

    /// So many GiB.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self::mib(count * 1024)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZES
            .iter()
            .find(|(_, size)| self.0 != 0 && self.0.is_multiple_of(*size));
        match unit {
            Some((name, size)) => write!(f, "{}{name}", self.0 / size),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Largest first, so that showing finds the shortest form.
const SIZES: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// Whether an append waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// An answer means that the event survives a power cut.
    Durable,
    /// For measurement only: no fdatasync, so that a crash of the machine loses acknowledged events.
    UnsafeNoSync,
}

/// What has to be written out to run without fdatasync.
const UNSAFE_NO_SYNC: &str = "unsafe-no-fdatasync-loses-acknowledged-events";

impl Value for SyncMode {
    fn set(&mut self, text: &str) -> Result<(), String> {
        *self = match text {
            "durable" => Self::Durable,
            UNSAFE_NO_SYNC => Self::UnsafeNoSync,
            _ => return Err(format!("want `durable`, not `{text}`")),
        };
        Ok(())
    }

    fn show(&self) -> String {
        match self {
            Self::Durable => "durable".to_owned(),
            Self::UnsafeNoSync => UNSAFE_NO_SYNC.to_owned(),
        }
    }
}

impl Value for Bytes {
    fn set(&mut self, text: &str) -> Result<(), String> {
        let (number, unit) = split_unit(text);
        let size = match unit {
            "" => Some(1),
            unit => SIZES
                .iter()
                .find(|(name, _)| *name == unit)
                .map(|(_, size)| *size),
        };
        let bytes = number
            .parse::<u64>()
            .ok()
            .zip(size)
            .and_then(|(number, size)| number.checked_mul(size));
        *self = Self(bytes.ok_or_else(|| {
            format!("`{text}` is no size: want bytes, or a number with KiB, MiB, GiB or TiB")
        })?);
        Ok(())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Largest first, so that showing finds the shortest form.
const TIMES: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

impl Value for Duration {
    fn set(&mut self, text: &str) -> Result<(), String> {
        let (number, unit) = split_unit(text);
        let size = TIMES.iter().find(|(name, _)| *name == unit);
        let millis = number
            .parse::<u64>()
            .ok()
            .zip(size)
            .and_then(|(number, (_, size))| number.checked_mul(*size));
        *self = Self::from_millis(millis.ok_or_else(|| {
            format!("`{text}` is no duration: want a number with ms, s, m, h or d, such as 25s")
        })?);
        Ok(())
    }

    fn show(&self) -> String {
        let millis = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        TIMES
            .iter()
            .find(|(_, size)| millis != 0 && millis.is_multiple_of(*size))
            .map_or_else(
                || "0s".to_owned(),
                |(name, size)| format!("{}{name}", millis / size),
            )
    }
}

/// Digits, and what follows them.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

impl Value for bool {
    fn set(&mut self, text: &str) -> Result<(), String> {
        *self = match text {
            "true" => true,
            "false" => false,
            _ => return Err(format!("`{text}` is neither true nor false")),
        };
        Ok(())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! from_str {
    ($($type:ty: $want:literal),+ $(,)?) => {$(
        impl Value for $type {
            fn set(&mut self, text: &str) -> Result<(), String> {
                *self = text.parse().map_err(|error| {
                    format!(concat!("`{}` is not ", $want, ": {}"), text, error)
                })?;
                Ok(())
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

from_str! {
    u16: "a port",
    u32: "a number",
    u64: "a number",
    usize: "a number",
    f64: "a number",
    IpAddr: "an IP address",
}

impl Value for String {
    fn set(&mut self, text: &str) -> Result<(), String> {
        text.clone_into(self);
        Ok(())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    fn set(&mut self, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Err("a path may not be empty".to_owned());
        }
        *self = Self::from(text);
        Ok(())
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for SecretString {
    fn set(&mut self, text: &str) -> Result<(), String> {
        *self = Self::from(text);
        Ok(())
    }

    fn show(&self) -> String {
        if self.expose_secret().is_empty() {
            String::new()
        } else {
            "(hidden)".to_owned()
        }
    }
}

impl Value for Vec<IpNet> {
    fn set(&mut self, text: &str) -> Result<(), String> {
        *self = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| {
                part.parse::<IpNet>()
                    .or_else(|error| {
                        part.parse::<IpAddr>()
                            .map(IpNet::from)
                            .map_err(|_not_one_address| error)
                    })
                    .map_err(|error| format!("`{part}` is no network such as 10.0.0.0/8: {error}"))
            })
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    fn show(&self) -> String {
        let parts: Vec<String> = self.iter().map(ToString::to_string).collect();
        parts.join(",")
    }
}

/// An empty text unsets it, so that a flag can take back what the environment set.
impl<T: Value + Blank> Value for Option<T> {
    fn set(&mut self, text: &str) -> Result<(), String> {
        *self = if text.is_empty() {
            None
        } else {
            let mut value = T::blank();
            value.set(text)?;
            Some(value)
        };
        Ok(())
    }

    fn show(&self) -> String {
        self.as_ref().map(Value::show).unwrap_or_default()
    }
}

/// Something to set, where there was nothing.
pub(crate) trait Blank {
    /// A value that is about to be overwritten.
    fn blank() -> Self;
}

impl Blank for PathBuf {
    fn blank() -> Self {
        Self::new()
    }
}

impl Blank for String {
    fn blank() -> Self {
        Self::new()
    }
}

impl Blank for Bytes {
    fn blank() -> Self {
        Self(0)
    }
}

impl Blank for SecretString {
    fn blank() -> Self {
        Self::from("")
    }
}

impl Value for LogFormat {
    fn set(&mut self, text: &str) -> Result<(), String> {
        *self = match text {
            "json" => Self::Json,
            "human" => Self::Human,
            _ => return Err(format!("`{text}` is neither json nor human")),
        };
        Ok(())
    }

    fn show(&self) -> String {
        match self {
            Self::Json => "json".to_owned(),
            Self::Human => "human".to_owned(),
        }
    }
}
