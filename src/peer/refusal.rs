//! Why a connection between peers was refused: few reasons, for counters and logs.

use rustls::{AlertDescription, CertificateError, Error};

use super::identity::{Mismatch, NotAnIdentity};

/// Why a connection did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It isn't TLS 1.3, or breaks off.
    NotTls,
    /// No certificate was shown.
    NoCertificate,
    /// Not issued by an authority that is trusted here.
    UnknownIssuer,
    /// Its time is over, or has not come.
    Expired,
    /// It names nobody of ours.
    NotAnIdentity,
    /// It is of another fleet.
    Fleet,
    /// It is of another role.
    Role,
    /// It is of another pod.
    Pod,
    /// The certificate is of no use for another reason.
    BadCertificate,
    /// The other side refused this process's certificate.
    RefusedByPeer,
    /// The handshake took too long.
    Slow,
    /// Too many handshakes are under way, of its address more than of others, or too many peers are
    /// connected.
    Crowded,
    /// The connection could not be made, or was cut.
    Unreachable,
}

/// Why a verifier of this project refuses a certificate whose chain is good.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Stranger {
    #[error("the certificate names {named}, which is {}", told(*.mismatch))]
    Other { named: String, mismatch: Mismatch },
    #[error("the certificate names nobody of a fleet")]
    Nobody(#[source] NotAnIdentity),
}

fn told(mismatch: Mismatch) -> &'static str {
    match mismatch {
        Mismatch::Fleet => "of another fleet",
        Mismatch::Role => "of another role than may connect here",
        Mismatch::Pod => "another pod than the one that was to be reached",
    }
}

// === impl Reason ===

impl Reason {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::NotTls,
        Self::NoCertificate,
        Self::UnknownIssuer,
        Self::Expired,
        Self::NotAnIdentity,
        Self::Fleet,
        Self::Role,
        Self::Pod,
        Self::BadCertificate,
        Self::RefusedByPeer,
        Self::Slow,
        Self::Crowded,
        Self::Unreachable,
    ];

    /// As a metric's label says it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::NoCertificate => "no_certificate",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Expired => "expired",
            Self::NotAnIdentity => "not_an_identity",
            Self::Fleet => "fleet",
            Self::Role => "role",
            Self::Pod => "pod",
            Self::BadCertificate => "bad_certificate",
            Self::RefusedByPeer => "refused_by_peer",
            Self::Slow => "slow",
            Self::Crowded => "crowded",
            Self::Unreachable => "no_connection",
        }
    }

    /// What an error of a handshake comes to.
    #[must_use]
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library may add errors; all others are one"
    )]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(why) => Self::of_certificate(why),
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            _ => Self::NotTls,
        }
    }

    /// The same for what a socket says, which wraps what TLS says.
    #[must_use]
    pub fn of_io(error: &std::io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        tls.map_or(Self::Unreachable, Self::of)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library may add errors; all others are one"
    )]
    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::Expired,
            CertificateError::Other(other) => match other.0.downcast_ref() {
                Some(Stranger::Nobody(_)) => Self::NotAnIdentity,
                Some(Stranger::Other { mismatch, .. }) => (*mismatch).into(),
                None => Self::BadCertificate,
            },
            _ => Self::BadCertificate,
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library may add alerts; all others are one"
    )]
    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateExpired => Self::Expired,
            AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure
            | AlertDescription::NoApplicationProtocol
            | AlertDescription::DecodeError => Self::NotTls,
            _ => Self::RefusedByPeer,
        }
    }
}

impl From<Mismatch> for Reason {
    fn from(mismatch: Mismatch) -> Self {
        match mismatch {
            Mismatch::Fleet => Self::Fleet,
            Mismatch::Role => Self::Role,
            Mismatch::Pod => Self::Pod,
        }
    }
}
