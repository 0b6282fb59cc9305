// Live pages without a framework: the server draws, this file asks for the drawing again.
const $ = (id) => document.getElementById(id);
const csrf = () => document.querySelector("meta[name=csrf]").content;

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-ducklake-csrf": csrf() },
    body: JSON.stringify(body),
  });
  if (response.ok) return response;
  let said = response.statusText;
  try {
    const answer = await response.json();
    said = [typeof answer.detail === "string" ? answer.detail : said, answer.remedy].filter(Boolean).join(" ");
  } catch { /* no JSON: the status says it */ }
  const error = new Error(said);
  error.status = response.status;
  throw error;
}

// What a reader has open, chosen or typed stays: `data-keep` is never replaced.
async function redraw() {
  if (document.activeElement && document.activeElement.closest("form.filter")) return;
  const response = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!response.ok) return;
  const drawn = new DOMParser().parseFromString(await response.text(), "text/html");
  const next = drawn.getElementById("main");
  if (!next) return;
  const focused = document.activeElement && document.activeElement.getAttribute("href");
  const before = [...document.querySelectorAll("main [data-keep]")];
  [...next.querySelectorAll("[data-keep]")].forEach((place, at) => before[at] && place.replaceWith(before[at]));
  const opened = [...document.querySelectorAll("main details")].map((one) => one.open);
  const details = [...next.querySelectorAll("details")];
  if (details.length === opened.length) details.forEach((one, at) => { one.open = opened[at]; });
  const scrolled = [...document.querySelectorAll("main .scroll")].map((one) => one.scrollLeft);
  $("main").replaceChildren(...next.childNodes);
  document.querySelectorAll("main .scroll").forEach((one, at) => { one.scrollLeft = scrolled[at] || 0; });
  if (focused) document.querySelector(`main a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

// A part of the page that has an event of its own.
async function redrawFragment() {
  const place = document.querySelector("[data-fragment]");
  if (!place) return;
  const response = await fetch(place.dataset.fragment, { headers: { accept: "text/html" } });
  if (!response.ok) return;
  const drawn = new DOMParser().parseFromString(await response.text(), "text/html");
  place.replaceChildren(...drawn.body.childNodes);
}

function listen() {
  const shown = $("live");
  const events = new EventSource("/api/events");
  let first = true, waiting = null;
  events.addEventListener("change", () => {
    shown.textContent = shown.dataset.live;
    shown.classList.remove("off");
    if (first) { first = false; return; }
    waiting ??= setTimeout(async () => { waiting = null; await redraw().catch(() => {}); }, 300);
  });
  events.addEventListener("live", () => { redrawFragment().catch(() => {}); });
  events.onerror = () => { shown.textContent = shown.dataset.offline; shown.classList.add("off"); };
}

function table(result) {
  const drawn = document.createElement("table");
  const head = drawn.createTHead().insertRow();
  for (const column of result.columns) {
    const cell = document.createElement("th");
    cell.textContent = column.name;
    cell.title = column.type;
    head.append(cell);
  }
  const body = drawn.createTBody();
  for (const row of result.rows) {
    const line = body.insertRow();
    for (const value of row) line.insertCell().textContent = value ?? "NULL";
  }
  return drawn;
}

async function ask(format) {
  const place = $("result");
  place.textContent = "…";
  try {
    const response = await post("/api/sql", { sql: $("sql").value, format });
    if (format === "json") {
      place.replaceChildren(table(await response.json()));
      return;
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = `result.${format}`;
    link.click();
    URL.revokeObjectURL(link.href);
    place.textContent = link.download;
  } catch (error) { place.textContent = error.message; }
}

const ACTIONS = {
  redrive: { path: "/api/dead-letters/redrive", wish: (what) => ({ what: [what] }), say: (answer, word) => [
    ...answer.tables.map((one) => `${one.table}: ${one.rows} ${word.rows}, ${one.still_dead} ${word.dead}`),
    ...Object.entries(answer.rejects).map(([name, count]) => `${name}: ${count} ${word.rejects}`),
  ] },
  drop: { path: "/api/dead-letters/drop", wish: (what) => ({ what: [what] }), say: (answer, word) => [
    `${answer.dropped} ${answer.dry_run ? word.would : word.dropped}`,
  ] },
  replay: { path: "/api/replay", wish: (what) => ({ table: what }), say: (answer, word) => [
    `${answer.table}: ${answer.compared} ${word.compared}, ${answer.missing} ${word.missing}, ${answer.filled} ${word.filled}: ${answer.exact ? word.exact : word.differs}`,
  ] },
  backfill: { path: "/api/backfill", wish: (what, query) => ({ table: what, where: query }), say: (answer, word) => [
    answer.dry_run ? `${answer.table}: ${answer.count === null ? word.all : `${answer.count} ${answer.kind}`} ${word.again}` : `${answer.table}: ${word.asked}`,
  ] },
};

// A dry run first: what it finds is shown beside the button that does it.
async function act(button, dry) {
  const place = $("outcome"), { action, what, label } = button.dataset;
  const query = button.dataset.query ? $(button.dataset.query).value : "";
  button.disabled = true;
  place.textContent = "…";
  try {
    const wish = { ...ACTIONS[action].wish(what, button.dataset.asked ?? query), dry_run: dry };
    const answer = await (await post(ACTIONS[action].path, wish)).json();
    const said = document.createElement("p");
    said.textContent = (dry ? `${place.dataset.dry}: ` : "") + (ACTIONS[action].say(answer, place.dataset).join("; ") || "–");
    place.replaceChildren(said);
    if (dry) {
      const sure = document.createElement("button");
      sure.type = "button";
      sure.textContent = `${label}: ${what}`;
      Object.assign(sure.dataset, { action, what, label, asked: query, confirm: "1" });
      place.append(sure);
      sure.focus({ preventScroll: true });
    } else await redraw();
  } catch (error) {
    place.textContent = error.message;
    if (error.status === 403) location.assign("/login");
  } finally { button.disabled = false; }
}

async function signIn(token) {
  await post("/api/login", { token });
  location.assign("/trust");
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.action) act(button, !button.dataset.confirm);
  if (button.dataset.format) ask(button.dataset.format);
  if (button.id === "theme") {
    const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    document.documentElement.dataset.theme = dark === "dark" ? "light" : "dark";
    localStorage.setItem("theme", document.documentElement.dataset.theme);
  }
});
document.addEventListener("submit", (event) => {
  if (event.target.id === "sqlbox") { event.preventDefault(); ask("json"); }
  if (event.target.id === "login") {
    event.preventDefault();
    signIn($("token").value).catch((error) => { $("outcome").textContent = error.message; });
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.id === "sql") ask("json");
});

const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;
const given = location.hash.match(/^#token=(.+)$/);
if (given) {
  history.replaceState(null, "", location.pathname);
  signIn(decodeURIComponent(given[1])).catch((error) => { $("live").textContent = error.message; });
} else if ($("live")) listen();
