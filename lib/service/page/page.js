// The search page: what is searched for lives in the address, so that every view can be shared.
const PAGE_SIZE = 24;
const TYPING_PAUSE_MS = 220;
const EXAMPLES = ["orange juice", "two dogs", "boat on the water", "dog -person",
  "beach^2 sunset", "red truck", "pizza on a table", "snow"];

const $ = (selector, root = document) => root.querySelector(selector);
const query = $("#query"), results = $("#results"), notice = $("#notice"), more = $("#more");
const welcome = $("#welcome"), failure = $("#failure"), chip = $("#chip"), why = $("#why");

const state = { q: "", like: null, k: PAGE_SIZE, file: null };
let hits = [], info = null, running = null, typing = 0, typed = false, opened = -1;

// ---- What is asked, and the address that says so

function readAddress() {
  const asked = new URLSearchParams(location.search);
  state.q = asked.get("q") ?? "";
  state.like = asked.get("like");
  state.k = Math.max(1, Number.parseInt(asked.get("k"), 10) || PAGE_SIZE);
  state.file = null;
  query.value = state.q;
  clearTimeout(typing);
  typed = false;
}

function parameters(more) {
  const asked = new URLSearchParams();
  if (state.q.trim()) asked.set("q", state.q);
  if (state.like) asked.set("like", state.like);
  for (const [name, value] of Object.entries(more)) asked.set(name, value);
  return asked.toString();
}

function address() {
  const text = parameters(state.k === PAGE_SIZE ? {} : { k: state.k });
  return text ? `?${text}` : location.pathname;
}

function go(change, { push = true } = {}) {
  Object.assign(state, { k: PAGE_SIZE }, change);
  if (query.value !== state.q) query.value = state.q;
  clearTimeout(typing);
  typed = false;
  const next = new URL(address(), location).href;
  if (next !== location.href || state.file) history[push ? "pushState" : "replaceState"](null, "", next);
  search();
}

// ---- Searching

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The service cannot be reached. Is it still running?"), { title: "No connection" });
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const detail = body.error ?? { code: "failed", message: `The service answered ${response.status}.` };
  throw Object.assign(new Error(detail.message), { status: response.status, ...detail });
}

async function request(signal) {
  const asked = parameters({ k: state.k, distinct: true }); // albums hold copies
  if (!state.file) return ask(`search?${asked}`, { signal });
  if (state.file.size > info?.limits.upload_bytes) {
    const [size, most] = [state.file.size, info.limits.upload_bytes].map((bytes) => `${(bytes / 1e6).toFixed(1)} MB`);
    throw Object.assign(new Error(`It has ${size}, and at most ${most} can be sent. A smaller copy finds the same.`), { title: "This image is too large" });
  }
  return ask(`search/image?${asked}`, { method: "POST", body: state.file, headers: { "Content-Type": state.file.type || "image/jpeg" }, signal });
}

async function search() {
  running?.abort();
  showChip();
  const empty = !state.q.trim() && !state.like && !state.file;
  document.title = empty ? "Image search" : `${state.q || "Like an image"} · Image search`;
  if (empty) return showWelcome();
  const mine = (running = new AbortController());
  welcome.hidden = true;
  results.setAttribute("aria-busy", "true");
  if (!results.childElementCount && failure.hidden) showSkeleton();
  const start = performance.now();
  try {
    const answer = await request(mine.signal);
    if (!mine.signal.aborted) showAnswer(answer, performance.now() - start); // not over what came after
  } catch (error) {
    if (!mine.signal.aborted) showFailure(error);
  }
  if (mine === running) results.setAttribute("aria-busy", "false");
}

// ---- Showing

function showWelcome() {
  hits = [];
  results.replaceChildren();
  results.setAttribute("aria-busy", "false");
  more.hidden = failure.hidden = true;
  welcome.hidden = false;
  notice.textContent = "";
}

function showSkeleton() {
  results.replaceChildren(...Array.from({ length: 12 }, (_, index) => {
    const card = document.createElement("div");
    card.className = "card skeleton";
    shape(card, [1.5, 0.75, 1.33, 1.33, 1][index % 5]);
    return card;
  }));
}

