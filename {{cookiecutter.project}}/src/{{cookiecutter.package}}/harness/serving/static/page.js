// Builds the page from ui/description.json and calls the public API: /predict_file for pictures, /predict for rows, and
// /explain if the service has it.
// Values from data and users are inserted as text, never as HTML.

const MAX_CLASSES = 10; // with a bar
const MAX_PARTS = 10; // of an explanation, with a bar
const $ = (id) => document.getElementById(id);

const description = await (await fetch("ui/description.json")).json();
const ofRows = description.schema.type === "object";
let latest = new AbortController(); // of the latest request

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function number(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e12 || size < 1e-4)) return value.toExponential(3);
  return value.toLocaleString("en", size >= 1e4 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 4 });
}

// A value of a column, without marks between thousands: 2024 may be a year.
function entry(value) {
  return number(value).replaceAll(",", "");
}

function formatted(target) {
  return typeof target === "number" ? number(target) : target;
}

function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1%";
  if (share < 1 && share > 0.999) return "> 99.9%";
  return `${(100 * share).toFixed(1)}%`;
}

// Requests --------------------------------------------------------------------------------------------------------

// Sends a request and shows its answer, unless a later request has been sent meanwhile.
async function send(path, options, actual) {
  latest.abort();
  const controller = (latest = new AbortController());
  const shown = await answered(path, { ...options, signal: controller.signal }, (answer, latency) => {
    const parts = prediction(answer, latency, actual);
    return description.typical === null ? parts : [...parts, why(options, controller.signal)];
  });
  if (controller.signal.aborted) return;
  $("answer").replaceChildren(...shown);
  $("answer").scrollIntoView({ block: "nearest" }); // in a narrow window, the answer is below a long form
}

// What to show of an answer, or the reason why there is none.
async function answered(path, options, show) {
  $("answer").setAttribute("aria-busy", "true");
  const start = performance.now();
  try {
    const answer = await fetch(path, { method: "POST", ...options });
    const text = await answer.text();
    const latency = performance.now() - start;
    return answer.ok ? show(JSON.parse(text), latency) : [failure(reason(text, answer))];
  } catch (error) {
    return [failure(`The service does not answer: ${error.message}`)];
  } finally {
    if (!options.signal.aborted) $("answer").removeAttribute("aria-busy");
  }
}

function reason(text, answer) {
  try {
    return JSON.parse(text).error;
  } catch {
    return `${answer.status} ${answer.statusText}`; // not an answer of the service: of a proxy, for instance
  }
}

function failure(message) {
  return make("p", { className: "error", role: "alert" }, message);
}

function sendPicture(file, actual) {
  URL.revokeObjectURL($("preview").src);
  $("preview").src = URL.createObjectURL(file);
  const body = new FormData();
  body.append("file", file);
  send("predict_file", { body }, actual);
}

function sendRow(row, actual) {
  const body = JSON.stringify({ instances: [row] });
  send("predict", { body, headers: { "content-type": "application/json" } }, actual);
}

// Answers ---------------------------------------------------------------------------------------------------------

function prediction(answer, latency, actual) {
  const [first] = answer.predictions;
  const parts = "label" in first ? classes(first) : value(first, actual);
  if (actual !== undefined) parts.push(make("p", { className: "truth" }, `actual: ${formatted(actual)}`));
  const details = `Answered in ${Math.round(latency)} ms by model ${answer.model_version}, id ${answer.id}`;
  return [...parts, make("p", { className: "details" }, details)];
}

