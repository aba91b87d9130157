//! Secrets of providers and programs that are less common, and what resembles them.
//!
//! The search was not written with these rows in view, so they measure how well it does on what it was not made for.

use fastrand::Rng;

use super::{ALNUM, BASE64, DIGITS, HEX, LOWER, Row, UPPER, UPPER32, URL64, alnum, draw, password, uuid};

/// `count` texts with one secret each.
#[must_use]
pub fn secrets(seed: u64, count: usize) -> Vec<Row> {
    let mut rng = Rng::with_seed(seed ^ 0x0ff5);
    (0..count)
        .map(|index| {
            let row = match index % 3 {
                0 => variable(&mut rng, index / 3),
                1 => request(&mut rng, index / 3),
                _ => command(&mut rng, index / 3),
            };
            let (kind, text, secret) = row;
            Row { kind: kind.to_owned(), text, secret: Some(secret) }
        })
        .collect()
}

/// `count` texts without a secret.
#[must_use]
pub fn lookalikes(seed: u64, count: usize) -> Vec<Row> {
    let mut rng = Rng::with_seed(seed ^ 0xf00d);
    (0..count)
        .map(|index| {
            let (kind, text) = match index % 2 {
                0 => code_lookalike(&mut rng, index / 2),
                _ => data_lookalike(&mut rng, index / 2),
            };
            Row { kind: format!("{kind} (lookalike)"), text, secret: None }
        })
        .collect()
}

