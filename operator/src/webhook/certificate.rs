//! The webhook's certificate, and the list of those that the cluster trusts. The key stays in this process.

use std::time::Duration;

use anyhow::Context;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use time::OffsetDateTime;

/// How long a certificate is good for, and after how long a new one is made.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
pub const RENEWAL: Duration = Duration::from_secs(60 * 24 * 3600);
/// Clocks of a cluster differ.
const SLACK: Duration = Duration::from_secs(3600);
/// More than there are operators; those of operators that have ended are the oldest.
const MOST: usize = 16;

const END: &str = "-----END CERTIFICATE-----";

pub struct Certificate {
    pub der: Vec<u8>,
    pub key: Vec<u8>,
    pub pem: String,
}

impl Certificate {
    /// A new key, and a certificate signed with it for this host.
    pub fn new(host: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate().context("cannot make a key")?;
        let mut params = CertificateParams::new(vec![host.to_owned()])
            .with_context(|| format!("`{host}` is no name for a host"))?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "streamjob-operator");
        params.distinguished_name = name;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = OffsetDateTime::now_utc();
        params.not_before = now - SLACK;
        params.not_after = now + LIFE;
        let signed = params
            .self_signed(&key)
            .context("cannot sign a certificate")?;
        Ok(Certificate {
            der: signed.der().to_vec(),
            key: key.serialize_der(),
            pem: signed.pem(),
        })
    }
}

/// The trusted ones with this one; `None`: it is among them.
pub fn trusting(bundle: &str, certificate: &str) -> Option<String> {
    let own = certificate.trim();
    let mut all: Vec<String> = bundle
        .split_inclusive(END)
        .map(|one| one.trim().to_owned())
        .filter(|one| one.ends_with(END))
        .collect();
    if all.iter().any(|known| known == own) {
        return None;
    }
    all.push(own.to_owned());
    let old = all.len().saturating_sub(MOST);
    Some(all[old..].join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_trusted_once_and_the_oldest_go() {
        let certificate = |number: usize| format!("-----BEGIN CERTIFICATE-----\n{number}\n{END}\n");
        let mut bundle = String::new();
        for number in 0..20 {
            bundle = trusting(&bundle, &certificate(number)).unwrap();
        }
        assert_eq!(trusting(&bundle, &certificate(19)), None);
        assert_eq!(bundle.matches(END).count(), MOST);
        assert!(!bundle.contains("\n3\n") && bundle.contains("\n4\n"));
        assert!(trusting(&bundle, &certificate(0)).is_some());
    }

    #[test]
    fn what_is_no_certificate_is_dropped() {
        let made = Certificate::new("operator.streams.svc").unwrap();
        let bundle = trusting("nonsense", &made.pem).unwrap();
        assert_eq!(bundle.trim(), made.pem.trim().replace('\r', ""));
    }
}
