"use strict";
// Sorts tables, picks runs and metrics, filters examples and marks the words that differ. The page reads without it.
// Replies are hostile: their text is only ever read and set as text, never as markup.
(() => {
  const all = (selector, under = document) => [...under.querySelectorAll(selector)];

  const make = (tag, text = "", attributes = {}) => {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };

  const labelled = (text, control, before = false) => {
    const label = make("label");
    label.append(...(before ? [text + " ", control] : [control, " " + text]));
    return label;
  };

  // Tables: a header is a button that sorts by its column; what is no number, or nothing, comes last.
  const NUMBER = /^[+-]?(\d[\d,]*\.?\d*|\.\d+)(e[+-]?\d+)?/i;

  const keyOf = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = NUMBER.exec(text.replace("−", "-"));
    return { text, number: number ? Number(number[0].replaceAll(",", "")) : null, none: text === "-" || text === "" };
  };

  const compared = (a, b, sign) => {
    if (a.none !== b.none) return a.none ? 1 : -1;
    if ((a.number === null) !== (b.number === null)) return a.number === null ? 1 : -1;
    return sign * (a.number === null ? a.text.localeCompare(b.text) : a.number - b.number);
  };

  const sortBy = (table, header) => {
    const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of all("th[aria-sort]", table)) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: keyOf(row, header.cellIndex) }));
    rows.sort((a, b) => compared(a.key, b.key, sign));
    table.tBodies[0].append(...rows.map(({ row }) => row));
  };

  for (const table of all("table")) {
    if (table.tBodies[0].rows.length < 2) continue;
    for (const header of all("thead th", table)) {
      const button = make("button", header.textContent, { type: "button" });
      button.addEventListener("click", () => sortBy(table, header));
      header.replaceChildren(button);
    }
  }

  // Runs and metrics: whatever bears the name of one that is not picked is hidden.
  const left = { run: new Set(), metric: new Set() };

  const pick = () => {
    for (const element of all("[data-run], [data-metric]")) {
      const { run, metric } = element.dataset;
      element.classList.toggle("off", left.run.has(run) || left.metric.has(metric));
    }
  };

  const picker = (kind, title) => {
    const names = new Set(all(`[data-${kind}]`).map((element) => element.dataset[kind]));
    const field = make("fieldset");
    field.append(make("legend", title));
    for (const name of names) {
      const box = make("input", "", { type: "checkbox" });
      box.checked = true;
      box.addEventListener("change", () => {
        left[kind][box.checked ? "delete" : "add"](name);
        pick();
      });
      field.append(labelled(name, box));
    }
    return names.size > 1 ? field : "";
  };

  const controls = make("details", "", { class: "picks" });
  controls.append(make("summary", "Pick runs and metrics"), picker("run", "Runs"), picker("metric", "Metrics"));
  if (controls.children.length > 1) document.querySelector(".verdicts").after(controls);

  // Words that differ: those outside a longest common subsequence of words (of Chinese and Japanese, characters).
  const WORD = /\s*(?:[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[\p{L}\p{N}\p{M}_]+|\S)|\s+$/gu;

  const common = (a, b) => {
    const width = b.length + 1;
    const length = new Uint16Array((a.length + 1) * width);
    for (let i = a.length - 1; i >= 0; i--) {
      for (let j = b.length - 1; j >= 0; j--) {
        const at = i * width + j;
        length[at] = a[i] === b[j] ? length[at + width + 1] + 1 : Math.max(length[at + width], length[at + 1]);
      }
    }
    const kept = [new Set(), new Set()];
    for (let i = 0, j = 0; i < a.length && j < b.length; ) {
      if (a[i] === b[j]) {
        kept[0].add(i++);
        kept[1].add(j++);
      } else if (length[(i + 1) * width + j] >= length[i * width + j + 1]) i++;
      else j++;
    }
    return kept;
  };

  const marked = (words, kept, tag) => {
    const parts = [];
    words.forEach((word, n) => {
      if (kept.has(n) || !word.trim()) return parts.push(word);
      const space = word.slice(0, word.length - word.trimStart().length);
      const last = parts.at(-1);
      if (last instanceof Element) last.textContent += word;
      else parts.push(space, make(tag, word.slice(space.length)));
    });
    return parts;
  };

  const mark = (pair, on) => {
    const sides = all(".reply", pair);
    if (sides.length !== 2) return;
    const texts = sides.map((side) => side.textContent);
    const words = texts.map((text) => text.match(WORD) ?? []);
    const kept = on ? common(...words.map((list) => list.map((word) => word.trim()))) : null;
    sides.forEach((side, n) => {
      side.replaceChildren(...(on ? marked(words[n], kept[n], n ? "ins" : "del") : [texts[n]]));
    });
  };

  // Examples: found by their text, by who was better; their words are compared when they are opened.
  for (const box of all("details.examples")) {
    const articles = all("article", box);
    const search = make("input", "", { type: "search" });
    const outcome = make("select");
    for (const [value, text] of [["", "all"], ["better", "better"], ["worse", "worse"]]) {
      outcome.append(make("option", text, { value }));
    }
    const words = make("input", "", { type: "checkbox" });
    words.checked = true;
    const count = make("output");

    const filter = () => {
      const wanted = search.value.toLowerCase();
      let seen = 0;
      for (const article of articles) {
        const fits = !outcome.value || article.dataset.outcome === outcome.value;
        const out = !fits || !article.textContent.toLowerCase().includes(wanted);
        article.classList.toggle("out", out);
        seen += !out;
      }
      count.textContent = `${seen} of ${articles.length}`;
    };
    const compare = () => {
      if (box.open) for (const pair of all(".pair", box)) mark(pair, words.checked);
    };

    search.addEventListener("input", filter);
    outcome.addEventListener("change", filter);
    words.addEventListener("change", compare);
    box.addEventListener("toggle", compare);
    filter();
    const tools = make("div", "", { class: "tools" });
    tools.append(labelled("Search", search, true));
    if (articles.some((article) => article.dataset.outcome)) tools.append(labelled("Show", outcome, true));
    if (all(".pair > div + div", box).length) tools.append(labelled("Mark the words that differ", words));
    tools.append(count);
    all("summary", box)[0].after(tools);
  }
})();