type SecretRow = (&'static str, String, String);

/// Base64 with its padding, of bytes that no text has.
fn base64(rng: &mut Rng, length: usize) -> String {
    draw(rng, BASE64, length - 1) + "="
}

fn base64_of(text: &str) -> String {
    use ::base64::Engine;
    ::base64::engine::general_purpose::STANDARD.encode(text)
}

/// Settings, files and programs.
fn variable(rng: &mut Rng, index: usize) -> SecretRow {
    match index % 38 {
        0 => {
            let key = alnum(rng, 32);
            ("Mistral key", format!("MISTRAL_API_KEY={key}\nMISTRAL_MODEL=codestral-latest\n"), key)
        }
        1 => {
            let key = alnum(rng, 40);
            ("Cohere key", format!("import cohere\nco = cohere.Client(api_key='{key}')\n"), key)
        }
        2 => {
            let key = draw(rng, HEX, 32);
            (
                "Azure OpenAI key",
                format!(
                    "AZURE_OPENAI_API_KEY=\"{key}\"\nAZURE_OPENAI_ENDPOINT=https://x.openai.azure.com/\n"
                ),
                key,
            )
        }
        3 => {
            let key = draw(rng, HEX, 32);
            (
                "Twilio auth token",
                format!("TWILIO_ACCOUNT_SID=AC{}\nTWILIO_AUTH_TOKEN={key}\n", draw(rng, HEX, 32)),
                key,
            )
        }
        4 => {
            let key = format!("{}-us21", draw(rng, HEX, 32));
            ("Mailchimp key", format!("mailchimp:\n  api_key: {key}\n  audience: 12\n"), key)
        }
        5 => {
            let key = draw(rng, HEX, 40);
            (
                "Datadog application key",
                format!("export DD_APP_KEY={key}\nexport DD_SITE=datadoghq.eu\n"),
                key,
            )
        }
        6 => {
            let key = format!("IQoJb3JpZ2luX2Vj{}", draw(rng, BASE64, 400));
            ("AWS session token", format!("export AWS_SESSION_TOKEN={key}\naws s3 ls\n"), key)
        }
        7 => {
            let key = base64(rng, 44);
            (
                "Service Bus key",
                format!(
                    "Endpoint=sb://shop.servicebus.windows.net/;SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey={key}"
                ),
                key,
            )
        }
        8 => {
            let key = base64_of(&format!("deploy:{}", alnum(rng, 20)));
            (
                "npm login",
                format!("//registry.corp.test/:_auth={key}\n//registry.corp.test/:always-auth=true\n"),
                key,
            )
        }
        9 => {
            let key = base64_of(&format!("jane:{}", alnum(rng, 20)));
            (
                "Docker login",
                format!("{{\"auths\": {{\"registry.corp.test\": {{\"auth\": \"{key}\"}}}}}}"),
                key,
            )
        }
        10 => {
            let key = base64_of(&alnum(rng, 18));
            (
                "Kubernetes secret",
                format!("kind: Secret\nmetadata:\n  name: db\ntype: Opaque\ndata:\n  password: {key}\n"),
                key,
            )
        }
        11 => {
            let lines: Vec<String> = (0..5).map(|_| draw(rng, BASE64, 70)).collect();
            let key = lines.join("\n");
            (
                "OpenSSH key",
                format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{key}\n-----END OPENSSH PRIVATE KEY-----\n"),
                key,
            )
        }
        12 => {
            let lines: Vec<String> = (0..6).map(|_| draw(rng, BASE64, 64)).collect();
            let key = lines.join("\n");
            (
                "PGP key",
                format!(
                    "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{key}\n-----END PGP PRIVATE KEY BLOCK-----\n"
                ),
                key,
            )
        }
        13 => {
            let key = base64(rng, 44);
            (
                "WireGuard key",
                format!("[Interface]\nAddress = 10.8.0.2/24\nPrivateKey = {key}\nListenPort = 51820\n"),
                key,
            )
        }
        14 => {
            let key = password(rng, true) + "x9";
            ("wireless network", format!("network={{\n\tssid=\"office\"\n\tpsk=\"{key}\"\n}}\n"), key)
        }
        15 => {
            let key = format!("django-insecure-{}&(^{}$*{}", alnum(rng, 16), alnum(rng, 12), alnum(rng, 14));
            ("Django key", format!("DEBUG = False\nSECRET_KEY = '{key}'\nALLOWED_HOSTS = []\n"), key)
        }
        16 => {
            let key = draw(rng, HEX, 32);
            ("Rails key", format!("RAILS_MASTER_KEY={key} bin/rails credentials:edit\n"), key)
        }
        17 => {
            let key = format!("base64:{}", base64(rng, 44));
            ("Laravel key", format!("APP_NAME=Shop\nAPP_KEY={key}\nAPP_DEBUG=false\n"), key)
        }
        18 => {
            let key = base64(rng, 44);
            (
                "NextAuth secret",
                format!("NEXTAUTH_URL=http://localhost:3000\nNEXTAUTH_SECRET=\"{key}\"\n"),
                key,
            )
        }
        19 => {
            let key = password(rng, false);
            (
                "Ansible",
                format!("ansible_user: deploy\nansible_become_pass: '{key}'\nansible_port: 22\n"),
                key,
            )
        }
        20 => {
            let key = password(rng, false);
            (
                "Kafka",
                format!(
                    "sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"app\" password=\"{key}\";\n"
                ),
                key,
            )
        }
        21 => {
            let key = alnum(rng, 24);
            ("Redis configuration", format!("bind 127.0.0.1\nrequirepass {key}\nmaxmemory 256mb\n"), key)
        }
        22 => {
            let key = password(rng, true);
            (
                "libpq",
                format!(
                    "conn = psycopg.connect(\"host=db.internal dbname=app user=app password={key} connect_timeout=3\")"
                ),
                key,
            )
        }
        23 => {
            let key = password(rng, false);
            ("SQL Server", format!("CREATE LOGIN app WITH PASSWORD = N'{key}', CHECK_POLICY = OFF;"), key)
        }
        24 => {
            let key = password(rng, false);
            ("PowerShell", format!("$pw = ConvertTo-SecureString \"{key}\" -AsPlainText -Force"), key)
        }
        25 => {
            let key = alnum(rng, 64);
            ("Hetzner token", format!("provider \"hcloud\" {{\n  token = \"{key}\"\n}}\n"), key)
        }
        26 => {
            let key = format!("0x{}", draw(rng, HEX, 64));
            ("Ethereum key", format!("RPC_URL=https://rpc.test\nPRIVATE_KEY={key}\nCHAIN_ID=1\n"), key)
        }
        27 => {
            let words = [
                "lunar", "orbit", "canvas", "ripple", "velvet", "anchor", "summer", "tiger", "puzzle",
                "hollow", "garden", "window",
            ];
            let mut words = words.to_vec();
            rng.shuffle(&mut words);
            let key = words.join(" ");
            ("wallet", format!("mnemonic = \"{key}\"\naccount = Account.from_mnemonic(mnemonic)"), key)
        }
        28 => {
            let key = format!("sk.eyJ1Ijoi{}.{}", alnum(rng, 60), draw(rng, URL64, 21) + "Q");
            ("Mapbox secret token", format!("mapboxgl.accessToken = '{key}';"), key)
        }
        29 => {
            let key = format!("1/12{}:{}", draw(rng, DIGITS, 14), draw(rng, HEX, 32));
            ("Asana token", format!("asana.Client.access_token(\"{key}\")\nASANA_ACCESS_TOKEN={key}\n"), key)
        }
        30 => {
            let key = uuid(rng);
            ("Snyk token", format!("env:\n  SNYK_TOKEN: {key}\n  SNYK_ORG: shop\n"), key)
        }
        31 => {
            let key = alnum(rng, 24);
            ("Elasticsearch", format!("ELASTIC_PASSWORD={key}\nKIBANA_PORT=5601\n"), key)
        }
        32 => {
            let key = password(rng, false);
            ("Python login", format!("r = requests.get(url, auth=(\"jane\", \"{key}\"), timeout=5)"), key)
        }
        33 => {
            let key = password(rng, false);
            (
                "Java setter",
                format!("dataSource.setUsername(\"app\");\ndataSource.setPassword(\"{key}\");"),
                key,
            )
        }
        34 => {
            let key = password(rng, true);
            (
                "systemd",
                format!("[Service]\nEnvironment=\"DB_PASSWORD={key}\" \"DB_USER=app\"\nExecStart=/srv/app\n"),
                key,
            )
        }
        35 => {
            let key = password(rng, true) + "4q";
            ("German prose", format!("Das Passwort lautet {key} und gilt ab morgen."), key)
        }
        36 => {
            let key = draw(rng, UPPER32, 32);
            (
                "one-time passwords",
                format!("otpauth://totp/Shop:jane@shop.test?secret={key}&issuer=Shop&digits=6"),
                key,
            )
        }
        _ => {
            let key = alnum(rng, 30);
            (
                "Postman",
                format!(
                    "{{\"key\": \"access_token\", \"value\": \"{key}\", \"type\": \"secret\", \"enabled\": true}}"
                ),
                key,
            )
        }
    }
}

/// URLs and headers.
fn request(rng: &mut Rng, index: usize) -> SecretRow {
    match index % 34 {
        0 => {
            let key = draw(rng, HEX, 37);
            (
                "Cloudflare global key",
                format!(
                    "curl https://api.cloudflare.com/client/v4/zones -H 'X-Auth-Email: jane@shop.test' -H 'X-Auth-Key: {key}'"
                ),
                key,
            )
        }
        1 => {
            let key = draw(rng, HEX, 64);
            (
                "signed URL of S3",
                format!(
                    "https://shop.s3.amazonaws.com/report.csv?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=604800&X-Amz-SignedHeaders=host&X-Amz-Signature={key}"
                ),
                key,
            )
        }
        2 => {
            let key = format!("{}%3D", draw(rng, ALNUM, 43));
            (
                "shared access signature",
                format!(
                    "https://shop.blob.core.windows.net/in/a.csv?sv=2023-11-03&se=2027-01-01T00%3A00%3A00Z&sr=b&sp=r&sig={key}"
                ),
                key,
            )
        }
        3 => {
            let key = format!("ghs_{}", alnum(rng, 36));
            (
                "token of a GitHub App",
                format!("git clone https://x-access-token:{key}@github.com/shop/app.git"),
                key,
            )
        }
        4 => {
            let key = format!("{}/{}", draw(rng, DIGITS, 18), draw(rng, URL64, 67) + "Z");
            (
                "Discord webhook",
                format!("requests.post(\"https://discord.com/api/webhooks/{key}\", json=body)"),
                key,
            )
        }
        5 => {
            let key = format!("{}:AA{}", draw(rng, "123456789", 10), draw(rng, URL64, 32) + "k");
            ("Telegram URL", format!("curl https://api.telegram.org/bot{key}/getUpdates"), key)
        }
        6 => {
            let key = format!("00{}", draw(rng, URL64, 39) + "T");
            (
                "Okta token",
                format!("curl -H 'Authorization: SSWS {key}' https://shop.okta.com/api/v1/users"),
                key,
            )
        }
        7 => {
            let key = base64(rng, 60);
            ("Elasticsearch key", format!("GET /_search\nAuthorization: ApiKey {key}\n"), key)
        }
        8 => {
            let key = format!("AAAAAAAAAAAAAAAAAAAAA{}%3D{}", alnum(rng, 30), alnum(rng, 50));
            ("Twitter bearer token", format!("headers = {{\"Authorization\": \"Bearer {key}\"}}"), key)
        }
        9 => {
            let key = format!("s.{}", alnum(rng, 24));
            (
                "old Vault token",
                format!("curl -H \"X-Vault-Token: {key}\" https://vault.corp.test/v1/secret/data/app"),
                key,
            )
        }
        10 => {
            let key = draw(rng, HEX, 32);
            (
                "ElevenLabs key",
                format!("fetch(url, {{ method: 'POST', headers: {{ 'xi-api-key': '{key}' }} }})"),
                key,
            )
        }
        11 => {
            let key = draw(rng, HEX, 32);
            (
                "Azure subscription key",
                format!("Ocp-Apim-Subscription-Key: {key}\nContent-Type: application/json\n"),
                key,
            )
        }
        12 => {
            let key = draw(rng, HEX, 32);
            (
                "OpenWeather key",
                format!("https://api.openweathermap.org/data/2.5/weather?q=Bonn&appid={key}&units=metric"),
                key,
            )
        }
        13 => {
            let key = draw(rng, HEX, 32);
            (
                "Datadog key",
                format!("> POST /api/v2/logs HTTP/1.1\n> DD-API-KEY: {key}\n> Accept: */*\n"),
                key,
            )
        }
        14 => {
            let key = alnum(rng, 40);
            (
                "Zendesk token",
                format!("curl -u 'jane@shop.test/token:{key}' https://shop.zendesk.com/api/v2/tickets.json"),
                key,
            )
        }
        15 => {
            let key = base64_of(&format!("tok:{}", alnum(rng, 36)));
            ("Intercom token", format!("Authorization: Bearer {key}\nIntercom-Version: 2.11\n"), key)
        }
        16 => {
            let key = alnum(rng, 48);
            ("HAR", format!("{{\"name\": \"Authorization\", \"value\": \"Bearer {key}\"}}"), key)
        }
        17 => {
            let key = format!(
                "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiI{}.{}",
                alnum(rng, 60),
                draw(rng, URL64, 85) + "w"
            );
            ("cookie with a JSON Web Token", format!("Cookie: consent=1; access_token={key}; lang=en\n"), key)
        }
        18 => {
            let key = draw(rng, HEX, 40);
            (
                "query of Trello",
                format!("https://api.trello.com/1/boards/abc/lists?fields=name&token={key}"),
                key,
            )
        }
        19 => {
            let key = alnum(rng, 43);
            ("refresh token", format!("grant_type=refresh_token&client_id=shop-web&refresh_token={key}"), key)
        }
        20 => {
            let key = alnum(rng, 48);
            (
                "client secret",
                format!(
                    "{{\"grant_type\":\"client_credentials\",\"client_id\":\"shop\",\"client_secret\":\"{key}\",\"scope\":\"read\"}}"
                ),
                key,
            )
        }
        21 => {
            let key = alnum(rng, 27);
            (
                "GitLab job token",
                format!("git remote set-url origin https://oauth2:{key}@gitlab.corp.test/shop/app.git"),
                key,
            )
        }
        22 => {
            let key = draw(rng, HEX, 32);
            ("Algolia key", format!("X-Algolia-Application-Id: AB12CD34\nX-Algolia-API-Key: {key}\n"), key)
        }
        23 => {
            let key = password(rng, true);
            ("FTP", format!("lftp ftp://deploy:{key}@files.shop.test/www"), key)
        }
        24 => {
            let key = password(rng, true);
            ("SMTP", format!("MAILER_DSN=smtp://jane%40shop.test:{key}@smtp.shop.test:587"), key)
        }
        25 => {
            let key = password(rng, true);
            (
                "SQLAlchemy",
                format!("engine = create_engine(\"mssql+pyodbc://sa:{key}@sql.shop.test/app?driver=x\")"),
                key,
            )
        }
        26 => {
            let key = format!("EAAG{}", alnum(rng, 160));
            (
                "Facebook token",
                format!("https://graph.facebook.com/v19.0/me/accounts?access_token={key}"),
                key,
            )
        }
        27 => {
            let key = format!(
                "xapp-1-A{}-{}-{}",
                draw(rng, UPPER32, 10),
                draw(rng, DIGITS, 13),
                draw(rng, HEX, 64)
            );
            ("Slack token of an app", format!("SLACK_APP_TOKEN={key}"), key)
        }
        28 => {
            let key = alnum(rng, 20);
            (
                "basic login in a header",
                format!("Authorization: Basic {}\n", base64_of(&format!("jane:{key}"))),
                base64_of(&format!("jane:{key}")),
            )
        }
        29 => {
            let key = alnum(rng, 36);
            (
                "header of GitLab",
                format!("curl --header \"PRIVATE-TOKEN: {key}\" https://gitlab.corp.test/api/v4/projects"),
                key,
            )
        }
        30 => {
            let key = draw(rng, HEX, 32);
            ("Shopify header", format!("X-Shopify-Access-Token: {key}\n"), key)
        }
        31 => {
            let key = alnum(rng, 32);
            ("query of a map", format!("https://tiles.test/{{z}}/{{x}}/{{y}}.png?apikey={key}"), key)
        }
        32 => {
            let key = alnum(rng, 32);
            ("WebSocket", format!("wss://stream.test/v1/listen?model=nova&access_token={key}"), key)
        }
        _ => {
            let key = uuid(rng);
            ("Consul token", format!("curl -H 'X-Consul-Token: {key}' http://127.0.0.1:8500/v1/kv/app"), key)
        }
    }
}

/// Command lines.
fn command(rng: &mut Rng, index: usize) -> SecretRow {
    let pw = password(rng, true);
    let any = password(rng, false);
    match index % 30 {
        0 => ("openssl", format!("openssl pkcs12 -in cert.p12 -nodes -passin pass:{pw}"), pw),
        1 => ("zip", format!("zip -P {pw} out.zip report.csv"), pw),
        2 => ("7z", format!("7z a -p{pw} out.7z data/"), pw),
        3 => ("ldapsearch", format!("ldapsearch -x -D cn=admin,dc=shop -w '{any}' -b dc=shop uid=jane"), any),
        4 => ("smbclient", format!("smbclient //files/share -U jane%{pw} -c ls"), pw),
        5 => {
            ("mount", format!("mount -t cifs //files/share /mnt -o username=jane,password={pw},vers=3.0"), pw)
        }
        6 => ("sudo", format!("echo '{any}' | sudo -S systemctl restart nginx"), any),
        7 => ("chpasswd", format!("echo \"jane:{pw}\" | chpasswd"), pw),
        8 => ("htpasswd", format!("htpasswd -bc /etc/nginx/.htpasswd jane '{any}'"), any),
        9 => ("vault", format!("vault kv put secret/app password={pw} ttl=1h"), pw),
        10 => {
            let key = draw(rng, BASE64, 40);
            ("aws", format!("aws configure set aws_secret_access_key {key}"), key)
        }
        11 => {
            let key = alnum(rng, 40);
            ("gh", format!("gh secret set DEPLOY_KEY --body \"{key}\""), key)
        }
        12 => {
            let key = alnum(rng, 40);
            ("heroku", format!("heroku config:set SESSION_SECRET={key} -a shop"), key)
        }
        13 => ("kubectl", format!("kubectl create secret generic db --from-literal=password={pw}"), pw),
        14 => ("terraform", format!("terraform apply -var db_password='{any}' -auto-approve"), any),
        15 => {
            ("mongosh", format!("mongosh --host db --username app --password {pw} --eval 'db.stats()'"), pw)
        }
        16 => ("Windows variable", format!("C:\\> set PGPASSWORD={pw}\nC:\\> psql -h db\n"), pw),
        17 => {
            let key = format!("{any}x1y2z3q4");
            ("setx", format!("setx STRIPE_SECRET \"{key}\" /M"), key)
        }
        18 => ("net use", format!("net use Z: \\\\files\\share {pw} /user:SHOP\\jane"), pw),
        19 => ("docker run", format!("docker run -d -e POSTGRES_PASSWORD={pw} -p 5432:5432 postgres:17"), pw),
        20 => ("docker login", format!("docker login registry.corp.test -u jane -p {pw}"), pw),
        21 => ("az", format!("az login --service-principal -u app -p {pw} --tenant shop"), pw),
        22 => {
            let key = alnum(rng, 24);
            ("vercel", format!("vercel deploy --prod --token={key}"), key)
        }
        23 => {
            let key = alnum(rng, 32);
            ("wp", format!("wp config set AUTH_KEY '{key}' --type=constant"), key)
        }
        24 => ("ssh in Python", format!("ssh.connect('10.0.0.4', username='root', password='{any}')"), any),
        25 => (
            "keytool",
            format!("keytool -import -alias ca -file ca.crt -keystore ks.jks -storepass {pw} -noprompt"),
            pw,
        ),
        26 => (
            "mysql configuration",
            format!("[mysqldump]\nuser=backup\npassword={pw}\nsingle-transaction\n"),
            pw,
        ),
        27 => (
            "restic",
            format!("export RESTIC_REPOSITORY=/srv/backup RESTIC_PASSWORD={pw}\nrestic snapshots\n"),
            pw,
        ),
        28 => ("Oracle", format!("CREATE USER shop IDENTIFIED BY \"{pw}\" QUOTA 10M ON users;"), pw),
        _ => {
            let key = format!("{}{}", draw(rng, UPPER, 2), alnum(rng, 30));
            (
                "tool call",
                format!(
                    "{{\"tool\":\"http\",\"input\":\"{{\\\"headers\\\":{{\\\"X-Auth-Token\\\":\\\"{key}\\\"}}}}\"}}"
                ),
                key,
            )
        }
    }
}

/// Source code and configuration files.
fn code_lookalike(rng: &mut Rng, index: usize) -> (&'static str, String) {
    let number = rng.u32(10..9999);
    match index % 32 {
        0 => ("workflow", "env:\n  GITHUB_TOKEN: ${{ secrets.GITHUB_TOKEN }}\n  NPM_TOKEN: ${{ secrets.NPM_TOKEN }}\n".to_owned()),
        1 => ("chart", "password: {{ .Values.db.password | quote }}\ntoken: {{ .Values.token }}\n".to_owned()),
        2 => ("reference to a vault", "DB_PASSWORD=op://infra/db/password\nAPI_KEY=ref+vault://secret/app#/key\n".to_owned()),
        3 => ("terraform variable", "variable \"db_password\" {\n  type = string\n  sensitive = true\n}\npassword = var.db_password\n".to_owned()),
        4 => ("column", "CREATE TABLE users (id int, password VARCHAR(255) NOT NULL, token TEXT, secret BYTEA);".to_owned()),
        5 => ("schema", "password: z.string().min(8).max(64),\ntoken: z.string().uuid().optional(),".to_owned()),
        6 => ("Go tag", "Password string `json:\"password\" validate:\"required\"`\nToken *string `json:\"token,omitempty\"`".to_owned()),
        7 => ("event", "if (event.key === 'Escape' || event.key === 'ArrowLeft') close();".to_owned()),
        8 => ("list in React", "<Row key={item.id} tokenCount={count} keyboardShouldPersistTaps=\"handled\" />".to_owned()),
        9 => ("OpenAPI", "securitySchemes:\n  bearerAuth:\n    type: http\n    scheme: bearer\n  apiKeyAuth:\n    type: apiKey\n    in: header\n    name: X-API-Key\n".to_owned()),
        10 => ("pattern", "const RE = /sk-[A-Za-z0-9]{48}|ghp_[A-Za-z0-9]{36}|AKIA[0-9A-Z]{16}/g;".to_owned()),
        11 => ("settings", format!("PASSWORD_MIN_LENGTH = 12\nPASSWORD_RESET_TIMEOUT = {number}\nTOKEN_TTL = {number}\nSECRET_ROTATION_DAYS = 90\n")),
        12 => ("labels", "{\"password.reset\": \"Reset your password\", \"token.expired\": \"Your session has expired\", \"apiKey.label\": \"API key\"}".to_owned()),
        13 => ("input field", "<input type=\"password\" name=\"password\" placeholder=\"Enter your password\" autocomplete=\"current-password\">".to_owned()),
        14 => ("shell variables", "curl -u \"$USER:$PASS\" -H \"Authorization: Bearer $TOKEN\" \"$URL\"; mysql -p\"$MYSQL_PASSWORD\" app".to_owned()),
        15 => ("placeholders in a template", "Authorization: Bearer {token}\nX-Api-Key: <api-key>\nCookie: session={session}\n".to_owned()),
        16 => ("tokenizer", format!("tokenizer = AutoTokenizer.from_pretrained(\"bert-base-uncased\")\ninputs = tokenizer(text, max_length={number}, padding=\"max_length\")\nmodel.generate(max_new_tokens={number})")),
        17 => ("destructuring", "const { token, password, apiKey } = await getCredentials(config);\nreturn { token, password, secret: apiKey };".to_owned()),
        18 => ("function with defaults", "def connect(host, user=None, password=None, token: str | None = None, key=DEFAULT_KEY):".to_owned()),
        19 => ("imports", "import { getToken, TOKEN_KEY } from './auth/token-storage';\nimport secrets, keyring, getpass".to_owned()),
        20 => ("Kubernetes names", "secretName: shop-tls\nimagePullSecrets:\n  - name: registry-credentials\nserviceAccountToken:\n  path: token\n  expirationSeconds: 3600\n".to_owned()),
        21 => ("hooks", "const [password, setPassword] = useState('');\nconst { data: token } = useToken();\nconst queryKey = ['users', id];".to_owned()),
        22 => ("key in Rust", "let key = (self.session_id, token.kind);\nmap.entry(key).or_default().push(secret.to_string());".to_owned()),
        23 => ("exception", "raise AuthenticationError(f\"invalid token for {user}: {exc}\")\npassword = getpass.getpass('Password: ')".to_owned()),
        24 => ("path of a key", "ssh -i ~/.ssh/id_ed25519 deploy@host\nssl_certificate_key /etc/nginx/tls/privkey.pem;\nGOOGLE_APPLICATION_CREDENTIALS=/run/creds/sa.json".to_owned()),
        25 => ("key management", "kms_key_id = \"projects/shop/locations/global/keyRings/main/cryptoKeys/db\"\nkey_alias: alias/shop-db".to_owned()),
        26 => ("package names", "pip install scikit-learn sk-video hf-transfer key-value-store tokenizers==0.21.0 passlib[bcrypt] pysecret".to_owned()),
        27 => ("prefixes in prose", "Keys start with `sk-`, `ghp_` or `xoxb-`; a token such as glpat-xxxxxxxxxxxxxxxxxxxx has a prefix.".to_owned()),
        28 => ("Java annotation", "@Value(\"${spring.datasource.password}\")\nprivate String password;\n@JsonProperty(\"access_token\") private String accessToken;".to_owned()),
        29 => ("test name", "it('rejects a password without digits', async () => { expect(validatePassword(pw)).toBe(false) })".to_owned()),
        30 => ("compiler output", format!("error[E0425]: cannot find value `token` in this scope\n  --> src/auth/password.rs:{number}:17\n")),
        _ => ("CSS modules", format!(".passwordField_{}__{} {{ color: red }}\n.tokenList-{} > li {{ margin: 0 }}", alnum(rng, 5), alnum(rng, 5), draw(rng, LOWER, 6))),
    }
}

/// Data, logs and prose.
fn data_lookalike(rng: &mut Rng, index: usize) -> (&'static str, String) {
    let number = rng.u32(1000..99999);
    let id = uuid(rng);
    match index % 34 {
        0 => ("publishable key", format!("NEXT_PUBLIC_STRIPE_PUBLISHABLE_KEY=pk_live_{}", alnum(rng, 24))),
        1 => ("go.sum", format!("golang.org/x/sync v0.7.0 h1:{}=\n", draw(rng, BASE64, 43))),
        2 => ("content policy", format!("script-src 'self' 'sha256-{}=' 'nonce-{}'", draw(rng, BASE64, 43), alnum(rng, 22))),
        3 => ("chunk", format!("_next/static/chunks/app-pages-{}.js\nmain.{}.css\n", draw(rng, HEX, 16), draw(rng, HEX, 8))),
        4 => ("ULID", format!("{{\"id\":\"01J{}\",\"parent\":\"01J{}\"}}", draw(rng, "0123456789ABCDEFGHJKMNPQRSTVWXYZ", 23), draw(rng, "0123456789ABCDEFGHJKMNPQRSTVWXYZ", 23))),
        5 => ("fingerprint", format!("256 SHA256:{} jane@laptop (ED25519)", draw(rng, BASE64, 43))),
        6 => ("known hosts", format!("github.com ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ{}", draw(rng, BASE64, 200))),
        7 => ("request id", format!("X-Request-Id: {id}\nX-Correlation-Id: {}\nCF-Ray: {}-FRA\n", uuid(rng), draw(rng, HEX, 16))),
        8 => ("OAuth metadata", "{\"token_type\":\"Bearer\",\"expires_in\":3600,\"token_endpoint\":\"https://id.test/oauth/token\",\"scope\":\"openid profile\"}".to_owned()),
        9 => ("JWKS", format!("{{\"keys\":[{{\"kty\":\"RSA\",\"kid\":\"{}\",\"use\":\"sig\",\"n\":\"{}\",\"e\":\"AQAB\"}}]}}", alnum(rng, 12), draw(rng, URL64, 342))),
        10 => ("speed", format!("prompt eval: {number} tokens, 45.2 tokens/s; pass 3 of 5; key frames: 12")),
        11 => ("prompt of a program", "[sudo] password for jane: \nSorry, try again.\nsudo: a password is required\n".to_owned()),
        12 => ("failed login", format!("FATAL: password authentication failed for user \"app\"\nlogin attempt {number} from 10.0.0.9")),
        13 => ("masked key in an error", "Incorrect API key provided: sk-proj-********************abcd. You can find your API key at https://x.test".to_owned()),
        14 => ("table of variables", "| variable | meaning |\n|---|---|\n| API_KEY | the key of the service |\n| DB_PASSWORD | password of the database |\n".to_owned()),
        15 => ("unit tests", format!("test auth::password_is_checked ... ok\ntest token::expired_token_is_refused ... ok\n{number} passed; 0 failed")),
        16 => ("URL of a user", "https://medium.test/@jane/how-tokens-work-3f2a5c6d7e8f and https://git@github.com/shop/app.git".to_owned()),
        17 => ("local services", "REDIS_URL=redis://localhost:6379/0\nHTTP_PROXY=http://proxy.corp.test:3128\nMONGO=mongodb://localhost/app".to_owned()),
        18 => ("IPv6", "listen [::1]:8080; upstream http://[2001:db8::7]:9000/token/verify".to_owned()),
        19 => ("poetry lock", format!("{{file = \"x-1.0-py3-none-any.whl\", hash = \"sha256:{}\"}}", draw(rng, HEX, 64))),
        20 => ("hexdump", format!("00000010  {}  |....key=....|", draw(rng, HEX, 32))),
        21 => ("object keys", format!("s3://shop-backups/2026/01/dump-{}.sql.gz\nobject_key: invoices/{id}.pdf", draw(rng, HEX, 12))),
        22 => ("trace", format!("span_id={} trace_id={} auth=ok token_age_ms={number}", draw(rng, HEX, 16), draw(rng, HEX, 32))),
        23 => ("prose", "Rotate the API key every 90 days; the token is stored hashed, and the secret never leaves the vault.".to_owned()),
        24 => ("question", "How do I pass a token to the API? Is the password hashed with bcrypt or argon2? Where is the key?".to_owned()),
        25 => ("German", "Das Passwort muss mindestens zwölf Zeichen haben. Passwort vergessen? Bitte Zugangsdaten eingeben.".to_owned()),
        26 => ("git log", format!("{} refactor(auth): rename token to accessToken\n{} fix: password reset (#{number})\n", draw(rng, HEX, 7), draw(rng, HEX, 7))),
        27 => ("image tag", format!("registry.test/shop/token-service:2026.1.{number}-{}", draw(rng, HEX, 12))),
        28 => ("Sentry address", format!("SENTRY_DSN=https://{}@o{number}.ingest.sentry.io/{number}", draw(rng, HEX, 32))),
        29 => ("id of a client", format!("client_id={number}-{}.apps.googleusercontent.com", draw(rng, "abcdefghijklmnopqrstuvwxyz0123456789", 32))),
        30 => ("cookie of consent", "Set-Cookie: theme=dark; Path=/; HttpOnly; SameSite=Lax\nCookie: consent=accepted; lang=en-GB; _ga=GA1.2.1234567890.1234567890".to_owned()),
        31 => ("agent ids", format!("toolu_01{}\ncall_{}\nresp_{}\nmsg_{}\n", alnum(rng, 22), alnum(rng, 24), draw(rng, HEX, 48), alnum(rng, 24))),
        32 => ("account ids", format!("AccountSid: AC{}\nteam: T{}\nchannel: C{}\n", draw(rng, HEX, 32), draw(rng, UPPER32, 10), draw(rng, UPPER32, 10))),
        _ => ("source map", format!("//# sourceMappingURL=data:application/json;base64,{}\n", base64_of(&format!("{{\"version\":3,\"sources\":[\"token.ts\"],\"mappings\":\"{}\"}}", draw(rng, "ACEGIKMO;,", 300))))),
    }
}
