//! Generated texts with a secret, and texts with something that resembles one, for measuring how many secrets a search
//! finds and how many of its findings are secrets.
//!
//! The surroundings are those of conversations with coding agents: shells, configuration files, tool calls, diffs, logs,
//! headers, prose. The same seed generates the same table.

pub mod uncommon;

use fastrand::Rng;

/// A row of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// What the text contains, such as `GitHub token in a diff`.
    pub kind: String,
    /// The text.
    pub text: String,
    /// The secret in it; `None` for a lookalike.
    pub secret: Option<String>,
}

/// `count` texts with one secret each.
#[must_use]
pub fn secrets(seed: u64, count: usize) -> Vec<Row> {
    let mut rng = Rng::with_seed(seed);
    (0..count)
        .map(|index| match index % 5 {
            0 | 1 => token_row(&mut rng, index),
            2 | 3 => password_row(&mut rng, index),
            _ => key_row(&mut rng, index),
        })
        .collect()
}

/// `count` texts without a secret.
#[must_use]
pub fn lookalikes(seed: u64, count: usize) -> Vec<Row> {
    let mut rng = Rng::with_seed(seed ^ 0x5eed);
    (0..count).map(|index| lookalike_row(&mut rng, index)).collect()
}

const DIGITS: &str = "0123456789";
const HEX: &str = "0123456789abcdef";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const UPPER32: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const URL64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn draw(rng: &mut Rng, characters: &str, length: usize) -> String {
    let characters: Vec<char> = characters.chars().collect();
    (0..length).filter_map(|_| rng.choice(characters.iter())).collect()
}

/// Letters and digits, at least two of each, as generators for keys yield.
fn alnum(rng: &mut Rng, length: usize) -> String {
    loop {
        let text = draw(rng, ALNUM, length);
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        if digits >= 2 && digits + 2 <= length {
            return text;
        }
    }
}

fn pick<'t>(rng: &mut Rng, items: &[&'t str]) -> &'t str {
    rng.choice(items.iter().copied()).unwrap_or_default()
}

fn uuid(rng: &mut Rng) -> String {
    let groups = [8, 4, 4, 4, 12].map(|length| draw(rng, HEX, length));
    groups.join("-")
}

