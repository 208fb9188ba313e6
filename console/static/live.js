/* Rows come by server-sent events, the newest first. Without this script the page has a link to look again. */
"use strict";
const rows = document.querySelector("[data-live]");
const state = document.getElementById("live-state");
const none = document.getElementById("live-none");
const pause = document.getElementById("live-pause");
let position = rows.dataset.after;
let source = null;

function say(words) {
  state.textContent = words;
}

function stop(words) {
  source.close();
  source = null;
  say(words);
}

function follow() {
  const address = new URL(rows.dataset.live, location);
  address.searchParams.set("after", position);
  source = new EventSource(address);
  source.addEventListener("rows", (message) => {
    position = message.lastEventId;
    rows.insertAdjacentHTML("afterbegin", message.data);
    while (rows.rows.length > Number(rows.dataset.most)) rows.deleteRow(-1);
    none.hidden = true;
  });
  source.addEventListener("state", (message) => say(message.data));
  source.addEventListener("over", (message) => {
    stop(message.data);
    pause.hidden = true;
  });
  source.onerror = () => {
    /* A browser comes back by itself, unless it was refused. */
    if (source.readyState === EventSource.CLOSED) {
      stop("Not live: the console refused. Look again to see why.");
      pause.hidden = true;
    } else say("Connecting again.");
  };
}

pause.addEventListener("click", () => {
  if (source) stop("Paused. Nothing is missed: go on when you like.");
  else follow();
  pause.textContent = source ? "Pause" : "Go on";
});
pause.hidden = false;
say("Connecting.");
follow();