function showAnswer(answer, milliseconds) {
  const result = answer.results[0];
  hits = result.hits;
  failure.hidden = true;
  results.replaceChildren(...hits.map(card));
  if (results.firstChild) results.firstChild.tabIndex = 0;
  const known = info ? ` of ${info.images.toLocaleString()}` : "";
  notice.textContent = `${hits.length}${known} images in ${Math.round(milliseconds)} ms`;
  if (result.unknown_words.length) {
    const words = document.createElement("b");
    words.textContent = result.unknown_words.join(", ");
    notice.append(" · unknown: ", words);
  }
  if (result.unseen_words.length) notice.append(` · never seen in captions: ${result.unseen_words.join(", ")}`);
  if (result.suggestion) notice.append(" · ", ...didYouMean(result.suggestion));
  const most = Math.min(info?.limits.k ?? 200, info?.images ?? Infinity);
  more.hidden = hits.length < state.k || state.k >= most;
  if (!hits.length) showFailure({ title: "Nothing found", message: "The database holds no image that this search may find." });
}

function searchLink(text) {
  const link = document.createElement("a");
  link.href = `?q=${encodeURIComponent(text)}`;
  link.textContent = text;
  link.onclick = (event) => { event.preventDefault(); go({ q: text }); };
  return link;
}

function didYouMean(suggestion) {
  return ["did you mean ", searchLink(suggestion), "?"];
}

function showFailure(error) {
  hits = [];
  results.replaceChildren();
  more.hidden = true;
  notice.textContent = "";
  failure.hidden = false;
  const titles = { query_syntax: "This query does not parse", query_unusable: "Nothing to look for", unauthorized: "Access token needed", overloaded: "Many people are searching", unknown_image: "No such image" };
  $("h2", failure).textContent = error.title ?? titles[error.code] ?? "That did not work";
  $("p", failure).textContent = error.message;
  if (error.suggestion) $("p", failure).append(" – ", ...didYouMean(error.suggestion));
  const shown = $("pre", failure);
  shown.replaceChildren();
  if (Number.isInteger(error.position)) {
    const characters = [...state.q], mark = document.createElement("mark");
    mark.textContent = characters[error.position] ?? "␣";
    shown.append(characters.slice(0, error.position).join(""), mark, characters.slice(error.position + 1).join(""));
  }
  $("#token-form").hidden = error.status !== 401;
}

function shape(element, ratio) {
  const kept = Math.min(Math.max(ratio, 0.5), 3);
  element.style.aspectRatio = kept;
  element.style.flex = `${kept} 1 calc(var(--row) * ${kept})`;
}

function card(hit, index) {
  const element = $("#card").content.firstElementChild.cloneNode(true);
  element.dataset.index = index;
  element.title = hit.image_id;
  element.setAttribute("aria-label", `${hit.captions[0] ?? hit.image_id}, score ${hit.score.toFixed(2)}`);
  shape(element, hit.width / hit.height || 1);
  element.style.animationDelay = `${Math.min(index, 12) * 18}ms`;
  const image = $("img", element);
  image.classList.add("waiting");
  image.onload = () => image.classList.remove("waiting");
  image.onerror = () => element.classList.add("broken");
  image.src = local(hit.thumbnail);
  $(".caption", element).textContent = hit.captions[0] ?? "";
  $(".fill", element).style.width = `${Math.max(0, hit.score) * 100}%`;
  $(".number", element).textContent = hit.score.toFixed(2);
  return element;
}

// Addresses of the service start at its root; the page may lie below a prefix.
function local(path) {
  return path.startsWith("/") ? path.slice(1) : path;
}

function showChip() {
  const image = $("img", chip);
  chip.hidden = !state.like && !state.file;
  image.hidden = false;
  image.onerror = () => { image.hidden = true; };
  if (state.file) {
    image.src = URL.createObjectURL(state.file);
    image.onload = () => URL.revokeObjectURL(image.src);
  } else if (state.like) {
    image.onload = null;
    image.src = `images/${state.like.split("/").map(encodeURIComponent).join("/")}/thumbnail`;
  }
}

// ---- Why?