/// A token that a provider marks, with its name.
fn token(rng: &mut Rng, index: usize) -> (&'static str, String) {
    match index % 44 {
        0 => ("GitHub token", format!("ghp_{}", alnum(rng, 36))),
        1 => ("GitHub fine-grained token", format!("github_pat_{}_{}", alnum(rng, 22), alnum(rng, 59))),
        2 => ("Anthropic key", format!("sk-ant-api03-{}AA", draw(rng, URL64, 93))),
        3 => ("Claude Code access token", format!("sk-ant-oat01-{}AA", draw(rng, URL64, 93))),
        4 => ("Claude Code refresh token", format!("sk-ant-ort01-{}AA", draw(rng, URL64, 93))),
        5 => (
            "OpenAI project key",
            format!("sk-proj-{}T3BlbkFJ{}", draw(rng, URL64, 74), draw(rng, URL64, 74)),
        ),
        6 => ("OpenAI key", format!("sk-{}T3BlbkFJ{}", alnum(rng, 20), alnum(rng, 20))),
        7 => ("LiteLLM key", format!("sk-{}", alnum(rng, 22))),
        8 => ("DeepSeek key", format!("sk-{}", draw(rng, HEX, 32))),
        9 => ("OpenRouter key", format!("sk-or-v1-{}", draw(rng, HEX, 64))),
        10 => ("AWS access key", format!("AKIA{}", draw(rng, UPPER32, 16))),
        11 => ("Google key", format!("AIzaSy{}", draw(rng, URL64, 33))),
        12 => ("Google access token", format!("ya29.a0{}", draw(rng, URL64, 120))),
        13 => ("Google refresh token", format!("1//0{}", draw(rng, URL64, 60))),
        14 => ("Google client secret", format!("GOCSPX-{}", draw(rng, URL64, 28))),
        15 => (
            "Slack bot token",
            format!("xoxb-{}-{}-{}", draw(rng, DIGITS, 12), draw(rng, DIGITS, 12), alnum(rng, 24)),
        ),
        16 => (
            "Slack webhook",
            format!("T{}/B{}/{}", draw(rng, UPPER32, 8), draw(rng, UPPER32, 10), alnum(rng, 24)),
        ),
        17 => ("Stripe key", format!("sk_live_{}", alnum(rng, 24))),
        18 => ("Stripe restricted key", format!("rk_live_51{}", alnum(rng, 97))),
        19 => ("Stripe webhook secret", format!("whsec_{}", alnum(rng, 32))),
        20 => ("GitLab token", format!("glpat-{}", draw(rng, URL64, 19) + "x")),
        21 => ("npm token", format!("npm_{}", alnum(rng, 36))),
        22 => ("PyPI token", format!("pypi-AgEIcHlwaS5vcmc{}", draw(rng, URL64, 150))),
        23 => ("Hugging Face token", format!("hf_{}", draw(rng, &(UPPER.to_owned() + LOWER), 34))),
        24 => ("SendGrid key", format!("SG.{}.{}", draw(rng, URL64, 22), draw(rng, URL64, 42) + "k")),
        25 => (
            "JSON Web Token",
            format!(
                "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ{}.{}",
                alnum(rng, 80),
                draw(rng, URL64, 42) + "Q"
            ),
        ),
        26 => ("Telegram token", format!("{}:AA{}", draw(rng, "123456789", 10), draw(rng, URL64, 32) + "w")),
        27 => (
            "Discord token",
            format!("MTA{}.{}.{}", alnum(rng, 21), draw(rng, ALNUM, 6), draw(rng, URL64, 26) + "z"),
        ),
        28 => ("DigitalOcean token", format!("dop_v1_{}", draw(rng, HEX, 64))),
        29 => ("Shopify token", format!("shpat_{}", draw(rng, HEX, 32))),
        30 => ("Groq key", format!("gsk_{}", alnum(rng, 52))),
        31 => ("xAI key", format!("xai-{}", alnum(rng, 80))),
        32 => ("Linear key", format!("lin_api_{}", alnum(rng, 40))),
        33 => ("Notion token", format!("ntn_{}{}", draw(rng, DIGITS, 11), alnum(rng, 35))),
        34 => ("Databricks token", format!("dapi{}", draw(rng, HEX, 32))),
        35 => ("Vault token", format!("hvs.{}", draw(rng, URL64, 93) + "c")),
        36 => ("Twilio key", format!("SK{}", draw(rng, HEX, 32))),
        37 => ("Azure client secret", format!("{}8Q~{}", draw(rng, ALNUM, 3), draw(rng, URL64, 33) + "b")),
        38 => ("Grafana token", format!("glsa_{}_{}", alnum(rng, 32), draw(rng, HEX, 8))),
        39 => ("New Relic key", format!("NRAK-{}", draw(rng, "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", 27))),
        40 => ("Docker token", format!("dckr_pat_{}", draw(rng, URL64, 26) + "d")),
        41 => ("Perplexity key", format!("pplx-{}", alnum(rng, 48))),
        42 => ("Supabase token", format!("sbp_{}", draw(rng, HEX, 40))),
        _ => ("Tailscale key", format!("tskey-auth-{}-{}", alnum(rng, 12), alnum(rng, 32))),
    }
}

