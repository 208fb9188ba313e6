/* Says so when what changes by itself on a page does not any more: nothing that stands there is known to be so still. */
"use strict";
const notice = document.getElementById("stale");
const words = document.getElementById("stale-words");
const way = document.getElementById("stale-way");
let last = Date.now();
let over = false;

function live() {
  last = Date.now();
  notice.hidden = true;
}

function stale(why) {
  words.textContent = why;
  notice.hidden = false;
  for (const headline of document.querySelectorAll(".headline")) {
    headline.textContent = "Not known any more";
    headline.closest(".verdict").className = "verdict unknown";
  }
  for (const badge of document.querySelectorAll(".station .badge")) {
    badge.textContent = "not known";
    badge.className = "badge unknown";
    badge.parentElement.replaceChildren(badge);
    badge.closest(".station").className = "station unknown";
  }
}

function look() {
  const part = document.querySelector("[data-stale]");
  const seconds = Math.round((Date.now() - last) / 1000);
  if (part && !over && seconds > Number(part.dataset.stale)) {
    stale(`Not live: nothing has come from the console for ${seconds} s.`);
  }
}

document.addEventListener("htmx:sseMessage", live);
document.addEventListener("htmx:afterOnLoad", live);
document.addEventListener("htmx:sseClose", (message) => {
  if (message.detail.type !== "message") return;
  over = true;
  way.href = "/sign-in";
  way.textContent = "Sign in";
  stale("Not live: you are not signed in any more.");
});
setInterval(look, 1000);
