//! Encrypted connections to a server with a certificate, and the service file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::Path;

use hfs_core::{ErrorExt as _, ErrorKind, Maintenance as _, StoreError};
use hfs_postgres::{Environment, PostgresOptions, PostgresStore};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use testkit::postgres::{Client, PostgresServer, ROLE};

/// An authority, and a certificate that it has signed for the host `localhost`.
struct Certificates {
    authority: String,
    certificate: String,
    key: String,
}

impl Certificates {
    fn new(name: &str) -> Self {
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new([]).unwrap();
        authority.distinguished_name.push(DnType::CommonName, name);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Self { authority: authority_pem, certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

struct TlsServer {
    server: PostgresServer,
    /// Has the files `authority.pem` and `other.pem`.
    folder: TempDir,
}

impl TlsServer {
    fn start() -> Option<Self> {
        let (own, other) = (Certificates::new("own"), Certificates::new("other"));
        let files = [("tls.crt", own.certificate.as_str()), ("tls.key", &own.key)];
        let settings = ["ssl=on", "ssl_cert_file=tls.crt", "ssl_key_file=tls.key"];
        let server =
            PostgresServer::start_with_files(Path::new(env!("CARGO_TARGET_TMPDIR")), &settings, &files)?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("authority.pem"), own.authority).unwrap();
        std::fs::write(folder.path().join("other.pem"), other.authority).unwrap();
        Some(Self { server, folder })
    }

    fn url(&self, host: &str, mode: &str, authority: Option<&str>) -> String {
        let root = authority.map(|name| format!("&sslrootcert={}", self.folder.path().join(name).display()));
        let (port, root) = (self.server.port(), root.unwrap_or_default());
        format!("postgres://{ROLE}@{host}:{port}/postgres?sslmode={mode}{root}")
    }

    fn encrypted_connections(&self) -> String {
        let client = Client::connect(&self.server.url());
        let sql = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
            WHERE ssl AND application_name = 'hfs'";
        client.query(sql).remove(0).remove(0)
    }
}

fn open(url: &str) -> Result<PostgresStore, StoreError> {
    PostgresStore::open(url, &PostgresOptions::default())
}

#[test]
fn each_mode_checks_as_much_of_the_certificate_as_libpq_does() {
    let Some(server) = TlsServer::start() else { return };
    let (known, unknown) = (Some("authority.pem"), Some("other.pem"));
    for (host, mode, authority) in [
        ("localhost", "verify-full", known),
        ("localhost", "verify-ca", known),
        // The name is not checked.
        ("127.0.0.1", "verify-ca", known),
        ("127.0.0.1", "require", None),
        // With a file of authorities, `require` checks as `verify-ca` does.
        ("127.0.0.1", "require", known),
        ("127.0.0.1", "prefer", None),
    ] {
        let url = server.url(host, mode, authority);
        let store = open(&url)
            .unwrap_or_else(|error| panic!("{url}: {error}: {:?}", std::error::Error::source(&error)));
        assert_eq!(store.info().unwrap().sessions, 0);
        assert_ne!(server.encrypted_connections(), "0", "{url}");
    }
    for (host, mode, authority, reason) in [
        ("127.0.0.1", "verify-full", known, "not valid for"),
        ("localhost", "verify-full", unknown, "UnknownIssuer"),
        ("localhost", "verify-ca", unknown, "UnknownIssuer"),
        ("127.0.0.1", "require", unknown, "UnknownIssuer"),
    ] {
        let url = server.url(host, mode, authority);
        let error = open(&url).expect_err(&url);
        let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{text}");
        assert!(text.contains(reason) && text.contains("sslrootcert"), "{url}: {text}");
    }
    let missing = server.url("localhost", "verify-full", Some("missing.pem"));
    let error = open(&missing).expect_err(&missing);
    assert!(error.to_string().contains("missing.pem"), "{error}");
}

#[test]
fn the_service_file_names_the_server_and_how_it_is_checked() {
    let Some(server) = TlsServer::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let service = |name: &str, authority: &str| {
        format!(
            "[{name}]\nhost=localhost\nport={}\nuser={ROLE}\ndbname=postgres\nsslmode=verify-full\nsslrootcert={}\n",
            server.server.port(),
            server.folder.path().join(authority).display()
        )
    };
    let services = format!("{}{}", service("team", "authority.pem"), service("wrong", "other.pem"));
    std::fs::write(home.path().join(".pg_service.conf"), services).unwrap();
    let open = |url: &str, named: Option<&str>| {
        let named = named.map(str::to_owned);
        let variable = move |name: &str| named.clone().filter(|_| name == "PGSERVICE");
        let environment = Environment::new(variable, Some(home.path().to_path_buf()));
        PostgresStore::open(url, &PostgresOptions { environment, ..PostgresOptions::default() })
    };
    for (url, variable) in [("postgres:///?service=team", None), ("postgres://", Some("team"))] {
        let store = open(url, variable).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(store.info().unwrap().sessions, 0);
        assert_ne!(server.encrypted_connections(), "0");
    }
    assert_eq!(open("postgres:///?service=wrong", None).unwrap_err().kind(), ErrorKind::Unavailable);
}