fn token_row(rng: &mut Rng, index: usize) -> Row {
    let number = rng.usize(..44);
    let (name, token) = token(rng, number);
    if name == "Slack webhook" {
        let text =
            format!("curl -X POST -d '{{\"text\":\"deployed\"}}' https://hooks.slack.com/services/{token}");
        return Row { kind: format!("{name} in a URL"), text, secret: Some(token) };
    }
    let (place, text) = match index * 7 % 18 {
        0 => ("prose", format!("Use this one for now: {token}. I will rotate it tomorrow.")),
        1 => {
            ("a diff", format!("@@ -3,7 +3,7 @@\n-client = Client(\"old\")\n+client = Client(\"{token}\")\n"))
        }
        2 => ("a log", format!("2026-03-04T10:11:12Z DEBUG http: sending {token} to upstream (attempt 2)")),
        3 => (
            "JSON",
            format!("{{\"command\": \"deploy\", \"args\": [\"--with\", \"{token}\"], \"timeout\": 30}}"),
        ),
        4 => ("JSON in JSON", format!("{{\"arguments\":\"{{\\\"cmd\\\":[\\\"run\\\",\\\"{token}\\\"]}}\"}}")),
        5 => (
            "a header",
            format!("GET /v1/me HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {token}\r\n\r\n"),
        ),
        6 => {
            ("curl", format!("curl -sS -H 'Authorization: Bearer {token}' https://api.test/v1/models | jq ."))
        }
        7 => (
            "an environment file",
            format!("# deployment\nLOG_LEVEL=info\nSERVICE_TOKEN={token}\nPORT=8080\n"),
        ),
        8 => ("a shell", format!("$ export CREDENTIAL={token}\n$ ./run.sh\nok\n")),
        9 => ("YAML", format!("env:\n  - name: X\n  - value: {token}\n  region: eu\n")),
        10 => (
            "Python",
            format!("client = make_client(\n    base=\"https://api.test\",\n    credential='{token}',\n)"),
        ),
        11 => ("a table", format!("| service | credential |\n|---|---|\n| billing | {token} |\n")),
        12 => ("a colored terminal", format!("\u{1b}[2mtoken\u{1b}[0m \u{1b}[32m{token}\u{1b}[0m\n")),
        13 => ("a query", format!("https://api.test/v2/items?limit=20&access_token={token}&sort=asc")),
        14 => ("a line break of JSON", format!("{{\"output\":\"saved\\n{token}\\ndone\"}}")),
        15 => ("parentheses", format!("the bot ({token}) was added to the channel")),
        16 => ("quotes", format!("It printed `{token}` and stopped.")),
        _ => ("XML", format!("<settings><credential>{token}</credential><retry>3</retry></settings>")),
    };
    Row { kind: format!("{name} in {place}"), text, secret: Some(token) }
}

/// A password of the kinds that people and programs choose. Without characters that need quotes if `is_plain`.
fn password(rng: &mut Rng, is_plain: bool) -> String {
    let word = pick(
        rng,
        &[
            "Sunset", "dragon", "Falcon", "winter", "Zephyr", "marble", "Kestrel", "orchid", "quartz",
            "Nimbus",
        ],
    );
    let symbol = if is_plain {
        pick(rng, &["-", "_", ".", "+"])
    } else {
        pick(rng, &["!", "#", "$", "&", "*", "@", "%", "^"])
    };
    match rng.usize(..6) {
        0 => format!("{word}{symbol}{}", draw(rng, "123456789", 4)),
        1 => alnum(rng, 16),
        2 => format!("{}{symbol}{}", alnum(rng, 7), alnum(rng, 6)),
        3 => format!("{}{}{}", draw(rng, "24680", 2), word.to_lowercase(), draw(rng, "13579", 3)),
        4 => format!("{}{symbol}{word}{}", draw(rng, UPPER, 2), draw(rng, "3579", 2)),
        _ => draw(rng, BASE64, 20).replace(['+', '/'], "x") + "7",
    }
}

