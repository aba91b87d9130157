//! The address of a store on PostgreSQL, and where the rest of its connection settings come from.
//!
//! The settings are those of libpq. Each comes from the first of these places that has it: the address
//! (`postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE?NAME=VALUE&...`), the service that the address or `PGSERVICE`
//! names in the service file, the environment, and for the password the password file.
//!
//! A value may be a secret, and a typing error may put a password anywhere. So no error contains any part of the address
//! except for the name of a setting that is known.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hfs_core::StoreError;
use hfs_store::StoreUrl;
use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Result, invalid};
use crate::tls::{self, TlsMode};

/// Files larger than this are not password files or service files.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Default of `connect_timeout`; without one, a connection to a host that does not answer takes minutes to fail.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Defaults of the keepalives, which find a connection that a firewall or a failover has dropped.
const KEEPALIVES_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVES_RETRIES: u32 = 3;

type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Where settings come from that are not in the address.
#[derive(Clone)]
pub struct Environment {
    variable: Variables,
    home: Option<PathBuf>,
}

impl Environment {
    /// An environment with these variables and this home directory, where `.pgpass`, `.pg_service.conf` and
    /// `.postgresql/root.crt` are looked for.
    pub fn new(
        variable: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
        home: Option<PathBuf>,
    ) -> Self {
        Self { variable: Arc::new(variable), home }
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(name))
    }
}

impl Default for Environment {
    /// An empty environment.
    fn default() -> Self {
        Self::new(|_| None, None)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("home", &self.home).finish_non_exhaustive()
    }
}

/// The settings of a connection, with the variable that sets the default of each.
const SETTINGS: &[(&str, Option<&str>)] = &[
    ("host", Some("PGHOST")),
    ("hostaddr", Some("PGHOSTADDR")),
    ("port", Some("PGPORT")),
    ("dbname", Some("PGDATABASE")),
    ("user", Some("PGUSER")),
    ("password", Some("PGPASSWORD")),
    ("passfile", Some("PGPASSFILE")),
    ("service", Some("PGSERVICE")),
    ("servicefile", Some("PGSERVICEFILE")),
    ("sslmode", Some("PGSSLMODE")),
    ("sslnegotiation", Some("PGSSLNEGOTIATION")),
    ("sslrootcert", Some("PGSSLROOTCERT")),
    ("sslcert", Some("PGSSLCERT")),
    ("sslkey", Some("PGSSLKEY")),
    ("channel_binding", Some("PGCHANNELBINDING")),
    ("application_name", Some("PGAPPNAME")),
    ("connect_timeout", Some("PGCONNECT_TIMEOUT")),
    ("target_session_attrs", Some("PGTARGETSESSIONATTRS")),
    ("load_balance_hosts", Some("PGLOADBALANCEHOSTS")),
    ("tcp_user_timeout", None),
    ("keepalives", None),
    ("keepalives_idle", None),
    ("keepalives_interval", None),
    ("keepalives_retries", None),
];

