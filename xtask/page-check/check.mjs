// node check.mjs BROWSER SCREENSHOTS REFERENCES accept|compare PAGE...
// Opens each page at the width of a phone and of a desktop, in light and in dark mode, with all details unfolded. Prints
// each problem on a line, and fails if there are any: a request, a console message, a dialog, a script, a page wider than
// the screen, or a violation that axe reports.
// An SVG page is a picture of a terminal. Each of its characters must stand in its own cell, and its screenshot must look
// like the one of the same name in REFERENCES; `accept` saves the screenshots there instead.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [browserPath, screenshots, references, mode, ...pages] = process.argv.slice(2);
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

// Width of a character beside the font size, in DejaVu Sans Mono and in Menlo.
const ADVANCE = 0.602;
// The largest part of a picture's pixels that may differ from the reference: smoothing of letters differs between versions
// of a browser and takes up to 0.4 %, a line of text that is shifted by one column takes 1 %.
const MOST_DIFFERENT = 0.006;

async function checkPicture(path) {
  const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
  const problem = (what) => problems.push(`${basename(path)}: ${what}`);
  await page.goto(pathToFileURL(path).href);
  // A chart has no cells, and changes with its figures.
  const isTerminal = await page.evaluate(() => document.querySelector("g").getAttribute("font-family").includes("monospace"));
  if (!isTerminal) {
    await page.close();
    return;
  }
  const { moved, hasFont } = await page.evaluate((advance) => {
    const cell = advance * parseFloat(document.querySelector("g").getAttribute("font-size"));
    // Another font has other letters; blanks and the position of words must be right in any.
    const probe = document.querySelector("text").cloneNode();
    document.querySelector("g").append(probe);
    probe.textContent = "MMMMMMMMMM";
    const own = probe.getComputedTextLength() / 10;
    probe.remove();
    const moved = [];
    for (const text of document.querySelectorAll("text")) {
      const start = parseFloat(text.getAttribute("x"));
      const characters = text.textContent;
      if (!/^[ -~]+$/.test(characters)) continue;
      if (text.getNumberOfChars() !== characters.length) moved.push(`${characters}: blanks are lost`);
      const end = text.getEndPositionOfChar(text.getNumberOfChars() - 1).x;
      if (Math.abs(end - start - own * characters.length) > 1) moved.push(`${characters}: it is stretched or squeezed`);
    }
    return { moved, hasFont: Math.abs(own - cell) < 0.05 };
  }, ADVANCE);
  moved.forEach((what) => problem(`a text is not in its cells: ${what}`));
  const shot = await page.locator("svg").screenshot();
  if (screenshots !== "-") writeFileSync(join(screenshots, `${basename(path, ".svg")}.png`), shot);
  const reference = join(references, `${basename(path, ".svg")}.png`);
  if (!hasFont) {
    console.log(`${basename(path)}: not compared with its reference, because DejaVu Sans Mono is not installed`);
  } else if (mode === "accept") {
    writeFileSync(reference, shot);
  } else if (!existsSync(reference)) {
    problem(`there is no ${reference}; run the check with --accept`);
  } else {
    const different = await differentPixels(page, shot, readFileSync(reference));
    if (different > MOST_DIFFERENT) {
      problem(`${(100 * different).toFixed(2)} % of its pixels differ from ${reference}; if that is intended, run the check with --accept`);
    }
  }
  await page.close();
}

// The part of the pixels that differ by more than smoothing does; 1 if the sizes differ.
async function differentPixels(page, first, second) {
  await page.goto("about:blank");
  return page.evaluate(async (images) => {
    const [a, b] = await Promise.all(images.map(async (base64) => {
      const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${base64}`)).blob());
      const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
      context.drawImage(bitmap, 0, 0);
      return context.getImageData(0, 0, bitmap.width, bitmap.height);
    }));
    if (a.width !== b.width || a.height !== b.height) return 1;
    let different = 0;
    for (let at = 0; at < a.data.length; at += 4) {
      if ([0, 1, 2].some((channel) => Math.abs(a.data[at + channel] - b.data[at + channel]) > 48)) different += 1;
    }
    return different / (a.width * a.height);
  }, [first.toString("base64"), second.toString("base64")]);
}

for (const path of pages.filter((path) => path.endsWith(".svg"))) await checkPicture(path);
for (const path of pages.filter((path) => !path.endsWith(".svg"))) {
  for (const width of [390, 1400]) {
    for (const colorScheme of ["light", "dark"]) await check(path, width, colorScheme);
  }
}
await browser.close();
problems.forEach((line) => console.log(line));
console.log(`${pages.length} pages, ${problems.length} problems`);
process.exit(problems.length === 0 ? 0 : 1);
