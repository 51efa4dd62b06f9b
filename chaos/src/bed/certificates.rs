//! The certificates by which the fleet's processes know each other: of an authority that lives as long
//! as the run.

use std::{ffi::OsString, path::Path};

use zen_fabric::peer::{PeerIdentity, Role, ca::Dev};

use super::FLEET;
use crate::error::{Attempt as _, Result};

/// See the module.
#[derive(Debug)]
pub(super) struct Authority(Dev);

// === impl Authority ===

impl Authority {
    pub(super) fn create(dir: &Path) -> Result<Self> {
        Dev::create(&dir.join("pki"))
            .map(Self)
            .attempt("make an authority for the fleet's certificates")
    }

    /// The flags that give a process its certificate.
    pub(super) fn flags(&self, role: Role, pod: Option<&str>) -> Result<Vec<OsString>> {
        let identity = PeerIdentity::new(FLEET, role, pod).attempt("name a peer")?;
        let files = self
            .0
            .issue(&identity)
            .attempt(format!("make a certificate for {identity}"))?;
        let flags = [
            ("--peer-ca=", &files.ca),
            ("--peer-cert=", &files.certificate),
            ("--peer-key=", &files.key),
        ];
        Ok(flags
            .into_iter()
            .map(|(flag, path)| {
                let mut flag = OsString::from(flag);
                flag.push(path);
                flag
            })
            .collect())
    }
}