fn password_row(rng: &mut Rng, index: usize) -> Row {
    // Places in which every character is possible come first.
    let place = index * 11 % 40;
    let secret = password(rng, place >= 20);
    let user = pick(rng, &["admin", "app", "svc_billing", "postgres", "jane.doe", "root"]);
    let p = &secret;
    let (place, text) = match place {
        0 => ("JSON", format!("{{\"username\": \"{user}\", \"password\": \"{p}\", \"ssl\": true}}")),
        1 => (
            "JSON in JSON",
            format!("{{\"input\":\"{{\\\"user\\\":\\\"{user}\\\",\\\"password\\\":\\\"{p}\\\"}}\"}}"),
        ),
        2 => (
            "JSON in JSON in JSON",
            format!("\"{{\\\"a\\\":\\\"{{\\\\\\\"db_password\\\\\\\":\\\\\\\"{p}\\\\\\\"}}\\\"}}\""),
        ),
        3 => ("Python", format!("conn = psycopg2.connect(host=\"db\", user=\"{user}\", password=\"{p}\")")),
        4 => ("TypeScript", format!("const pool = new Pool({{ user: '{user}', password: '{p}', max: 5 }});")),
        5 => ("an annotated constant", format!("DB_PASSWORD: str = \"{p}\"\n")),
        6 => ("Go", format!("cfg := Config{{User: \"{user}\", Password: \"{p}\"}}")),
        7 => ("Ruby", format!("{{ :user => \"{user}\", :password => \"{p}\" }}")),
        8 => ("PHP", format!("define('DB_PASSWORD', '{p}');\ndefine('DB_HOST', 'localhost');")),
        9 => (
            "Terraform",
            format!("resource \"db\" \"x\" {{\n  username = \"{user}\"\n  password = \"{p}\"\n}}"),
        ),
        10 => ("an environment file", format!("DB_USER={user}\nDB_PASSWORD={p}\nDB_PORT=5432\n")),
        11 => ("a quoted variable", format!("export PGPASSWORD='{p}'\npsql -h db -U {user}\n")),
        12 => ("YAML", format!("database:\n  user: {user}\n  password: \"{p}\"\n  port: 5432\n")),
        13 => ("SQL", format!("CREATE USER {} WITH PASSWORD '{p}';", user.replace('.', "_"))),
        14 => ("MySQL", format!("CREATE USER 'u'@'%' IDENTIFIED BY '{p}';\nFLUSH PRIVILEGES;")),
        15 => ("sshpass", format!("sshpass -p '{p}' ssh {user}@10.0.0.7 uptime")),
        16 => ("curl", format!("curl -u '{user}:{p}' https://ci.test/job/build")),
        17 => {
            ("an option", format!("mytool login --username {user} --password '{p}' --server https://x.test"))
        }
        18 => (
            "Kubernetes",
            format!(
                "{{\"env\": [{{\"name\": \"DB_PASSWORD\", \"value\": \"{p}\"}}, {{\"name\": \"PORT\", \"value\": \"80\"}}]}}"
            ),
        ),
        19 => ("an INI file", format!("[client]\nuser = {user}\npassword = \"{p}\"\n")),
        20 => (
            "a URL of PostgreSQL",
            format!("DATABASE_URL=postgresql://{user}:{p}@db.internal:5432/app?sslmode=require"),
        ),
        21 => (
            "a URL of MongoDB",
            format!("mongodb+srv://{user}:{p}@cluster0.ab12c.mongodb.net/test?retryWrites=true"),
        ),
        22 => ("a URL of Redis", format!("cache = Redis.from_url('redis://:{p}@cache:6379/0')")),
        23 => ("a URL of git", format!("git clone https://{user}:{p}@git.test/team/repo.git")),
        24 => ("a URL of AMQP", format!("amqps://{user}:{p}@queue.test/vhost")),
        25 => ("a proxy", format!("export https_proxy=http://{user}:{p}@proxy.corp:3128")),
        26 => ("JDBC", format!("jdbc:mysql://db:3306/app?user={user}&password={p}&useSSL=false")),
        27 => (
            "a connection string",
            format!("Server=tcp:db.test,1433;User ID={user};Password={p};Encrypt=True;"),
        ),
        28 => ("properties", format!("spring.datasource.username={user}\nspring.datasource.password={p}\n")),
        29 => (
            "a compose file",
            format!("    environment:\n      - POSTGRES_USER={user}\n      - POSTGRES_PASSWORD={p}\n"),
        ),
        30 => ("mysql", format!("mysql -h db -u {user} -p{p} app < dump.sql")),
        31 => ("netrc", format!("machine git.test login {user} password {p}\n")),
        32 => ("XML", format!("<server><username>{user}</username><password>{p}</password></server>")),
        33 => ("a form", format!("POST /login\n\nusername={user}&password={p}&remember=1")),
        34 => ("prose", format!("The staging password is {p}, please do not share it.")),
        35 => ("YAML without quotes", format!("smtp:\n  host: mail.test\n  password: {p}\n  port: 587\n")),
        36 => ("a Dockerfile", format!("FROM node:22\nENV ADMIN_PASSWORD={p}\nRUN npm ci\n")),
        37 => ("a note", format!("login: {user}\npassword: {p}\n")),
        38 => ("redis-cli", format!("redis-cli -h cache -a {p} ping")),
        _ => ("a URL in JSON", format!("{{\"url\":\"mysql://{user}:{p}@10.1.2.3:3306/shop\"}}")),
    };
    Row { kind: format!("password in {place}"), text, secret: Some(secret) }
}

