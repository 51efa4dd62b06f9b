//! Keys, tokens and kubeconfigs of the test bed's API server.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

use super::{Error, User};

/// The file with the key that signs service account tokens.
pub(super) const SERVICE_ACCOUNT_KEY: &str = "service-account.pem";

/// The file with the key that verifies them.
pub(super) const SERVICE_ACCOUNT_PUBLIC_KEY: &str = "service-account.pub.pem";

/// The file that says who has which token.
pub(super) const TOKENS: &str = "tokens.csv";

/// Writes the service account key and a random token for each of `users`.
pub(super) fn write(dir: &Path, users: &[User]) -> Result<(), Error> {
    let (private, public) = service_account_keys()?;
    write_private(&dir.join(SERVICE_ACCOUNT_KEY), &private)?;
    write_private(&dir.join(SERVICE_ACCOUNT_PUBLIC_KEY), &public)?;
    let mut tokens = String::new();
    for user in users {
        let token = uuid::Uuid::new_v4();
        let groups = user.groups().join(",");
        let name = user.name();
        tokens.extend([
            &token.to_string(),
            ",",
            name,
            ",",
            name,
            ",\"",
            &groups,
            "\"\n",
        ]);
        write_private(&token_path(dir, user), &token.to_string())?;
    }
    write_private(&dir.join(TOKENS), &tokens)
}

/// Writes the kubeconfig by which `user` logs in at `url`. It names the certificate's file, which
/// the server writes when it starts.
pub(super) fn write_kubeconfig(dir: &Path, url: &str, user: &User) -> Result<(), Error> {
    let path = token_path(dir, user);
    let token = fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))?;
    // JSON is YAML.
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "testbed",
        "clusters": [{ "name": "testbed", "cluster": {
            "server": url, "certificate-authority": dir.join("certs/apiserver.crt"),
        }}],
        "users": [{ "name": user.name(), "user": { "token": token } }],
        "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": user.name() } }],
    });
    write_private(&kubeconfig_path(dir, user), &kubeconfig.to_string())
}

/// Where the kubeconfig of `user` is.
pub(super) fn kubeconfig_path(dir: &Path, user: &User) -> PathBuf {
    dir.join(format!("{}.kubeconfig", user.file_name()))
}

/// What a kubeconfig says, with the client's own retries off.
pub(super) fn config(path: &Path) -> Result<Config, Error> {
    let wrong = |source| Error::Kubeconfig {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
    // Everything that is awaited here is ready at once: no plugin and no file but those above.
    let mut config = futures::executor::block_on(Config::from_custom_kubeconfig(
        kubeconfig,
        &KubeConfigOptions::default(),
    ))
    .map_err(wrong)?;
    config.default_retry = false;
    Ok(config)
}

fn token_path(dir: &Path, user: &User) -> PathBuf {
    dir.join(format!("{}.token", user.file_name()))
}

/// The private and the public half, as PEM.
fn service_account_keys() -> Result<(String, String), Error> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
        .map_err(|_unspecified| Error::Key)?;
    let private = pair.to_pkcs8v1().map_err(|_unspecified| Error::Key)?;
    let public: PublicKeyX509Der<'_> = pair
        .public_key()
        .as_der()
        .map_err(|_unspecified| Error::Key)?;
    Ok((
        pem("PRIVATE KEY", private.as_ref()),
        pem("PUBLIC KEY", public.as_ref()),
    ))
}

fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    // RFC 7468: lines of 64 characters.
    while let Some((line, more)) = rest.split_at_checked(64) {
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str(rest);
    pem + &format!("\n-----END {label}-----\n")
}

fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(Error::io(format!("write {}", path.display())))
}
