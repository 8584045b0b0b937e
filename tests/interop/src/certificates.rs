//! The certificates and keys of all servers and clients, made at each start.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};

use crate::suite::Check;

/// What the crate needs of them, as PEM.
pub struct Certificates {
    pub authority: String,
    pub other: String,
    pub client: (String, String),
    pub stranger: (String, String),
    /// From an authority that no server trusts.
    pub foreign: (String, String),
}

impl Certificates {
    pub fn read(directory: &Path) -> Check<Self> {
        let read = |name: &str| fs::read_to_string(directory.join(name));
        let pair = |name: &str| -> Check<_> { Ok((read(&format!("{name}.pem"))?, read(&format!("{name}.key"))?)) };
        Ok(Self {
            authority: read("authority.pem")?,
            other: read("other-authority.pem")?,
            client: pair("client")?,
            stranger: pair("stranger")?,
            foreign: pair("foreign")?,
        })
    }
}

/// Makes two authorities, server certificates for `localhost` with and without a fault, and client certificates.
pub fn write(directory: &Path) -> Check {
    let authority = |file: &str, common: &str| -> Check<_> {
        let mut params = named(&[], common)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        fs::write(directory.join(file), certificate.pem())?;
        Ok((certificate, key))
    };
    let root = authority("authority.pem", "interop authority")?;
    let other = authority("other-authority.pem", "interop other authority")?;
    let leaf = |file: &str, params: CertificateParams, (issuer, issuer_key): &(rcgen::Certificate, KeyPair)| -> Check {
        let key = KeyPair::generate()?;
        fs::write(directory.join(format!("{file}.pem")), params.signed_by(&key, issuer, issuer_key)?.pem())?;
        Ok(fs::write(directory.join(format!("{file}.key")), key.serialize_pem())?)
    };
    let server = |name: &str| -> Check<_> {
        let mut params = named(&[name], "interop server")?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(params)
    };
    leaf("server", server("localhost")?, &root)?;
    leaf("untrusted", server("localhost")?, &other)?;
    leaf("wrong-name", server("issuer.example")?, &root)?;
    let mut expired = server("localhost")?;
    expired.not_after = date_time_ymd(2020, 1, 1);
    leaf("expired", expired, &root)?;
    let mut not_yet = server("localhost")?;
    not_yet.not_before = date_time_ymd(4000, 1, 1);
    leaf("not-yet", not_yet, &root)?;
    let client = |name: &str| -> Check<_> {
        let mut params = named(&[name], name)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params)
    };
    leaf("client", client("client.example")?, &root)?;
    leaf("stranger", client("stranger.example")?, &root)?;
    leaf("foreign", client("client.example")?, &other)
}

fn named(names: &[&str], common: &str) -> Check<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    // The names of authority and leaf must differ. Otherwise OpenSSL considers the leaf self-signed.
    params.distinguished_name.push(DnType::CommonName, common);
    Ok(params)
}
