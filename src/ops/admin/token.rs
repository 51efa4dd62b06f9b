//! The token that guards the dead letters: random, made anew at every start, in a file that only
//! the process's own user can read.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rand::{TryRng as _, rngs::SysRng};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

/// The token's file in the data directory.
pub const TOKEN_FILE: &str = "admin-token";

/// The file beside it that says where the admin server listens.
pub const URL_FILE: &str = "admin-url";

/// What a caller has to show.
#[derive(Clone, Debug)]
pub struct Token(SecretString);

/// A file of the admin server could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{attempt} {}", path.display())]
pub struct FileError {
    attempt: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Token {
    /// Makes a token and writes it, and the server's URL, into `data_dir`.
    ///
    /// # Errors
    /// When the random source or the disk fails; a file may have been written then.
    pub fn write(data_dir: &Path, address: SocketAddr) -> Result<Self, FileError> {
        let path = data_dir.join(TOKEN_FILE);
        let mut random = [0_u8; 32];
        SysRng
            .try_fill_bytes(&mut random)
            .map_err(|error| FileError {
                attempt: "make a token for",
                path: path.clone(),
                source: io::Error::other(error),
            })?;
        let text = BASE64_URL_SAFE_NO_PAD.encode(random);
        replace(&path, &text)?;
        replace(&data_dir.join(URL_FILE), &format!("http://{address}"))?;
        Ok(Self(SecretString::from(text)))
    }

    /// Reads the token and the server's URL from `data_dir`.
    ///
    /// # Errors
    /// When a file can't be read: no server was started on this directory, or by another user.
    pub fn read(data_dir: &Path) -> Result<(Self, String), FileError> {
        let read = |name| {
            let path = data_dir.join(name);
            fs::read_to_string(&path)
                .map(|text| text.trim().to_owned())
                .map_err(|source| FileError {
                    attempt: "read",
                    path,
                    source,
                })
        };
        Ok((Self(SecretString::from(read(TOKEN_FILE)?)), read(URL_FILE)?))
    }

    /// The value of an `Authorization` header that shows this token.
    #[must_use]
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0.expose_secret())
    }

    fn accepts(&self, authorization: &[u8]) -> bool {
        self.bearer().as_bytes().ct_eq(authorization).into()
    }
}

/// Writes a file of mode 0600 beside `path` and moves it there, so that a reader finds the old text or the new.
fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    let failed = |source| FileError {
        attempt: "write",
        path: path.to_owned(),
        source,
    };
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)
}

/// Lets a request pass that comes from loopback and shows the token.
pub async fn guard(State(token): State<Token>, request: Request, next: Next) -> Response {
    let loopback = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .is_some_and(|peer| peer.0.ip().to_canonical().is_loopback());
    if !loopback {
        let why = "only from this machine; through `kubectl port-forward` in a cluster\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    let shown = request
        .headers()
        .get(header::AUTHORIZATION)
        .is_some_and(|value| token.accepts(value.as_bytes()));
    if !shown {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        let why = format!("show the token in `{TOKEN_FILE}` of the data directory\n");
        return (StatusCode::UNAUTHORIZED, challenge, why).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_is_for_its_owner_alone_and_every_start_has_another_token() {
        let dir = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 8081));
        let first = Token::write(dir.path(), address).unwrap();
        let second = Token::write(dir.path(), address).unwrap();
        let mode = fs::metadata(dir.path().join(TOKEN_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let (read, url) = Token::read(dir.path()).unwrap();
        assert_eq!(url, "http://127.0.0.1:8081");
        assert!(second.accepts(read.bearer().as_bytes()));
        assert!(!first.accepts(read.bearer().as_bytes()));
        assert!(!second.accepts(b""));
        assert!(!format!("{second:?}").contains(second.0.expose_secret()));
    }

    #[test]
    fn a_directory_without_a_server_says_which_file_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let error = Token::read(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with(TOKEN_FILE));
    }
}
