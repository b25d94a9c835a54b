// Brings the page up to date when something on it has changed: the server says
// what has (server-sent events), the page is asked for again, and what differs
// is changed in place, so that focus, selection and scrolling stay.
"use strict";
(() => {
  const least = 1000; // ms between two askings
  const live = document.getElementById("live");
  let source, timer, asking = false, again = false, last = 0;

  const busy = (el) => el === document.activeElement && /^(INPUT|SELECT|TEXTAREA)$/.test(el.tagName);

  // alike says whether b may take a's place without being another thing.
  const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");

  function morph(from, to) {
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
      return;
    }
    if (busy(from) || from.hasAttribute("data-keep")) return;
    for (const {name} of [...from.attributes]) if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);
    for (const {name, value} of [...to.attributes]) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    let at = from.firstChild;
    for (const want of [...to.childNodes]) {
      if (want.id) {
        // Something that is further down stays where it is, with its focus, and
        // what is before it goes.
        let there = at;
        while (there && there.id !== want.id) there = there.nextSibling;
        while (there && at !== there) {
          const next = at.nextSibling;
          at.remove();
          at = next;
        }
      }
      if (at && alike(at, want)) {
        const next = at.nextSibling;
        morph(at, want);
        at = next;
      } else {
        from.insertBefore(document.importNode(want, true), at);
      }
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  async function refresh() {
    if (asking) { again = true; return; }
    asking = true;
    try {
      const res = await fetch(location.href, {headers: {"Accept": "text/html"}, cache: "no-store", redirect: "error"});
      if (res.ok) {
        const page = new DOMParser().parseFromString(await res.text(), "text/html");
        for (const id of ["main", "nav"]) {
          const here = document.getElementById(id), there = page.getElementById(id);
          if (here && there) morph(here, there);
        }
        document.dispatchEvent(new Event("refreshed"));
      }
    } catch (e) {
      // The connection for events says whether the console is away.
    } finally {
      asking = false;
      last = Date.now();
      if (again) { again = false; soon(); }
    }
  }

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(refresh, Math.max(50, least - (Date.now() - last)));
  }

  function say(text, state) {
    live.textContent = text;
    live.dataset.state = state;
  }

  function listen() {
    const topics = document.body.dataset.topics;
    if (!topics || source) return;
    source = new EventSource("/events?" + topics);
    let lost = false;
    source.onopen = () => { say("live", "on"); if (lost) soon(); lost = false; };
    source.onerror = () => { say("no connection", "off"); lost = true; };
    source.addEventListener("change", soon);
  }

  // A page that nobody looks at keeps no connection.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { source?.close(); source = undefined; }
    else { listen(); soon(); }
  });
  addEventListener("pagehide", () => { source?.close(); source = undefined; });
  addEventListener("pageshow", (e) => { if (e.persisted) { listen(); soon(); } });

  // "/" goes to the search, as in many a program.
  addEventListener("keydown", (e) => {
    if (e.key !== "/" || e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
    const q = document.querySelector("input[type=search]");
    if (q) { e.preventDefault(); q.focus(); q.select(); }
  });

  listen();
})();