/// Keys without a mark of their provider; only their name says what they are.
fn key_row(rng: &mut Rng, index: usize) -> Row {
    let secret = match rng.usize(..5) {
        0 => draw(rng, HEX, 32),
        1 => draw(rng, HEX, 64),
        2 => alnum(rng, 40),
        3 => uuid(rng),
        _ => draw(rng, BASE64, 43) + "=",
    };
    let url_safe = secret.replace(['+', '/', '='], "z");
    let (place, text, secret) = match index * 3 % 20 {
        0 => {
            ("an environment file", format!("DATADOG_API_KEY={secret}\nDATADOG_SITE=datadoghq.eu\n"), secret)
        }
        1 => ("a header", format!("X-Api-Key: {url_safe}\nContent-Type: application/json\n"), url_safe),
        2 => ("JSON", format!("{{\"apiKey\": \"{secret}\", \"region\": \"eu\"}}"), secret),
        3 => ("JSON in JSON", format!("{{\"body\":\"{{\\\"client_secret\\\":\\\"{secret}\\\"}}\"}}"), secret),
        4 => ("YAML", format!("mistral:\n  api_key: {secret}\n  model: large\n"), secret),
        5 => ("Python", format!("openai.api_key = \"{secret}\"\n"), secret),
        6 => ("JavaScript", format!("const client = new Client({{ accessToken: '{secret}' }});"), secret),
        7 => ("a query", format!("GET /v1/weather?city=Bonn&api_key={url_safe}&units=metric"), url_safe),
        8 => ("an option", format!("cli deploy --token {url_safe} --prod"), url_safe),
        9 => (
            "a connection string",
            format!(
                "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey={secret};EndpointSuffix=core.windows.net"
            ),
            secret,
        ),
        10 => {
            let secret = draw(rng, BASE64, 40);
            (
                "AWS credentials",
                format!("[default]\naws_secret_access_key = {secret}\nregion = eu-central-1\n"),
                secret,
            )
        }
        11 => ("a bearer header", format!("> Authorization: Bearer {url_safe}\n> Accept: */*"), url_safe),
        12 => {
            let lines: Vec<String> = (0..6).map(|_| draw(rng, BASE64, 64)).collect();
            let secret = lines.join("\n");
            let text = format!("-----BEGIN RSA PRIVATE KEY-----\n{secret}\n-----END RSA PRIVATE KEY-----\n");
            ("a private key", text, secret)
        }
        13 => {
            let secret = format!("MIIEvQ{}", draw(rng, BASE64, 120));
            (
                "a service account",
                format!(
                    "{{\"private_key\": \"-----BEGIN PRIVATE KEY-----\\n{secret}\\n-----END PRIVATE KEY-----\\n\", \"client_id\": \"1\"}}"
                ),
                secret,
            )
        }
        14 => ("npmrc", format!("//registry.test/:_authToken={url_safe}\nalways-auth=true\n"), url_safe),
        15 => ("a diff", format!("+JWT_SECRET={secret}\n-JWT_SECRET=\n"), secret),
        16 => {
            let cookie = alnum(rng, 32);
            ("a cookie", format!("Cookie: theme=dark; session={cookie}; lang=de\n"), cookie)
        }
        17 => ("a setter", format!("os.environ[\"SERVICE_API_KEY\"] = \"{secret}\""), secret),
        18 => ("TOML", format!("[auth]\nsecret_key = \"{secret}\"\n"), secret),
        _ => ("a log", format!("INFO config loaded api_key={url_safe} region=eu retries=3"), url_safe),
    };
    Row { kind: format!("key in {place}"), text, secret: Some(secret) }
}

