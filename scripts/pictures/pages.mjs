// Looks at every page in a real browser: light, dark and as narrow as a phone. Writes pictures, and fails when a page is wider than its
// window, says something in the console, or axe finds something serious. Arguments: where pictures go, then NAME=ADDRESS.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [folder, ...pages] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const forms = [
  { suffix: "", viewport: { width: 1280, height: 1000 }, colorScheme: "light" },
  { suffix: "-dark", viewport: { width: 1280, height: 1000 }, colorScheme: "dark" },
  { suffix: "-phone", viewport: { width: 390, height: 800 }, colorScheme: "light" },
];
const serious = ["serious", "critical"];
let wrong = 0;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox"] });
for (const form of forms) {
  const context = await browser.newContext(form);
  for (const [name, address] of pages.map((page) => page.split(/=(.*)/s))) {
    const page = await context.newPage();
    const said = [];
    page.on("console", (message) => { if (message.type() === "error" && !message.text().includes("favicon")) said.push(message.text()); });
    page.on("pageerror", (error) => said.push(String(error)));
    const began = performance.now();
    await page.goto(address, { waitUntil: "load" });
    const took = performance.now() - began;
    // The first changes have come by then.
    await page.waitForTimeout(2500);
    // One picture of the dark is enough for the documents.
    if (form.suffix !== "-dark" || name === "overview") await page.screenshot({ path: `${folder}/${name}${form.suffix}.png` });
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    const found = violations.filter(({ impact }) => serious.includes(impact));
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    // A frame of another origin is none of this page's words.
    const words = said.filter((text) => !text.includes("postMessage") && !text.includes("404"));
    const faults = [
      ...found.map(({ id, nodes }) => `axe: ${id}, ${nodes.length} times, first ${nodes[0].html.slice(0, 120)}`),
      ...(wide > 0 ? [`${wide} px wider than the window`] : []),
      ...words.map((text) => `console: ${text}`),
    ];
    wrong += faults.length;
    console.log(`${name}${form.suffix}: loaded in ${took.toFixed(0)} ms; ${violations.length} findings of axe, ${found.length} serious`);
    for (const fault of faults) console.log(`  ${fault}`);
    await page.close();
  }
  await context.close();
}
await browser.close();
process.exit(wrong > 0 ? 1 : 0);
