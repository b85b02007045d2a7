// Two pages in two browsers that find each other: node browsers.mjs FOLDER REQUEST. Ends with 0 once each has got a message of the other by a data channel.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [folder, request] = process.argv.slice(2);
const { url, peers } = JSON.parse(request);
const files = {
  "/": ["text/html", new URL("page.html", import.meta.url)],
  "/phoenix.mjs": ["text/javascript", `${folder}/node_modules/phoenix/priv/static/phoenix.mjs`],
};
const got = new Map();
const browsers = [];
const profiles = [];

const end = (code) => {
  // Each with its children, which would go on writing into its profile.
  browsers.filter((browser) => browser.pid && browser.exitCode === null).forEach((browser) => process.kill(-browser.pid, "SIGKILL"));
  profiles.forEach((profile) => rmSync(profile, { recursive: true, force: true, maxRetries: 10 }));
  process.exit(code);
};
process.on("SIGTERM", () => end(1));
// Who started this may be gone by then, and the browsers would stay.
setTimeout(() => end(4), 100_000);

const server = createServer((asked, answer) => {
  const path = new URL(asked.url, "http://page").pathname;
  if (path === "/told") {
    let body = "";
    asked.on("data", (chunk) => (body += chunk));
    asked.on("end", () => {
      answer.end();
      console.log(body);
      const told = JSON.parse(body);
      if (told.error) end(2);
      if (told.got) got.set(told.me, told.got);
      const all = peers.every(({ me, peer }) => got.get(me) === `hello from ${peer}`);
      if (all) end(0);
    });
    return;
  }
  const [type, file] = files[path] ?? [];
  if (!file) return answer.writeHead(404).end();
  answer.writeHead(200, { "content-type": type }).end(readFileSync(file));
});
server.listen(0, "127.0.0.1", () => {
  for (const { me, peer, token, offers } of peers) {
    const profile = mkdtempSync(join(tmpdir(), "orrery-browser-"));
    profiles.push(profile);
    const query = new URLSearchParams({ url, me, peer, token, offers });
    const page = `http://127.0.0.1:${server.address().port}/?${query}`;
    const browser = spawn(
      "chromium",
      [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        // Both are on one machine, and nobody answers multicast DNS here.
        "--disable-features=WebRtcHideLocalIpsWithMdns",
        "--allow-loopback-in-peer-connection",
        "--remote-debugging-port=0",
        `--user-data-dir=${profile}`,
        page,
      ],
      { stdio: "ignore", detached: true },
    );
    browser.on("error", (error) => {
      console.log(JSON.stringify({ error: String(error) }));
      end(3);
    });
    browsers.push(browser);
  }
});
