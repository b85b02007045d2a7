// Clicks through the console in Debian's Chromium: every page for a desktop and a phone, light and dark, with axe-core on each and a screenshot of each; then what an
// operator does, by mouse and by keyboard. Told by the environment: CONSOLE_URL, CONSOLE_LINKS (five links, by spaces), CONSOLE_PICTURES (a folder), CONSOLE_MODULES.
import { createRequire } from "node:module";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const { CONSOLE_URL: base, CONSOLE_LINKS, CONSOLE_PICTURES: pictures, CONSOLE_MODULES: modules } = process.env;
const require = createRequire(join(modules, "node_modules", "x.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const links = CONSOLE_LINKS.split(" ");
mkdirSync(pictures, { recursive: true });

const faults = [];
const fault = (what) => { faults.push(what); console.log(`FAULT ${what}`); };
const check = (condition, what) => { if (!condition) fault(what); };

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-dev-shm-usage"] });

async function visitor(name, options) {
  const context = await browser.newContext({ reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.on("console", (message) => { if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) fault(`${name}: ${page.url()}: ${message.text()}`); });
  page.on("pageerror", (error) => fault(`${name}: ${page.url()}: ${error}`));
  page.on("dialog", async (dialog) => { fault(`${name}: a script of somebody else ran: ${dialog.message()}`); await dialog.dismiss(); });
  return page;
}

async function logIn(page, link) {
  await page.goto(link);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL(`${base}/`);
}

async function look(page, name, path) {
  if (path) await page.goto(base + path, { waitUntil: "load" });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  check(wide <= 0, `${name}: the page is ${wide} px wider than its window`);
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { iframes: false, resultTypes: ["violations"] }));
  for (const { id, impact, nodes } of found.violations) {
    if (["serious", "critical"].includes(impact)) fault(`${name}: axe ${impact} ${id}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
  }
  await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
}

const letter = async (page) => {
  await page.goto(`${base}/dead`);
  return page.locator("table.letters tbody a").first().getAttribute("href");
};

// Every page in every shape.
const shapes = [
  ["desktop-light", { viewport: { width: 1280, height: 860 }, colorScheme: "light" }],
  ["desktop-dark", { viewport: { width: 1280, height: 860 }, colorScheme: "dark" }],
  ["phone-light", { viewport: { width: 390, height: 844 }, colorScheme: "light", isMobile: true, hasTouch: true }],
  ["phone-dark", { viewport: { width: 390, height: 844 }, colorScheme: "dark", isMobile: true, hasTouch: true }],
];
for (const [n, [shape, options]] of shapes.entries()) {
  const page = await visitor(shape, options);
  await look(page, `${shape}-login`, "/login");
  await logIn(page, links[n]);
  await page.locator("svg.chart").first().waitFor({ state: "attached" });
  for (const path of ["", "queues", "dead", "jobs", "outbox", "actors", "replicas", "mail", "accounts", "webhooks", "audit", "start", "events", "routes", "nowhere"]) {
    await look(page, `${shape}-${path || "overview"}`, `/${path}`);
  }
  await look(page, `${shape}-letter`, await letter(page));
  await page.goto(`${base}/dead?type=${encodeURIComponent("com.gravitalia.email")}`);
  await look(page, `${shape}-filtered`);
  await page.goto(`${base}/webhooks`);
  const webhook = await page.locator("article a[href^='/webhooks/']", { hasText: "hooks.acme." }).first().getAttribute("href");
  await look(page, `${shape}-webhook`, webhook);
  const mail = await (async () => { await page.goto(`${base}/mail`); return page.locator("a[href^='/mail/captured/']").first().getAttribute("href"); })();
  await look(page, `${shape}-captured`, mail);
  await look(page, `${shape}-preview`, "/mail/preview/recover/fr");
  if (shape.startsWith("phone")) {
    await page.goto(`${base}/`);
    const menu = page.getByRole("button", { name: "Menu" });
    await menu.tap();
    check(await page.getByRole("link", { name: "Queues", exact: true }).isVisible(), `${shape}: the menu does not open`);
    await look(page, `${shape}-menu`);
    await page.keyboard.press("Escape");
    check(!(await page.getByRole("link", { name: "Queues", exact: true }).isVisible()), `${shape}: Escape does not close the menu`);
  }
  await page.context().close();
}

// What an operator does.
const page = await visitor("acts", { viewport: { width: 1280, height: 860 }, acceptDownloads: true });
await logIn(page, links[4]);

// First paint, from what all viewers share.
await page.goto(`${base}/`);
const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
const answer = await page.evaluate(() => performance.getEntriesByType("navigation")[0].responseEnd);
console.log(`first paint ${Math.round(paint)} ms, answer ${Math.round(answer)} ms`);

// By keyboard alone: to the page's beginning, to a link of it, to the page behind it.
await page.keyboard.press("Tab");
check(await page.evaluate(() => document.activeElement?.className === "skip"), "the first stop of the keyboard is not the skip link");
await page.keyboard.press("Enter");
check(await page.evaluate(() => document.activeElement?.id === "main"), "the skip link does not lead to the page");

// It lives: what is dead is counted anew without a reload, and the focus stays where it was.
await page.locator(".tiles a[href='/dead']").focus();
const before = await page.locator(".fresh").textContent();
await page.waitForFunction((before) => document.querySelector(".fresh")?.textContent !== before, before);
check(await page.evaluate(() => document.activeElement?.getAttribute("href") === "/dead"), "news take the focus away");

// One letter, undone in time.
const total = async () => Number((await (await page.request.get(`${base}/api/overview.json`)).json()).dead);
const all = await total();
await page.goto(base + await letter(page));
await page.getByRole("button", { name: "Try again" }).click();
await page.waitForURL(`${base}/jobs`);
await page.getByRole("button", { name: "Undo" }).first().click();
await page.locator(".state", { hasText: "undone" }).first().waitFor();
await look(page, "acts-undone");

// Ticked ones go through, with progress that is seen without a reload.
await page.goto(`${base}/dead`);
await page.locator("table.letters input[type=checkbox]").first().check();
await page.getByRole("button", { name: "Try ticked again" }).click();
await page.locator(".state", { hasText: /waiting|running/ }).first().waitFor();
await page.locator("article", { hasText: "1 of 1" }).locator(".state", { hasText: "done" }).first().waitFor({ timeout: 30000 });

// A filter and a group choose; dropping asks first.
await page.goto(`${base}/dead`);
await page.locator("section table a").first().click();
check(page.url().includes("reason="), "a group does not lead to its letters");
await page.getByRole("button", { name: "Drop…" }).click();
await page.getByRole("heading", { name: /for good\?/ }).waitFor();
await look(page, "acts-drop");
await page.getByRole("link", { name: "Keep them" }).click();
check(await total() >= all - 1, "something was dropped that was kept");

// An export is a download.
const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Export" }).click()]);
check(download.suggestedFilename() === "dead-letters.jsonl", "the export has another name");
check(readFileSync(await download.path(), "utf8").split("\n").length > 2, "the export is empty");

// An actor.
await page.goto(`${base}/actors`);
await page.getByRole("button", { name: "Restart console.jobs" }).click();
await page.getByText("an operator asked for a restart").first().waitFor({ timeout: 30000 });
await look(page, "acts-restarted");

// A delivery that was given up is tried again, and its endpoint is told to rest.
await page.goto(`${base}/webhooks`);
await page.locator("article a[href^='/webhooks/']", { hasText: "hooks.acme." }).first().click();
await page.getByRole("button", { name: /^Try again 01/ }).first().click();
await page.getByText("1 delivery is tried again").waitFor();
await page.getByRole("button", { name: "Deliver no more" }).click();
await page.getByText("by an operator").waitFor();

// A mail in its frame: no script of it runs, and it is there.
await page.goto(`${base}/mail`);
await page.locator("a[href^='/mail/captured/']").first().click();
const frame = page.frameLocator("iframe.mail");
await frame.locator("body").waitFor();
check((await frame.locator("body").innerText()).length > 20, "the mail's frame is empty");

// Everything is in the log, and the way out.
await page.goto(`${base}/audit`);
for (const action of ["console.log_in", "dead.redrive", "dead.export", "actor.restart", "webhook.replay", "webhook.disable"]) {
  check((await page.locator("table").innerText()).includes(action), `${action} is not in the audit log`);
}
await look(page, "acts-audit");
await page.getByRole("button", { name: "Log out" }).click();
await page.waitForURL(`${base}/login`);

await browser.close();
console.log(faults.length ? `${faults.length} faults` : "no faults");
process.exit(faults.length ? 1 : 0);
