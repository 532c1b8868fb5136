// Keeps two things that the server cannot know: whether this page is still connected, and whether the reader follows the log.
"use strict";

const wire = document.getElementById("wire");
const state = document.getElementById("wire-state");
const log = document.getElementById("log");
const logState = document.getElementById("log-state");
const LOG_LINES_MAX = 5000;

function show(name, label) {
  state.dataset.state = name;
  state.querySelector(".label").textContent = label;
}

function isFrom(event, element) {
  return element && event.target === element;
}

document.addEventListener("htmx:sse:after:connection", (event) => {
  if (isFrom(event, wire)) show("live", "live");
  if (isFrom(event, log)) logState.textContent = "following";
});

for (const name of ["htmx:sse:error", "htmx:sse:close"]) {
  document.addEventListener(name, (event) => {
    if (isFrom(event, wire)) show("lost", "reconnecting");
    if (isFrom(event, log)) logState.textContent = event.detail?.reason === "message" ? "complete" : "reconnecting";
  });
}

if (log) {
  let isAtEnd = true;
  log.addEventListener("scroll", () => {
    isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  });
  new MutationObserver(() => {
    while (log.childElementCount > LOG_LINES_MAX) log.firstElementChild.remove();
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  }).observe(log, { childList: true });
}
