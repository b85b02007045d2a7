// Keeps the living part of a page alive, opens the menu of a phone, ticks boxes. Without it every page works and is reloaded.
"use strict";

document.body.classList.add("scripted");

const live = document.getElementById("live");
if (live && "EventSource" in window) {
  const news = new EventSource(live.dataset.live);
  news.addEventListener("message", (event) => {
    // What somebody opened stays open, and who stands on a button stays there.
    const focused = live.contains(document.activeElement) ? document.activeElement : null;
    const at = focused && (focused.id ? `#${CSS.escape(focused.id)}` : focused.getAttribute("href") && `[href="${CSS.escape(focused.getAttribute("href"))}"]`);
    const open = [...live.querySelectorAll("details")].map((details) => details.open);
    live.innerHTML = event.data;
    live.querySelectorAll("details").forEach((details, n) => { details.open = open[n] ?? false; });
    if (at) live.querySelector(at)?.focus({ preventScroll: true });
    document.body.classList.remove("stale");
  });
  news.addEventListener("error", () => document.body.classList.add("stale"));
  addEventListener("pagehide", () => news.close());
}

const menu = document.querySelector("button.menu");
menu?.addEventListener("click", () => {
  const open = menu.getAttribute("aria-expanded") !== "true";
  menu.setAttribute("aria-expanded", String(open));
  document.body.classList.toggle("menu-open", open);
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && menu?.getAttribute("aria-expanded") === "true") {
    menu.click();
    menu.focus();
  }
});

for (const button of document.querySelectorAll("button[data-tick]")) {
  button.addEventListener("click", () => {
    const boxes = [...document.querySelectorAll(`input[type=checkbox][name="${button.dataset.tick}"]`)];
    const all = boxes.some((box) => !box.checked);
    boxes.forEach((box) => { box.checked = all; });
  });
}