async function explain(index) {
  opened = index;
  const hit = hits[index];
  const figure = $(".stage figure"), image = $("img", figure), canvas = $("canvas", figure);
  image.hidden = false;
  image.onerror = () => { image.hidden = true; };
  image.src = local(hit.thumbnail);
  image.alt = hit.captions[0] ?? hit.image_id;
  image.width = hit.width;
  image.style.height = "auto";
  image.style.aspectRatio = hit.width / hit.height;
  if (!/^https?:/.test(hit.uri)) image.src = local(hit.uri);
  canvas.width = canvas.height = 0;
  $(".name", why).textContent = hit.image_id;
  $(".total", why).textContent = "…";
  $(".shares", why).replaceChildren();
  $(".captions", why).replaceChildren(...hit.captions.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  $(".problem", why).hidden = true;
  $(".open", why).href = local(hit.uri);
  $(".previous", why).disabled = index === 0;
  $(".next", why).disabled = index === hits.length - 1;
  if (!why.open) why.showModal();
  if (state.file) return showShares({ score: hit.score, explanation: { words: [{ word: state.q.trim() ? "your image and the words" : "your image", weight: 1, share: hit.score }] } });
  try {
    const answer = await ask(`explain?${parameters({ image_id: hit.image_id })}`);
    if (opened === index) showShares(answer);
  } catch (error) {
    if (opened !== index) return;
    $(".total", why).textContent = "";
    $(".toggle", why).hidden = $(".legend", why).hidden = true;
    showProblem(error.message);
  }
}

function showProblem(message) {
  $(".problem", why).hidden = !message;
  $(".problem", why).textContent = message ?? "";
}

function showShares({ score, explanation, word_cells: wordCells }) {
  const total = document.createElement("b");
  total.textContent = score.toFixed(3);
  const count = explanation.words.length;
  $(".total", why).replaceChildren("Score ", total, count > 1 ? ` is the sum of ${count} shares:` : " comes from one share:");
  const widest = Math.max(...explanation.words.map(({ share }) => Math.abs(share)), 1e-9);
  const order = explanation.words.map((_, index) => index).sort((a, b) => explanation.words[b].share - explanation.words[a].share);
  $(".shares", why).replaceChildren(...order.map((index) => {
    const { word, weight, share } = explanation.words[index];
    const row = document.createElement("button");
    row.type = "button";
    row.innerHTML = '<span></span><span class="axis"><i></i></span><span class="amount"></span>';
    $("span", row).textContent = weight < 0 ? `without ${word}` : word;
    const bar = $("i", row), size = (Math.abs(share) / widest) * 50;
    bar.className = share < 0 ? "minus" : "";
    bar.style.width = `${size}%`;
    bar.style.left = share < 0 ? `${50 - size}%` : "50%";
    $(".amount", row).textContent = `${share < 0 ? "−" : "+"}${Math.abs(share).toFixed(3)}`;
    row.disabled = !wordCells;
    row.setAttribute("aria-pressed", "false");
    row.onclick = () => {
      const pressed = row.getAttribute("aria-pressed") === "true";
      for (const other of row.parentElement.children) other.setAttribute("aria-pressed", "false");
      row.setAttribute("aria-pressed", String(!pressed));
      drawHeat(pressed ? explanation.heat_map.cells : wordCells[index], explanation.heat_map.box);
    };
    return row;
  }));
  const heat = explanation.heat_map;
  $(".toggle", why).hidden = $(".legend", why).hidden = !heat;
  showProblem(explanation.heat_map_problem);
  if (heat) drawHeat(heat.cells, heat.box);
}

function drawHeat(cells, box) {
  const height = cells.length, width = cells[0].length;
  const largest = Math.max(...cells.flat().map(Math.abs), 1e-9);
  const small = new OffscreenCanvas(width, height), pen = small.getContext("2d");
  const pixels = pen.createImageData(width, height);
  cells.flat().forEach((value, index) => {
    const colour = value < 0 ? [43, 131, 255] : [255, 90, 31];
    pixels.data.set([...colour, 255 * (Math.abs(value) / largest) ** 1.2], index * 4);
  });
  pen.putImageData(pixels, 0, 0);
  const canvas = $(".stage canvas");
  canvas.width = canvas.height = 448;
  const brush = canvas.getContext("2d");
  brush.imageSmoothingQuality = "high";
  brush.drawImage(small, 0, 0, 448, 448);
  canvas.style.left = `${box.left * 100}%`;
  canvas.style.top = `${box.top * 100}%`;
  canvas.style.width = `${(box.right - box.left) * 100}%`;
  canvas.style.height = `${(box.bottom - box.top) * 100}%`;
}

// ---- What people do

$("#search").onsubmit = (event) => {
  event.preventDefault();
  go({ q: query.value });
  query.blur();
};

query.oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    go({ q: query.value }, { push: !typed }); // one step back undoes all that was typed
    typed = true;
  }, TYPING_PAUSE_MS);
};