/// Where the store is. `Display` and `Debug` contain no secret.
pub(crate) struct Address {
    url: StoreUrl,
    config: Config,
    tls: TlsMode,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.url, f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Address {
    /// Parses an address and completes it from the environment.
    pub(crate) fn parse(text: &str, environment: &Environment) -> Result<Self> {
        let mut settings = settings_of_url(text)?;
        add_service(&mut settings, environment)?;
        for (name, variable) in SETTINGS {
            if let Some(value) = variable.and_then(|variable| environment.variable(variable)) {
                settings.entry(name).or_insert(value);
            }
        }
        let config = config(&settings, environment)?;
        let tls = tls_mode(&settings, environment)?;
        Ok(Self { url: StoreUrl::Postgres(text.to_owned()), config, tls })
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn tls(&self) -> Result<MakeRustlsConnect> {
        tls::connector(&self.tls)
    }
}

type Settings = BTreeMap<&'static str, String>;

fn known(name: &str) -> Option<&'static str> {
    SETTINGS.iter().map(|(known, _)| *known).find(|known| *known == name)
}

fn not_an_address() -> crate::error::Error {
    invalid(
        "the address of the store is not valid: expected postgres://USER@HOST:PORT/DATABASE?NAME=VALUE, with % and \
         two hexadecimal digits for special characters in a password",
    )
}

fn decode(text: &str) -> Result<String> {
    percent_decode_str(text).decode_utf8().map(Cow::into_owned).map_err(|_| not_an_address())
}

fn settings_of_url(text: &str) -> Result<Settings> {
    let rest = text.split_once("://").map(|(_, rest)| rest).ok_or_else(not_an_address)?;
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let (authority, database) =
        place.split_once('/').map_or((place, ""), |(authority, rest)| (authority, rest));
    let (login, hosts) =
        authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
    let mut settings = Settings::new();
    if let Some(login) = login {
        let (user, password) = login.split_once(':').map_or((login, None), |(user, rest)| (user, Some(rest)));
        if !user.is_empty() {
            settings.insert("user", decode(user)?);
        }
        if let Some(password) = password {
            settings.insert("password", decode(password)?);
        }
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',').filter(|host| !host.is_empty()) {
        // The colons of an address in brackets do not separate a port.
        let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, port)) => (name, port.strip_prefix(':')),
            None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
        };
        names.push(decode(name)?);
        ports.push(port.unwrap_or_default().to_owned());
    }
    if !names.is_empty() {
        settings.insert("host", names.join(","));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        let default = |port: &String| if port.is_empty() { "5432".to_owned() } else { port.clone() };
        settings.insert("port", ports.iter().map(default).collect::<Vec<_>>().join(","));
    }
    if !database.is_empty() {
        settings.insert("dbname", decode(database)?);
    }
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(not_an_address)?;
        // The name of an unknown setting may be a part of a password that contains a question mark.
        let name = known(name).ok_or_else(|| {
            let names: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).collect();
            invalid(format!(
                "the address of the store has an unknown setting after the question mark: known are {}",
                names.join(", ")
            ))
        })?;
        settings.insert(name, decode(value)?);
    }
    Ok(settings)
}

/// Adds the settings of the service that is named.
fn add_service(settings: &mut Settings, environment: &Environment) -> Result<()> {
    let Some(service) = settings.get("service").cloned().or_else(|| environment.variable("PGSERVICE")) else {
        return Ok(());
    };
    let named = settings.get("servicefile").cloned().or_else(|| environment.variable("PGSERVICEFILE"));
    let path = named.map(PathBuf::from).or_else(|| environment.file(".pg_service.conf"));
    let path = path.ok_or_else(|| {
        invalid(format!("the service {service:?} is not found: there is no home directory"))
    })?;
    let text = read(&path, "service file")?;
    let mut found = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            if found {
                break;
            }
            found = section == service;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| found && !line.starts_with('#')) {
            let name = known(name.trim()).ok_or_else(|| {
                invalid(format!("the service {service:?} in {} has an unknown setting", path.display()))
            })?;
            settings.entry(name).or_insert_with(|| value.trim().to_owned());
        }
    }
    if found {
        return Ok(());
    }
    Err(invalid(format!("the service file {} has no service {service:?}", path.display())))
}

