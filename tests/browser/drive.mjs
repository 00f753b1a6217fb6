// Opens a page in Chromium, does the steps that it is told, and prints as JSON what they return, what the page asked for
// and what it complained about. Reads JSON from stdin: see tests/chromium.py.
import {readFileSync} from "node:fs";
import axe from "axe-core";
import {HtmlValidate} from "html-validate";
import {chromium} from "playwright-core";

const {url, steps, flags, executablePath} = JSON.parse(readFileSync(0, "utf8"));
const browser = await chromium.launch({executablePath, args: flags});
try {
  const page = await browser.newPage({viewport: {width: 1280, height: 800}}), requests = [], complaints = [];
  page.setDefaultTimeout(20000);
  page.on("request", request => requests.push(request.url()));
  page.on("pageerror", error => complaints.push(String(error)));
  page.on("console", message => {  // but for answers that are refusals, which are the page's to tell
    if (message.type() === "error" && !message.text().startsWith("Failed to load")) complaints.push(message.text());
  });
  await page.goto(url);

  // what would keep somebody from using the page: axe's serious and critical findings
  const barriers = async () => {
    await page.evaluate(axe.source);
    const {violations} = await page.evaluate(() => axe.run());
    return violations.filter(one => ["serious", "critical"].includes(one.impact))
      .map(one => `${one.id}: ${one.nodes.map(node => node.html.slice(0, 200)).join(" ")}`);
  };
  // what is no HTML in a text: the rules of the standard alone, none of taste
  const mistakes = async text => {
    const {results} = await new HtmlValidate({extends: ["html-validate:standard"]}).validateString(text);
    return results.flatMap(result => result.messages).map(one => `line ${one.line}: ${one.ruleId}: ${one.message}`);
  };
  // at the width of a desk and of a telephone, light and dark: barriers, how much wider than the window the page is, and
  // what `look` returns as a list
  const windows = async (look = async () => []) => {
    const found = [];
    for (const width of [1280, 390]) for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize({width, height: 800});
      await page.emulateMedia({colorScheme});
      const seen = await look();
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      found.push([await barriers(), over, ...seen]);
    }
    return found;
  };
  const Steps = Object.getPrototypeOf(async () => {}).constructor;
  const result = await new Steps("page", "barriers", "mistakes", "windows", steps)(page, barriers, mistakes, windows);
  console.log(JSON.stringify({result, requests, complaints}));
} finally {
  await browser.close();
}