function classes({ label, set, probabilities = {} }) {
  const sorted = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
  const title = sorted.length > MAX_CLASSES ? `The ${MAX_CLASSES} most probable of ${sorted.length}` : "Probabilities";
  const rows = sorted.slice(0, MAX_CLASSES).map(([name, share]) => {
    const bar = make("span", { className: "bar" });
    bar.style.width = `${100 * share}%`;
    const parts = [make("span", {}, name), make("span", { ariaHidden: "true" }, bar), make("data", { value: share }, percent(share))];
    return make("li", { className: name === label || (label === null && set.includes(name)) ? "best" : "" }, ...parts);
  });
  return [
    make("p", { className: "kind" }, description.target_name),
    make("p", { className: "result" }, label ?? "not sure"),
    ...decided(set),
    ...(sorted.length ? [make("p", { className: "kind" }, title), make("ol", { className: "bars" }, ...rows)] : []),
  ];
}

// How the class was decided, in words; nothing if it is the most probable one.
function decided(set) {
  const { class: name, threshold, coverage } = description.decision;
  const lines = [];
  if (set) lines.push(`Prediction set (${percent(coverage).replace(".0%", "%")}): ${set.join(", ")}`);
  if (threshold !== undefined) lines.push(`Threshold of ${name}: ${percent(threshold)}`);
  return lines.map((line) => make("p", { className: "decided" }, line));
}

function value({ value, low, high }, actual) {
  const parts = [
    make("p", { className: "kind" }, description.target_name),
    make("p", { className: "result" }, make("data", { value }, number(value))),
  ];
  if (low === undefined) return parts; // a brief answer
  if (low === null) {
    return [...parts, make("p", {}, "Without an interval: the validation split was too small for one.")];
  }
  // The axis spans the range of the target, if it has one, and all values that are drawn.
  const drawn = [low, high, ...(actual === undefined ? [] : [actual])];
  const usual = description.range ?? [low - (high - low) / 2, high + (high - low) / 2];
  const [start, end] = [Math.min(usual[0], ...drawn), Math.max(usual[1], ...drawn)];
  const place = (at) => `${(100 * (at - start)) / (end - start || 1)}%`;
  const mark = (className, from, to = from) => {
    const element = make("span", { className });
    element.style.left = place(from);
    if (to !== from) element.style.width = place(start + to - from);
    return element;
  };
  const marks = [mark("span", low, high), mark("point", value)];
  if (actual !== undefined) marks.push(mark("actual", actual));
  const level = percent(description.level).replace(".0%", "%");
  return [
    ...parts,
    make("p", { id: "ends" }, `${level} prediction interval: `, make("data", { value: low }, number(low)), " to ",
      make("data", { value: high }, number(high))),
    make("div", { className: "interval", ariaHidden: "true" }, ...marks),
    make("div", { className: "axis", ariaHidden: "true" }, make("span", {}, number(start)), make("span", {}, number(end))),
  ];
}

// Explanations ----------------------------------------------------------------------------------------------------

// A button that explains the answer to a request.
function why(options, signal) {
  const button = make("button", { type: "button" }, "Why this answer?");
  const place = make("div", { className: "why", ariaLive: "off" }, button); // read from its heading, which is focused
  button.onclick = async () => {
    button.disabled = true;
    const path = ofRows ? "explain?counterfactuals=true" : "explain";
    const show = (answer) => explanation(answer.explanations[0], options);
    const shown = await answered(path, { ...options, signal }, show);
    if (signal.aborted) return;
    place.replaceChildren(...shown);
    place.querySelector("h2")?.focus();
  };
  return place;
}

function explanation(found, options) {
  const of = ofRows ? "row" : "picture";
  const sum = `In ${found.explained}: ${number(found.baseline)} for ${ofRows ? "a typical row" : "the mean picture"}, ` +
    `${number(found.answer)} for this ${of}.`;
  const parts = ofRows ? columns(found, JSON.parse(options.body).instances[0]) : heatMap(found);
  return [make("h2", { tabIndex: -1 }, "Why"), make("p", { className: "kind" }, sum), ...parts, ...changes(found)];
}

function signed(value) {
  const sign = value < 0 ? "\u2212" : value > 0 ? "+" : "";
  return sign + Math.abs(value).toLocaleString("en", { maximumSignificantDigits: 3 });
}