const LOREM: &str =
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore";

fn lookalike_row(rng: &mut Rng, index: usize) -> Row {
    let version = format!("{}.{}.{}", rng.u8(..9), rng.u8(..30), rng.u8(..20));
    let sha1 = draw(rng, HEX, 40);
    let sha256 = draw(rng, HEX, 64);
    let id = uuid(rng);
    let blob = draw(rng, BASE64, 400);
    let number = rng.u32(1000..99999);
    let (kind, text) = match index % 50 {
        0 => ("commit", format!("commit {sha1}\nAuthor: Jane <jane@x.test>\n\n    Fix the token refresh")),
        1 => ("uuid", format!("{{\"sessionId\":\"{id}\",\"requestId\":\"{}\"}}", uuid(rng))),
        2 => ("placeholder", format!("OPENAI_API_KEY={}", pick(rng, &["your-api-key-here", "<your key>", "sk-...", "xxxxxxxxxxxx", "changeme"]))),
        3 => ("variable", format!("PASSWORD={} docker compose up", pick(rng, &["$DB_PASSWORD", "${DB_PASSWORD}", "$(cat /run/secret)", "%DB_PASSWORD%"]))),
        4 => ("identifier", "const passwordInput = document.getElementById('password');".to_owned()),
        5 => ("picture", format!("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA{blob}==")),
        6 => ("lorem", format!("{LOREM} {number}")),
        7 => ("package version", format!("\"react\": \"^{version}\", \"token-types\": \"~{version}\"")),
        8 => ("integrity", format!("\"integrity\": \"sha512-{}==\",", draw(rng, BASE64, 86))),
        9 => ("digest", format!("FROM alpine@sha256:{sha256}")),
        10 => ("lock file", format!("name = \"tokio\"\nversion = \"{version}\"\nchecksum = \"{sha256}\"")),
        11 => ("count of tokens", format!("{{\"usage\":{{\"input_tokens\":{number},\"output_tokens\":12,\"cache_read_input_tokens\":0}},\"max_tokens\":4096}}")),
        12 => ("type", "function login(username: string, password: string): Promise<Token> {}".to_owned()),
        13 => ("environment lookup", "api_key = os.environ[\"OPENAI_API_KEY\"]\ntoken = process.env.GITHUB_TOKEN".to_owned()),
        14 => ("call", "password = get_password_from_vault(user)\nsecret = self.settings.client_secret".to_owned()),
        15 => ("header names", "Access-Control-Allow-Headers: Authorization, X-Api-Key, Content-Type".to_owned()),
        16 => ("message id", format!("{{\"id\":\"msg_01{}\",\"tool_use_id\":\"toolu_01{}\"}}", alnum(rng, 22), alnum(rng, 22))),
        17 => ("public key", format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{} jane@laptop", draw(rng, BASE64, 43))),
        18 => ("certificate", format!("-----BEGIN CERTIFICATE-----\nMIID{}\n-----END CERTIFICATE-----", draw(rng, BASE64, 120))),
        19 => ("sentence", "The password must be at least 12 characters and the token is required.".to_owned()),
        20 => ("test output", format!("test result: ok. pass: {number}, fail: 0, secrets: 0, tokens: {number}")),
        21 => ("path", format!("/home/jane/src/token_service/keys/{}.pem", draw(rng, HEX, 8))),
        22 => ("key of a row", format!("cache_key: user:{number}:profile\nprimary_key: {id}\nsort_key: created_at")),
        23 => ("model", "model: claude-sonnet-4-5-20250929\nfallback: gpt-4o-mini-2024-07-18".to_owned()),
        24 => ("email", format!("From: jane.doe+{number}@example.com\nTo: ops@example.org")),
        25 => ("address", format!("http://localhost:{number}/api/v1/users?page=2&sort=name")),
        26 => ("scoped package", format!("https://registry.npmjs.org/@types/node/-/node-{version}.tgz")),
        27 => ("aws documentation", "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned()),
        28 => ("translation", "{\"password\": \"Passwort\", \"token\": \"Zugangscode eingeben\", \"secret\": \"Geheimnis\"}".to_owned()),
        29 => ("documented URL", "postgres://user:password@localhost:5432/mydb".to_owned()),
        30 => ("signature of a function", "fn verify(token: &str, key: &[u8], secret: Option<Secret>) -> bool".to_owned()),
        31 => ("hash in a log", format!("computed md5 {} for chunk {number}", draw(rng, HEX, 32))),
        32 => ("etag", format!("ETag: W/\"{}\"\nCache-Control: max-age={number}", draw(rng, HEX, 32))),
        33 => ("minified code", format!("!function(e,t){{e.key=t.key,e.auth=t.auth;var n={number};return n}}(window,document)")),
        34 => ("CSS", format!("--token-color-{number}: #a1b2c3; --key-size: 12px;")),
        35 => ("trace id", format!("traceparent: 00-{}-{}-01", draw(rng, HEX, 32), draw(rng, HEX, 16))),
        36 => ("keyboard", "key: ArrowDown, keyCode: 40, hotkey: Ctrl+Shift+P".to_owned()),
        37 => ("masked", "password: ********\ntoken: [REDACTED]\napi_key: sk-ant-...wxyz".to_owned()),
        38 => ("kubernetes reference", "valueFrom:\n  secretKeyRef:\n    name: db-credentials\n    key: password".to_owned()),
        39 => ("git remote", "origin  git@github.com:owner/secret-service.git (fetch)".to_owned()),
        40 => ("signature of thinking", format!("\"thinking\":\"\",\"signature\":\"Eq{}==\"", draw(rng, BASE64, 300))),
        41 => ("issue", format!("Auth: fix #{number}: `token` is undefined when the key is missing")),
        42 => ("option without value", "docker login --username jane --password-stdin registry.test".to_owned()),
        43 => ("rust attribute", "#[serde(rename = \"apiKey\", skip_serializing)]\npub api_key: SecretString,".to_owned()),
        44 => ("time", format!("token_expires_at: 2026-05-0{}T10:00:00Z\nsecret_version: {version}", rng.u8(1..9))),
        45 => ("page token", format!("{{\"nextPageToken\":\"{}\",\"items\":[]}}", alnum(rng, 40))),
        46 => ("cursor", format!("{{\"cursor\":\"{}\",\"has_more\":true}}", draw(rng, BASE64, 40))),
        47 => ("prose about keys", "The key idea: a token bucket per API key, with auth handled by the gateway.".to_owned()),
        48 => ("arn", format!("secret: arn:aws:secretsmanager:eu-west-1:{number}12345678:secret:prod/db-AbCdEf")),
        _ => ("build id", format!("build-{number}-{} finished, artifact app-{version}-x86_64-unknown-linux-gnu.tar.gz", draw(rng, HEX, 12))),
    };
    Row { kind: format!("{kind} (lookalike)"), text, secret: None }
}
