"use strict";
(() => {
  const form = document.querySelector("form.filter");
  const shown = document.getElementById("shown");
  const said = document.getElementById("said");
  const rows = [...document.querySelectorAll("[data-cell]")];
  const table = rows.filter((row) => row.tagName === "TR");
  const words = new Map(table.map((row) => [row.dataset.cell, row.textContent.toLowerCase()]));
  const facts = new Map(table.map((row) => [row.dataset.cell, row.dataset]));
  const names = ["verdict", "kind", "expected", "scenario"];

  function matches(cell) {
    const query = form.q.value.trim().toLowerCase().split(/\s+/);
    const text = words.get(cell);
    return query.every((word) => text.includes(word)) &&
      names.every((name) => !form[name].value || facts.get(cell)[name] === form[name].value);
  }

  function filter() {
    let count = 0;
    for (const row of rows) {
      const good = matches(row.dataset.cell);
      if (row.classList.contains("tile")) row.classList.toggle("dim", !good);
      else row.hidden = !good;
      if (good && row.tagName === "TR") count += 1;
    }
    shown.textContent = `${count} of ${table.length} cells shown`;
  }

  function remember() {
    const chosen = new URLSearchParams();
    for (const name of ["q", ...names]) if (form[name].value) chosen.set(name, form[name].value);
    const hash = chosen.size ? `#?${chosen}` : "#cells";
    try { history.replaceState(null, "", hash); } catch { /* some viewers forbid it; the filter works all the same */ }
  }

  // A link leads to a cell, an attempt or a filter: whatever is folded around its target is opened.
  function follow() {
    if (location.hash.startsWith("#?")) {
      const chosen = new URLSearchParams(location.hash.slice(2));
      for (const name of ["q", ...names]) form[name].value = chosen.get(name) ?? "";
      filter();
      document.getElementById("cells").scrollIntoView();
      return;
    }
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    const cell = target.closest(".cell");
    if (cell && cell.hidden) { form.reset(); filter(); }
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target === cell) cell.querySelector("details").open = true;
    target.scrollIntoView();
  }

  function source(element) {
    const found = element.closest("[data-e],[data-r],[data-src]");
    if (!found) return "";
    if (found.dataset.e) return `events.jsonl line ${found.dataset.e}`;
    return found.dataset.r ? `results.jsonl line ${found.dataset.r}` : found.dataset.src;
  }

  document.addEventListener("pointerover", (event) => {
    const found = event.target.closest("[data-e],[data-r],[data-src]");
    if (found && !found.title && found.namespaceURI.endsWith("xhtml")) found.title = source(found);
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("a,button,summary,input,select")) return;
    said.textContent = source(event.target);
    clearTimeout(said.timer);
    said.timer = setTimeout(() => { said.textContent = ""; }, 6000);
  });
  document.getElementById("theme").addEventListener("click", (event) => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    event.currentTarget.setAttribute("aria-pressed", String(!dark));
  });
  form.addEventListener("input", () => { filter(); remember(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { filter(); remember(); }));
  addEventListener("hashchange", follow);
  document.getElementById("open").addEventListener("click", (event) => {
    const open = event.currentTarget.dataset.open !== "yes";
    for (const row of rows) if (row.tagName === "SECTION" && !row.hidden) row.querySelector("details").open = open;
    event.currentTarget.dataset.open = open ? "yes" : "no";
    event.currentTarget.textContent = open ? "Fold all" : "Unfold all";
  });
  form.hidden = false;
  filter();
  follow();
})();