// A bar for each of the strongest columns, from the middle: to the right if it raises the answer.
function columns({ attributions }, row) {
  const sorted = Object.entries(attributions).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const strongest = sorted.slice(0, MAX_PARTS);
  const largest = Math.abs(strongest[0][1]) || 1;
  const items = strongest.map(([name, value]) => {
    const bar = make("span", { className: value < 0 ? "bar lowers" : "bar" });
    bar.style.width = `${(50 * Math.abs(value)) / largest}%`;
    bar.style.marginInlineStart = `${value < 0 ? 50 - (50 * Math.abs(value)) / largest : 50}%`;
    const values = make("small", {}, `${shown(row[name])}, typically ${shown(description.typical[name])}`);
    const parts = [make("span", {}, name, " ", values), make("span", { ariaHidden: "true" }, bar), make("data", { value }, signed(value))];
    return make("li", {}, ...parts);
  });
  const list = make("ol", { className: "bars adds" }, ...items);
  const others = sorted.slice(MAX_PARTS);
  if (!others.length) return [list];
  const rest = others.reduce((sum, [, value]) => sum + value, 0);
  return [list, make("p", { className: "details" }, `The other ${others.length} columns together: ${signed(rest)}`)];
}

function shown(value) {
  return value === null || value === undefined || value === "" ? "missing" : typeof value === "number" ? entry(value) : value;
}

// The pale picture with its cells in color, and the strongest cells in words.
function heatMap({ attributions, reasons }) {
  const [rows, columns] = [attributions.length, attributions[0].length];
  const largest = Math.max(...attributions.flat().map(Math.abs)) || 1;
  const canvas = make("canvas", { className: "map", width: 40 * columns, height: 40 * rows, role: "img" });
  canvas.ariaLabel = `Heat map of ${rows} by ${columns} cells; the strongest are listed below`;
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  pen.fillStyle = "white";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.filter = "grayscale(1) opacity(0.5)"; // pale, so that colors show on black, too
  pen.imageSmoothingEnabled = $("preview").naturalWidth >= 64;
  pen.drawImage($("preview"), 0, 0, canvas.width, canvas.height);
  pen.filter = "none";
  attributions.forEach((line, row) => line.forEach((value, column) => {
    pen.globalAlpha = (0.85 * Math.abs(value)) / largest;
    pen.fillStyle = style.getPropertyValue(value < 0 ? "--lowers" : "--raises");
    pen.fillRect(40 * column, 40 * row, 40, 40);
  }));
  const legend = "Blue cells speak for this answer, orange ones against it; the stronger, the less of the picture shows through.";
  const words = reasons.map((text) => make("li", {}, text));
  return [canvas, make("p", { className: "details" }, legend), make("ol", { className: "words" }, ...words)];
}

function changes({ counterfactuals }) {
  if (counterfactuals === undefined) return [];
  const title = make("h2", {}, "What would change the answer");
  if (!counterfactuals.length) return [title, make("p", {}, "No change of a few columns was found that would.")];
  const items = counterfactuals.map(({ changes, prediction: { label, probabilities, value } }) => {
    const words = Object.entries(changes).map(([name, { from, to }]) => `${name} ${shown(to)} instead of ${shown(from)}`);
    const then = label === undefined ? number(value) : label === null ? "not sure" : `${label} (${percent(probabilities[label])})`;
    return make("li", {}, `${words.join(", ")}: `, make("strong", {}, then));
  });
  return [title, make("ul", { className: "words" }, ...items)];
}

// Pictures --------------------------------------------------------------------------------------------------------

