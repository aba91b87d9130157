//! Builds the JavaScript interpreter of hfs with cargo alone. `cargo xtask runtimes` runs it on a machine without
//! Node.js; with Node.js, it builds the same interpreter by npm and esbuild, which is faster.
//!
//! Usage: hfs-javascript-builder SOURCES WIT OUTPUT. SOURCES is a folder with `app.js` and its modules, which is changed:
//! the translator of ES modules is downloaded into it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use componentize_qjs::{ComponentizeOpts, Runtime};
use flate2::read::GzDecoder;
use sha2::{Digest, Sha512};

/// A package of the npm registry.
struct Package {
    name: &'static str,
    version: &'static str,
    /// The file that `require` loads.
    main: &'static str,
    /// SHA-512 of the archive in base64, as in npm's lock files.
    sha512: &'static str,
}

/// The packages that translate ES modules (see docs/decisions/0033-javascript-modules.md): sucrase and what it loads.
/// Its source maps need a fourth package, which is left out because hfs asks for no source map.
const PACKAGES: [Package; 3] = [
    Package {
        name: "sucrase",
        version: "3.35.1",
        main: "dist/index.js",
        sha512: "DhuTmvZWux4H1UOnWMB3sk0sbaCVOoQZjv8u1rDoTV0HTdGem9hkAZtl4JZy8P2z4Bg0nT+YMeOFyVr4zcG5Tw==",
    },
    Package {
        name: "lines-and-columns",
        version: "1.2.4",
        main: "build/index.js",
        sha512: "7ylylesZQ/PV29jhEDl3Ufjo6ZX7gCqJr5F7PKrqc93v7fzSymt1BpwEU8nAUXs8qzzvqhbjhK5QZg6Mt/HkBg==",
    },
    Package {
        name: "ts-interface-checker",
        version: "0.1.13",
        main: "dist/index.js",
        sha512: "Y/arvbn+rrz3JCKl9C4kVNfTfSm2/mEp5FSz5EsZSANGPSlQrpRI5M4PKF+mJnE52jOO90PnPSc3Ur3bTQw0gA==",
    },
];

/// Size limit of an archive, in bytes.
const MAX_BYTES: u64 = 16 << 20;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [sources, wit, output] = arguments.as_slice() else {
        bail!("usage: hfs-javascript-builder SOURCES WIT OUTPUT")
    };
    let sources = Path::new(sources);
    let module = sources.join("node_modules/sucrase");
    fs::create_dir_all(&module).with_context(|| format!("create {}", module.display()))?;
    write(&module.join("package.json"), br#"{ "name": "sucrase", "type": "module", "main": "index.js" }"#)?;
    write(&module.join("index.js"), translator()?.as_bytes())?;
    let app = sources.join("app.js");
    let component = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(
        componentize_qjs::componentize(&ComponentizeOpts {
            wit_path: Path::new(wit),
            js_source: &fs::read_to_string(&app).with_context(|| format!("read {}", app.display()))?,
            js_path: Some(&app),
            module_root: Some(sources),
            world_name: Some("runner"),
            stub_wasi: false,
            disable_gc: false,
            runtime: Runtime::DefaultSync,
        }),
    )?;
    write(Path::new(output), &component)
}

/// An ES module that exports sucrase's `transform`. sucrase consists of CommonJS modules, so each becomes a function that
/// runs when it is first required.
fn translator() -> Result<String> {
    let mut files = BTreeMap::new();
    for package in &PACKAGES {
        add_files(package, &mut files)?;
    }
    let mut text = String::from("const modules = {\n");
    for (path, source) in &files {
        writeln!(text, "{path:?}: function (module, exports, require) {{\n{source}\n}},")?;
    }
    text.push_str("};\nconst packages = {\n");
    for Package { name, main, .. } in &PACKAGES {
        writeln!(text, "{name:?}: {:?},", format!("{name}/{main}"))?;
    }
    text.push_str("};\n");
    text.push_str(LOADER);
    Ok(text)
}

/// Loads CommonJS modules. A package that is not included is an empty object: its functions are not called.
const LOADER: &str = r#"
const loaded = new Map();
const load = (path) => {
  if (loaded.has(path)) return loaded.get(path).exports;
  const module = { exports: {} };
  loaded.set(path, module);
  modules[path](module, module.exports, (name) => {
    if (!name.startsWith(".")) return Object.hasOwn(packages, name) ? load(packages[name]) : {};
    const parts = path.split("/").slice(0, -1);
    for (const part of name.split("/")) {
      if (part === "..") parts.pop();
      else if (part !== ".") parts.push(part);
    }
    const base = parts.join("/");
    const found = [base, `${base}.js`, `${base}/index.js`].find((candidate) => Object.hasOwn(modules, candidate));
    if (found === undefined) throw new Error(`there is no module ${name} for ${path}`);
    return load(found);
  });
  return module.exports;
};
export const { transform } = load(packages.sucrase);
"#;

/// Downloads a package and adds its JavaScript files, each under its path with the package's name in front.
fn add_files(package: &Package, files: &mut BTreeMap<String, String>) -> Result<()> {
    let Package { name, version, .. } = package;
    let url = format!("https://registry.npmjs.org/{name}/-/{name}-{version}.tgz");
    eprintln!("downloading {url}");
    let mut response = ureq::get(&url).call().with_context(|| format!("download {url}"))?;
    let archive = response.body_mut().with_config().limit(MAX_BYTES).read_to_vec();
    let archive = archive.with_context(|| format!("download {url}"))?;
    ensure!(
        BASE64_STANDARD.encode(Sha512::digest(&archive)) == package.sha512,
        "{url} is not the expected archive: its hash differs"
    );
    let mut archive = tar::Archive::new(GzDecoder::new(archive.as_slice()));
    for entry in archive.entries().with_context(|| format!("unpack {url}"))? {
        let mut entry = entry.with_context(|| format!("unpack {url}"))?;
        let path = entry.path().with_context(|| format!("unpack {url}"))?.to_string_lossy().into_owned();
        let Some(path) = path.strip_prefix("package/").filter(|path| path.ends_with(".js")) else { continue };
        // dist/esm contains the same code a second time.
        if path.contains("/esm/") {
            continue;
        }
        let mut source = String::new();
        entry.read_to_string(&mut source).with_context(|| format!("unpack {path} of {url}"))?;
        // Programs begin with a line for the shell, and are never required.
        if !source.starts_with("#!") {
            files.insert(format!("{name}/{path}"), source);
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}
