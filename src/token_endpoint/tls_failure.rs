//! What a failure of TLS means, and what to do about it.
//!
//! All texts are constants: neither the certificate nor the cryptography changes them. The source of the error has the details.

use std::error::Error as StdError;

use rustls::{AlertDescription as Alert, CertificateError, Error as TlsError, PeerIncompatible};

use super::causes::causes;
use crate::error::ErrorKind;

const NOT_TRUSTED: &str = "set roots_pem or roots_file to the certificate of the authority that signs the issuer's certificate \
                           (or that of a proxy which inspects TLS), or use native_roots";
const OTHER_NAME: &str = "write the host of the token URL as in the certificate, or correct the certificate";
const OTHER_CERTIFICATE: &str = "check the issuer's certificate";
const AUTHORITY: &str =
    "issue a server certificate with CA:FALSE: `openssl req -x509` makes the certificate of an authority";
const CLOCK: &str = "check the clock of this machine, and renew the issuer's certificate";
const IDENTITY: &str = "set the client certificate with identity_pem or identity_files";
const OTHER_IDENTITY: &str = "set the client certificate that the issuer requires with identity_pem or identity_files, and check \
                              that it has not expired";
const VERSION: &str = "enable TLS 1.2 or 1.3 at the issuer";
const CIPHERS: &str = "enable a current cipher suite, key exchange group and signature algorithm at the issuer";
const HANDSHAKE: &str = "enable a current TLS version and cipher suite at the issuer; if it requires a client certificate, set \
                         identity_pem or identity_files";
const NOT_TLS: &str = "check the scheme and the port of the token URL, and any proxy or gateway before the issuer";

/// The kind of a failure of TLS in the sources of an error, what the issuer did, and a hint that names settings of
/// [`HttpClient`](super::HttpClient). `None` for other errors, and for those that a retry may cure.
///
/// The second text continues the words `the issuer at <origin>`.
pub(super) fn tls_failure(error: &(dyn StdError + 'static)) -> Option<(ErrorKind, &'static str, &'static str)> {
    let (what, hint) = match causes(error).find_map(|cause| cause.downcast_ref::<TlsError>())? {
        TlsError::InvalidCertificate(error) => of_certificate(error),
        TlsError::AlertReceived(alert) => of_alert(*alert)?,
        TlsError::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => ("supports no TLS version that this client supports", VERSION),
        TlsError::PeerIncompatible(_) => ("has no TLS parameters in common with this client", CIPHERS),
        // A gateway may respond in clear text while the issuer is down.
        TlsError::InvalidMessage(_) => {
            let what = "sent something that is not TLS";
            return Some((ErrorKind::Unavailable, what, NOT_TLS));
        }
        _ => return None,
    };
    Some((ErrorKind::Tls, what, hint))
}

fn of_certificate(error: &CertificateError) -> (&'static str, &'static str) {
    use CertificateError as E;
    match error {
        // The signature is wrong if an authority was made again with the name of the earlier one.
        E::UnknownIssuer | E::BadSignature => ("has a certificate that is not trusted", NOT_TRUSTED),
        E::Expired | E::ExpiredContext { .. } => ("has a certificate that has expired", CLOCK),
        E::NotValidYet | E::NotValidYetContext { .. } => ("has a certificate that is not valid yet", CLOCK),
        E::NotValidForName | E::NotValidForNameContext { .. } => ("has a certificate for another name", OTHER_NAME),
        E::Revoked => ("has a certificate that was revoked", OTHER_CERTIFICATE),
        // rustls has no variant for it.
        E::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => {
            ("has the certificate of an authority in place of a server certificate", AUTHORITY)
        }
        _ => ("has a certificate that is not accepted", OTHER_CERTIFICATE),
    }
}

/// RFC 8446 section 6.2. The alerts that are left out do not depend on a setting.
fn of_alert(alert: Alert) -> Option<(&'static str, &'static str)> {
    Some(match alert {
        Alert::CertificateRequired | Alert::NoCertificate => ("requires a client certificate", IDENTITY),
        // Some servers also send one of these if there is no client certificate.
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::DecryptError => ("rejects the client certificate, or requires one", OTHER_IDENTITY),
        Alert::ProtocolVersion => ("supports no TLS version that this client supports", VERSION),
        Alert::InsufficientSecurity => ("has no TLS parameters in common with this client", CIPHERS),
        // RFC 5246 section 7.4.6: TLS 1.2 has no alert of its own for a missing client certificate.
        Alert::HandshakeFailure => {
            ("has no TLS parameters in common with this client, or requires a client certificate", HANDSHAKE)
        }
        Alert::UnrecognisedName => ("has no certificate for this host name", OTHER_NAME),
        _ => return None,
    })
}