function pictures() {
  const drop = $("drop");
  const take = (files) => {
    if (files.length) sendPicture(files[0]);
  };
  drop.hidden = false;
  $("kinds").textContent = description.file;
  $("preview").onload = () => {
    $("preview").hidden = false;
    $("preview").classList.toggle("small", $("preview").naturalWidth < 64); // enlarged, so that pixels are visible
  };
  $("preview").onerror = () => ($("preview").hidden = true); // not a picture, or a format that the browser cannot show
  $("file").onchange = () => {
    take($("file").files);
    $("file").value = ""; // so that the same file can be chosen again
  };
  document.addEventListener("paste", (event) => take(event.clipboardData.files));
  // On the whole document, because a file that is dropped beside the zone would replace the page.
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files);
  });
}

function pictureExample({ file }) {
  const source = `data:image/png;base64,${file}`;
  const image = make("img", { src: source, alt: "" });
  image.onload = () => image.classList.toggle("small", image.naturalWidth < 64);
  const bytes = Uint8Array.from(atob(file), (character) => character.charCodeAt(0));
  return [image, (actual) => sendPicture(new File([bytes], "example.png", { type: "image/png" }), actual)];
}

// Rows ------------------------------------------------------------------------------------------------------------

const inputs = new Map(); // column -> field

function rows() {
  for (const name of Object.keys(description.schema.properties)) {
    const isNumber = description.schema.properties[name].type[0] === "number"; // the type of its values
    const hasPlainNumbers = isNumber && !description.notation; // others are sent as they are written
    const { minimum, maximum, choices, nullable = true } = description.properties[name] ?? {};
    const field = make(choices ? "select" : "input", { required: !nullable });
    if (choices) {
      field.append(make("option", { value: "" }, nullable ? "missing" : "choose"));
      field.append(...choices.map((choice) => make("option", { value: choice }, choice)));
    } else if (isNumber) {
      if (hasPlainNumbers) Object.assign(field, { type: "number", step: "any", min: minimum ?? "", max: maximum ?? "" });
      else field.inputMode = "decimal";
      const ends = [minimum, maximum].map((end) => (end === undefined ? undefined : entry(end)));
      if (ends[0] !== undefined && ends[1] !== undefined) field.placeholder = ends.join(" to ");
      else if (ends[0] !== undefined) field.placeholder = `from ${ends[0]}`;
      else if (ends[1] !== undefined) field.placeholder = `up to ${ends[1]}`;
    }
    field.dataset.number = hasPlainNumbers ? "yes" : "";
    inputs.set(name, field);
    const label = make("span", {}, name);
    if (nullable) label.append(" ", make("small", {}, "may be empty"));
    $("fields").append(make("label", {}, label, field));
  }
  $("form").hidden = false;
  $("form").onsubmit = (event) => {
    event.preventDefault();
    const entered = [...inputs].map(([name, field]) => {
      const filled = field.dataset.number ? field.valueAsNumber : field.value;
      return [name, field.value === "" ? null : filled];
    });
    sendRow(Object.fromEntries(entered));
  };
  $("form").onreset = () => $("answer").replaceChildren();
}

function written(value) {
  const mark = description.notation?.decimal;
  return typeof value === "number" && mark ? String(value).replace(".", mark) : (value ?? "");
}

function rowExample({ instance }) {
  const fill = (actual) => {
    for (const [name, field] of inputs) field.value = written(instance[name]);
    sendRow(instance, actual);
  };
  return ["", fill];
}

// The page --------------------------------------------------------------------------------------------------------

(ofRows ? rows : pictures)();
$("version").textContent = description.version;
$("shipped").hidden = !description.examples.length;
for (const [index, example] of description.examples.entries()) {
  const [picture, use] = ofRows ? rowExample(example) : pictureExample(example);
  const { actual } = example;
  const text = `${description.target_name}: ${formatted(actual)}`;
  const button = make("button", { type: "button", ariaLabel: `Example ${index + 1}, ${text}` }, picture, text);
  button.onclick = () => use(actual);
  $("examples").append(make("li", {}, button));
}
document.body.dataset.ready = "yes";