fn read(path: &Path, what: &str) -> Result<String> {
    let failed = |error| StoreError::Unavailable {
        action: format!("read the {what} {}", path.display()),
        source: Box::new(error) as Box<dyn std::error::Error + Send + Sync>,
    };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn config(settings: &Settings, environment: &Environment) -> Result<Config> {
    let mut config = words(settings)?;
    let get = |name: &'static str| settings.get(name).map(String::as_str);
    let hosts: Vec<&str> = get("host").map(|hosts| hosts.split(',').collect()).unwrap_or_default();
    let hosts = if hosts.is_empty() { vec!["localhost"] } else { hosts };
    for host in &hosts {
        config.host(*host);
    }
    let not_valid = |name: &str| invalid(format!("the setting {name} of the store's address is not valid"));
    let mut ports = Vec::new();
    for port in get("port").unwrap_or("5432").split(',') {
        ports.push(port.parse::<u16>().map_err(|_| not_valid("port"))?);
    }
    if ports.len() != 1 && ports.len() != hosts.len() {
        return Err(invalid("the address of the store has a different number of hosts and ports"));
    }
    for port in &ports {
        config.port(*port);
    }
    if hosts.len() > 1 && get("target_session_attrs").is_none() {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    for address in get("hostaddr").into_iter().flat_map(|addresses| addresses.split(',')) {
        config.hostaddr(address.parse().map_err(|_| not_valid("hostaddr"))?);
    }
    let user = get("user").map(str::to_owned).or_else(|| environment.variable("USER"));
    let user = user.ok_or_else(|| {
        invalid("the address of the store names no user: expected postgres://USER@HOST:PORT/DATABASE")
    })?;
    let database = get("dbname").unwrap_or(&user).to_owned();
    config.user(&user).dbname(&database);
    let password = match get("password") {
        Some(password) => Some(password.to_owned()),
        None => password_from_file(settings, environment, (&hosts, &ports), &database, &user)?,
    };
    if let Some(password) = password {
        config.password(password);
    }
    config.application_name(get("application_name").unwrap_or("hfs"));
    config.connect_timeout(seconds(settings, "connect_timeout")?.unwrap_or(DEFAULT_CONNECT_TIMEOUT));
    config.keepalives(get("keepalives") != Some("0"));
    config.keepalives_idle(seconds(settings, "keepalives_idle")?.unwrap_or(KEEPALIVES_IDLE));
    config.keepalives_interval(seconds(settings, "keepalives_interval")?.unwrap_or(KEEPALIVES_INTERVAL));
    config.keepalives_retries(KEEPALIVES_RETRIES);
    config.ssl_mode(match get("sslmode").unwrap_or("prefer") {
        "disable" => SslMode::Disable,
        "allow" | "prefer" => SslMode::Prefer,
        "require" | "verify-ca" | "verify-full" => SslMode::Require,
        _ => {
            return Err(invalid(
                "the setting sslmode of the store's address is not valid: expected disable, allow, prefer, require, \
                 verify-ca or verify-full",
            ));
        }
    });
    Ok(config)
}

/// A configuration with the settings whose values are words, which the library parses.
fn words(settings: &Settings) -> Result<Config> {
    const WORDS: [&str; 4] =
        ["target_session_attrs", "channel_binding", "sslnegotiation", "load_balance_hosts"];
    let mut config = String::new();
    for name in WORDS {
        if let Some(value) = settings.get(name) {
            config.extend([name, "=", value, " "]);
        }
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=' | ' ');
    let parsed = config.chars().all(is_word).then(|| config.parse().ok()).flatten();
    let names = WORDS.join(", ");
    parsed.ok_or_else(|| invalid(format!("one of the settings {names} of the store's address is not valid")))
}

fn seconds(settings: &Settings, name: &'static str) -> Result<Option<Duration>> {
    let Some(value) = settings.get(name) else { return Ok(None) };
    let seconds: u64 = value.parse().map_err(|_| {
        invalid(format!("the setting {name} of the store's address is not a number of seconds"))
    })?;
    // 0 stands for no limit, and nothing waits endlessly here.
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

/// The password for the first host that the password file has one for.
fn password_from_file(
    settings: &Settings,
    environment: &Environment,
    (hosts, ports): (&[&str], &[u16]),
    database: &str,
    user: &str,
) -> Result<Option<String>> {
    let named = settings.get("passfile").map(PathBuf::from);
    let is_named = named.is_some();
    let Some(path) = named.or_else(|| environment.file(".pgpass")) else { return Ok(None) };
    if !path.exists() && !is_named {
        return Ok(None);
    }
    check_is_private(&path)?;
    let text = read(&path, "password file")?;
    for (index, host) in hosts.iter().enumerate() {
        let port = ports.get(index).or_else(|| ports.first()).map(u16::to_string).unwrap_or_default();
        // libpq looks up the host of a socket as `localhost`.
        let host = if host.starts_with('/') { "localhost" } else { host };
        let found = text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
            let fields = fields_of_line(line);
            let [a_host, a_port, a_database, a_user, password] = fields.as_slice() else { return None };
            let wanted = [(a_host, host), (a_port, &*port), (a_database, database), (a_user, user)];
            wanted.iter().all(|(field, value)| *field == "*" || field == value).then(|| password.clone())
        });
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The five fields of a line of a password file. A backslash precedes a colon or a backslash inside a field.
fn fields_of_line(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let is_last = fields.len() == 5;
        match c {
            ':' if !is_last => fields.push(String::new()),
            '\\' => fields.last_mut().into_iter().for_each(|field| field.extend(chars.next())),
            c => fields.last_mut().into_iter().for_each(|field| field.push(c)),
        }
    }
    fields
}

/// Like libpq, ignores no password file silently: one that others can read is an error.
fn check_is_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        return Err(invalid(format!(
            "the password file {} can be read by others: change that with chmod 600",
            path.display()
        )));
    }
    Ok(())
}

fn tls_mode(settings: &Settings, environment: &Environment) -> Result<TlsMode> {
    let get = |name: &'static str| settings.get(name).map(String::as_str);
    let default_root = environment.file(".postgresql/root.crt").filter(|path| path.exists());
    let root = match get("sslrootcert") {
        Some("system") => None,
        Some(path) => Some(PathBuf::from(path)),
        None => default_root,
    };
    let client = match (get("sslcert"), get("sslkey")) {
        (Some(certificate), Some(key)) => Some((PathBuf::from(certificate), PathBuf::from(key))),
        (None, None) => None,
        _ => return Err(invalid("the settings sslcert and sslkey of the store's address belong together")),
    };
    Ok(TlsMode {
        check: match (get("sslmode"), &root) {
            (Some("verify-full"), _) => tls::Check::Full,
            // As in libpq, `require` checks the certificate if there is a root certificate.
            (Some("verify-ca"), _) | (Some("require"), Some(_)) => tls::Check::Authority,
            _ => tls::Check::None,
        },
        root,
        client,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &'static [(&'static str, &'static str)], home: Option<&Path>) -> Environment {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Environment::new(variable, home.map(Path::to_owned))
    }

    fn password(address: &Address) -> Option<&str> {
        address.config.get_password().map(|bytes| std::str::from_utf8(bytes).unwrap())
    }

    #[test]
    fn an_address_has_all_settings_of_libpq() {
        let text =
            "postgres://me:s%40same@one:1,[::1]:2/db%20x?sslmode=disable&target_session_attrs=read-write";
        let address = Address::parse(text, &Environment::default()).unwrap();
        assert_eq!(address.config.get_user(), Some("me"));
        assert_eq!(password(&address), Some("s@same"));
        assert_eq!(address.config.get_ports(), [1, 2]);
        assert_eq!(address.config.get_hosts().len(), 2);
        assert_eq!(address.config.get_dbname(), Some("db x"));
        assert_eq!(address.config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }

    #[test]
    fn the_environment_and_the_service_complete_an_address_and_do_not_replace_it() {
        let home = tempfile::tempdir().unwrap();
        let services = "[other]\nuser=nobody\n[team]\n# ours\nhost=db.example\nuser=service\ndbname=notes\n";
        std::fs::write(home.path().join(".pg_service.conf"), services).unwrap();
        let environment = environment(
            &[("PGUSER", "me"), ("PGPASSWORD", "sesame"), ("PGHOST", "elsewhere"), ("PGPORT", "7")],
            Some(home.path()),
        );
        let address = Address::parse("postgres:///app?service=team", &environment).unwrap();
        assert_eq!(address.config.get_user(), Some("service"));
        assert_eq!(address.config.get_dbname(), Some("app"));
        assert_eq!(password(&address), Some("sesame"));
        assert_eq!(address.config.get_ports(), [7]);
        assert!(Address::parse("postgres:///app?service=missing", &environment).is_err());
    }

    #[test]
    fn a_password_comes_from_the_password_file_of_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".pgpass");
        std::fs::write(&path, "# passwords\nother:*:*:*:no\nhost:5432:db:me:a\\:b\\\\c:d\n").unwrap();
        let parse = || Address::parse("postgres://me@host/db", &environment(&[], Some(home.path())));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(parse().unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(password(&parse().unwrap()), Some("a:b\\c:d"));
    }

    #[test]
    fn no_secret_is_in_an_error_or_a_shown_address() {
        for text in [
            "postgres://me:what?sesame@host/db",
            "postgres://me:sesame@host/db?sesame=1",
            "postgres://me:sesame@host:sesame/db",
            "postgres://me:%ffsesame@host/db",
            "postgres://me:sesame@host/db?sslmode=sesame",
            "postgres://me:sesame@host/db?connect_timeout=sesame",
            "postgres://me:sesame@host/db?password=sesame",
        ] {
            let shown = match Address::parse(text, &Environment::default()) {
                Ok(address) => format!("{address} {address:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("sesame"), "{shown}");
        }
    }
}