$("button", chip).onclick = () => go({ like: null, file: null });
$("#upload").onchange = ({ target }) => {
  searchLike(target.files);
  target.value = "";
};
document.ondragover = (event) => { if (event.dataTransfer.types.includes("Files")) event.preventDefault(); };
document.ondrop = (event) => {
  if (event.dataTransfer.files.length) event.preventDefault(); // or the browser would leave the page
  searchLike(event.dataTransfer.files);
};
document.onpaste = ({ clipboardData }) => {
  if (!clipboardData.types.includes("text/plain")) searchLike(clipboardData.files); // a table has a picture, too
};

function searchLike([file]) {
  if (!file) return;
  if (why.open) why.close();
  go({ file, like: null });
}

more.onclick = () => go({ k: Math.min(state.k + PAGE_SIZE, info?.limits.k ?? 200) }, { push: false });

results.onclick = ({ target }) => {
  const chosen = target.closest(".card[data-index]");
  if (!chosen) return;
  const index = Number(chosen.dataset.index);
  if (target.closest(".like")) moreLike(hits[index]);
  else explain(index);
};

function moreLike(hit) {
  if (why.open) why.close();
  scrollTo({ top: 0 });
  go({ q: "", like: hit.image_id, file: null });
}

$(".close", why).onclick = () => why.close();
$(".like", why).onclick = () => moreLike(hits[opened]);
$(".previous", why).onclick = () => step(-1);
$(".next", why).onclick = () => step(1);
$("#heat").onchange = ({ target }) => $(".stage canvas").classList.toggle("off", !target.checked);
why.onclick = ({ target }) => { if (target === why) why.close(); };
why.onclose = () => {
  focusCard(opened);
  opened = -1;
};

function step(by) {
  const index = opened + by;
  if (hits[index]) explain(index);
}

function focusCard(index) {
  const cards = results.querySelectorAll(".card[data-index]");
  if (!cards[index]) return;
  for (const other of cards) other.tabIndex = -1;
  cards[index].tabIndex = 0;
  cards[index].focus();
  cards[index].scrollIntoView({ block: "nearest" });
}

function neighbour(index, key) {
  if (key === "ArrowLeft") return index - 1;
  if (key === "ArrowRight") return index + 1;
  if (key === "Home") return 0;
  if (key === "End") return hits.length - 1;
  const cards = [...results.querySelectorAll(".card[data-index]")];
  const place = (element) => {
    const { left, width, top } = element.getBoundingClientRect();
    return { x: left + width / 2, y: top };
  };
  const from = place(cards[index]), down = key === "ArrowDown" ? 1 : -1;
  let best = -1, least = Infinity;
  cards.forEach((element, at) => {
    const { x, y } = place(element), rise = (y - from.y) * down;
    if (rise <= 1) return;
    const distance = rise * 10 + Math.abs(x - from.x);
    if (distance < least) [best, least] = [at, distance];
  });
  return best;
}

document.onkeydown = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { key, target } = event;
  if (why.open) {
    if (key === "ArrowLeft") step(-1);
    else if (key === "ArrowRight") step(1);
    return;
  }
  if (target === query) {
    if (key === "ArrowDown" && hits.length) { event.preventDefault(); focusCard(0); }
    return;
  }
  if (key === "/") { event.preventDefault(); query.focus(); query.select(); return; }
  const chosen = target.closest?.(".card[data-index]");
  if (!chosen) return;
  const index = Number(chosen.dataset.index);
  if (key === "Enter" || key === " ") { event.preventDefault(); explain(index); }
  else if (key === "m") moreLike(hits[index]);
  else if (/^(Arrow|Home|End)/.test(key)) {
    event.preventDefault();
    const next = neighbour(index, key);
    if (next < 0 && key === "ArrowUp") query.focus();
    else focusCard(next);
  }
};

$("#theme").onclick = () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
    || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
};

$("#token-form").onsubmit = async (event) => {
  event.preventDefault();
  // The service keeps it in a cookie that no script can read.
  await fetch("session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token: $("#token").value }),
  });
  start();
};

// ---- Start

async function start() {
  try {
    info = await ask("info");
    $("#count").textContent = `${info.images.toLocaleString()} images, ${info.vocabulary_size.toLocaleString()} words to describe them with`;
  } catch (error) {
    if (error.status === 401) return showFailure({ ...error, message: error.message, code: "unauthorized" });
  }
  search();
}

const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;
$("#examples").replaceChildren(...EXAMPLES.map(searchLink));
addEventListener("popstate", () => { readAddress(); if (why.open) why.close(); search(); });
readAddress();
if (!state.q && !state.like) query.focus({ preventScroll: true });
start();
