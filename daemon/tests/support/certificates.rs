//! Certificates for tests: a private authority, and a server of this machine that it has signed.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority's certificate, and one of a server with its key, all PEM.
pub struct Issued {
    /// The authority's.
    pub ca: String,
    /// The server's.
    pub certificate: String,
    /// The server's key.
    pub key: String,
}

/// An authority of its own, with a server at `localhost` and 127.0.0.1.
pub fn issue() -> Issued {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    // Named differently from the server, or it would be taken for the server's own.
    ca.distinguished_name.push(DnType::CommonName, "an authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let certificate = server.signed_by(&key, &issuer).unwrap();
    Issued { ca: ca_certificate.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
}
