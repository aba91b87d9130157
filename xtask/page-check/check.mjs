// node check.mjs BROWSER SCREENSHOTS PAGE...
// Opens each page at the width of a phone and of a desktop, in light and in dark mode, with all details unfolded. Prints
// each problem on a line, and fails if there are any: a request, a console message, a dialog, a script, a page wider than
// the screen, or a violation that axe reports.
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [browserPath, screenshots, ...pages] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--no-sandbox"];
const browser = await chromium.launch({ executablePath: browserPath, args: quiet });
const problems = [];

async function check(path, width, colorScheme) {
  // The content security policy of the page forbids scripts. Bypass it for the scripts of this checker.
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, bypassCSP: true });
  const page = await context.newPage();
  const where = `${basename(path)} at ${width} px, ${colorScheme}`;
  const problem = (what) => problems.push(`${where}: ${what}`);
  const own = pathToFileURL(path).href;
  page.on("request", (request) => {
    const url = request.url();
    if (url !== own && !url.startsWith("data:")) problem(`request to ${url}`);
  });
  page.on("console", (message) => problem(`console: ${message.text()}`));
  page.on("pageerror", (error) => problem(`error: ${error.message}`));
  page.on("dialog", (dialog) => { problem(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  await page.goto(own);
  await page.evaluate(() => document.querySelectorAll("details").forEach((fold) => { fold.open = true; }));
  const found = await page.evaluate(() => ({
    scripts: document.scripts.length,
    handlers: [...document.querySelectorAll("*")].filter((element) =>
      [...element.attributes].some((attribute) => attribute.name.startsWith("on"))).length,
    links: [...document.links].map((link) => link.href).filter((href) => !/^(https?|mailto|file):/.test(href)),
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  }));
  if (found.scripts + found.handlers > 0) problem(`${found.scripts} scripts, ${found.handlers} handlers`);
  if (found.links.length > 0) problem(`links to ${found.links.join(", ")}`);
  if (found.wide > 0) problem(`${found.wide} px wider than the screen`);
  if (screenshots !== "-") {
    const name = `${basename(path, ".html")}-${width}-${colorScheme}.png`;
    await page.screenshot({ path: join(screenshots, name), fullPage: true });
  }
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  for (const { id, impact, help, nodes } of violations) {
    problem(`axe: ${id} (${impact}, ${nodes.length} times): ${help}: ${nodes[0].html.slice(0, 200)}`);
  }
  await context.close();
}

for (const path of pages) {
  for (const width of [390, 1400]) {
    for (const colorScheme of ["light", "dark"]) await check(path, width, colorScheme);
  }
}
await browser.close();
problems.forEach((line) => console.log(line));
console.log(`${pages.length} pages, ${problems.length} problems`);
process.exit(problems.length === 0 ? 0 : 1);
