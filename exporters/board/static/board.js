// Keeps an open board up to date: puts what the server sends into the page where it differs, and
// says so when nothing comes any more. Without this script the page is whole, and reloads itself.
"use strict";
(() => {
  const SILENT_MS = 10_000; // the server speaks every 3 s at least
  const GONE_MS = 4_000; // the same where the connection is known to be lost
  const AGAIN_MS = 3_000;
  const root = document.documentElement;
  const at = (id) => document.getElementById(id);
  let source;
  let title = document.title;
  let heardAt = Date.now();
  let triedAt = Date.now();

  // Makes `here` equal to `there` without replacing what can stay: focus, scrolling, selection and
  // open details are kept.
  function morph(here, there) {
    for (const { name } of [...here.attributes]) {
      const opened = name === "open" && here.nodeName === "DETAILS";
      if (!there.hasAttribute(name) && !opened) here.removeAttribute(name);
    }
    for (const { name, value } of there.attributes) {
      if (here.getAttribute(name) !== value) here.setAttribute(name, value);
    }
    morphChildren(here, there);
  }

  function morphChildren(here, there) {
    const now = [...here.childNodes];
    const next = [...there.childNodes];
    next.forEach((wanted, position) => {
      const found = now[position];
      if (!found) here.append(wanted);
      else if (found.nodeName !== wanted.nodeName) found.replaceWith(wanted);
      else if (wanted.nodeType === Node.ELEMENT_NODE) morph(found, wanted);
      else if (found.data !== wanted.data) found.data = wanted.data;
    });
    now.slice(next.length).forEach((node) => node.remove());
  }

  function incidents() {
    const listed = document.querySelectorAll("#incidents [data-key]");
    return new Map(
      [...listed].map((one) => [one.dataset.key, one.querySelector(".words").textContent]),
    );
  }

  // Tells a screen reader what began and what ended; numbers that only changed are not read again.
  function announce(before, after) {
    const said = [];
    for (const [key, words] of after) if (!before.has(key)) said.push(`New: ${words}`);
    for (const [key, words] of before) if (!after.has(key)) said.push(`Over: ${words}`);
    if (said.length) at("news").textContent = said.join(" ");
  }

  function renewOnce(build) {
    // Once only: two exporters of different versions may answer in turn.
    if (build === root.dataset.build || sessionStorage.getItem("build") === build) return;
    sessionStorage.setItem("build", build);
    location.reload();
  }

  function show(news) {
    renewOnce(news.build);
    const before = incidents();
    for (const [id, html] of Object.entries(news.parts)) {
      const template = document.createElement("template");
      template.innerHTML = html;
      morphChildren(at(id), template.content);
    }
    announce(before, incidents());
    title = news.title;
  }

  function hear() {
    heardAt = Date.now();
    tell();
  }

  function since() {
    const made = document.querySelector("#made-at time");
    return made ? made.textContent : `${new Date(heardAt).toISOString().slice(11, 19)} UTC`;
  }

  function span(ms) {
    const s = Math.round(ms / 1000);
    return s < 60 ? `${s} s` : `${Math.floor(s / 60)} min ${s % 60} s`;
  }

  // The banner's text is set once, so that it is read out once; its age counts beside it.
  function tell() {
    const silentMs = Date.now() - heardAt;
    const open = source.readyState === EventSource.OPEN;
    const isOld = silentMs > (open ? SILENT_MS : GONE_MS);
    const banner = at("old");
    if (isOld && banner.hidden) {
      const words = document.createElement("p");
      words.textContent = `This page is old: no news from the server since ${since()}. `;
      const age = document.createElement("span");
      age.id = "old-age";
      age.ariaHidden = "true";
      words.append(age);
      banner.replaceChildren(words);
    }
    banner.hidden = !isOld;
    root.toggleAttribute("data-old", isOld);
    const tab = isOld ? "Old · Tokenpulse" : title;
    if (document.title !== tab) document.title = tab;
    if (isOld) at("old-age").textContent = `Silent for ${span(silentMs)}.`;
    const live = at("live");
    const word = isOld ? "Not live" : open ? "Live" : "Connecting";
    if (live.textContent !== word) live.textContent = word;
    live.toggleAttribute("data-live", open && !isOld);
  }

  function listen() {
    triedAt = Date.now();
    source = new EventSource("board/events");
    source.addEventListener("open", hear);
    source.addEventListener("alive", hear);
    source.addEventListener("board", (event) => {
      show(JSON.parse(event.data));
      hear();
    });
  }

  // The browser connects again by itself, but not after a refusal, nor when a connection is
  // dead without being closed.
  function watch() {
    tell();
    const refused = source.readyState === EventSource.CLOSED;
    const silentMs = Date.now() - Math.max(heardAt, triedAt);
    if (silentMs > (refused ? AGAIN_MS : 2 * SILENT_MS)) {
      source.close();
      listen();
    }
  }

  // Where not all days have room, the newest are the ones to see.
  for (const days of document.querySelectorAll(".strip .scroll")) days.scrollLeft = days.scrollWidth;
  listen();
  setInterval(watch, 1_000);
})();
