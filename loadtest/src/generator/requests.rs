//! Requests that are signed before the run; only the delivery's id is patched in.

use aws_lc_rs::hmac;

use crate::profile::Profile;

/// Length of a delivery's id.
const ID: usize = 36;

/// Distinct ids: eight digits that name the run, twelve that count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids {
    run: u32,
    next: u64,
}

impl Ids {
    pub(crate) fn new(run: u32) -> Self {
        Self { run, next: 0 }
    }

    pub(crate) fn take(&mut self) -> Id {
        let id = Id {
            run: self.run,
            number: self.next,
        };
        self.next += 1;
        id
    }

    /// How many were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.next
    }
}

/// One delivery's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    run: u32,
    pub(crate) number: u64,
}

impl Id {
    /// As GitHub writes them: a UUID.
    pub(crate) fn text(self) -> [u8; ID] {
        let mut text = *b"00000000-0000-4000-8000-000000000000";
        let (run, rest) = text.split_at_mut(8);
        digits(run, self.run.into());
        let (_, number) = rest.split_at_mut(ID - 8 - 12);
        digits(number, self.number);
        text
    }

    /// The count of an id of this run; `None` for another's.
    pub(crate) fn number_of(run: u32, text: &str) -> Option<u64> {
        let (head, number) = text.split_at_checked(ID - 12)?;
        let (found, middle) = head.split_at_checked(8)?;
        (middle == "-0000-4000-8000-" && u32::from_str_radix(found, 16).ok()? == run)
            .then(|| u64::from_str_radix(number, 16).ok())
            .flatten()
    }
}

/// Writes `number` in hexadecimal, right-aligned.
fn digits(into: &mut [u8], mut number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for place in into.iter_mut().rev() {
        let digit = usize::try_from(number & 15).unwrap_or_default();
        *place = DIGITS.get(digit).copied().unwrap_or(b'0');
        number >>= 4;
    }
}

/// Signed requests to one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    whole: Vec<Prepared>,
}

#[derive(Clone, Debug)]
struct Prepared {
    bytes: Vec<u8>,
    id_at: usize,
}

impl Requests {
    /// As many distinct bodies as the profile says, signed as GitHub signs.
    ///
    /// With several `paths`, deliveries go to them in turn.
    pub(crate) fn github(profile: &Profile, paths: &[String], secret: &str) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let rounds = profile.bodies.div_ceil(paths.len().max(1)).max(1);
        let whole = (0..rounds)
            .flat_map(|_round| paths)
            .enumerate()
            .map(|(number, path)| prepare(&body(number, profile.body_bytes), path, &key))
            .collect();
        Self { whole }
    }

    /// The repository that delivery `number` is about.
    pub(crate) fn repository(&self, number: u64) -> String {
        let count = u64::try_from(self.whole.len()).unwrap_or(1).max(1);
        format!("load/repository-{:05}", number % count)
    }

    /// Puts the request of `id` at the end of `out`.
    pub(crate) fn write(&self, id: Id, out: &mut Vec<u8>) {
        let count = u64::try_from(self.whole.len()).unwrap_or(1).max(1);
        let which = usize::try_from(id.number % count).unwrap_or_default();
        let Some(prepared) = self.whole.get(which) else {
            return;
        };
        let at = out.len() + prepared.id_at;
        out.extend_from_slice(&prepared.bytes);
        if let Some(place) = out.get_mut(at..at + ID) {
            place.copy_from_slice(&id.text());
        }
    }

    /// Size of a whole request.
    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        self.whole.first().map_or(0, |first| first.bytes.len())
    }
}

/// A push event of exactly `size` bytes, or of the smallest that is possible.
fn body(number: usize, size: usize) -> Vec<u8> {
    let frame = |filling: &str| {
        format!(
            r#"{{"ref":"refs/heads/main","repository":{{"full_name":"load/repository-{number:05}"}},"sender":{{"login":"load"}},"filling":"{filling}"}}"#
        )
    };
    let filling = "x".repeat(size.saturating_sub(frame("").len()));
    frame(&filling).into_bytes()
}

fn prepare(body: &[u8], path: &str, key: &hmac::Key) -> Prepared {
    let mut signature = Vec::with_capacity(64);
    for byte in hmac::sign(key, body).as_ref() {
        let mut pair = [0; 2];
        digits(&mut pair, u64::from(*byte));
        signature.extend_from_slice(&pair);
    }
    let signature = String::from_utf8_lossy(&signature);
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         X-GitHub-Event: push\r\nX-Hub-Signature-256: sha256={signature}\r\n\
         Content-Length: {}\r\nX-GitHub-Delivery: ",
        body.len()
    );
    let id_at = head.len();
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&[b'0'; ID]);
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes.extend_from_slice(body);
    Prepared { bytes, id_at }
}
