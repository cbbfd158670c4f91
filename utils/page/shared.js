"use strict";
// What several pages of the course can do. A page's own script begins with `const words = translate(WORDS);`.

const language = (new URLSearchParams(location.search).get("lang") || navigator.language || "en").toLowerCase().startsWith("ko") ? "ko" : "en";
const $ = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)}%`;
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

// What can go wrong on every page, by the `kind` that the server or the page itself tells.
const PROBLEMS = {
  en: {
    silent: "The server does not answer. Is it still running in the terminal?",
    damaged: "This picture is cut off or damaged.",
    unopened: "This file cannot be opened.",
    busy: "Many pages ask at once; this one waits its turn.",
    other: "Something went wrong in the server; the terminal says what.",
  },
  ko: {
    silent: "서버가 응답하지 않습니다. 터미널에서 아직 실행 중인가요?",
    damaged: "사진이 잘렸거나 손상되었습니다.",
    unopened: "이 파일은 열 수 없습니다.",
    busy: "여러 페이지가 한꺼번에 요청해 차례를 기다리는 중입니다.",
    other: "서버에 문제가 생겼습니다. 터미널에 이유가 나와 있습니다.",
  },
};

/** Put the page's words { en: {title, ...}, ko: {...} } where data-text="title" asks for them, and return the reader's. */
function translate(all) {
  const words = { ...PROBLEMS[language], ...all[language] };
  document.documentElement.lang = language;
  document.title = words.title;
  for (const place of document.querySelectorAll("[data-text]")) place.textContent = words[place.dataset.text];
  return words;
}

/** Say in #problem what went wrong, in the page's words for its kind. */
function showProblem(kind) {
  const text = words[kind] ?? words.other;
  if ($("problem").textContent !== text) $("problem").textContent = text;  // a screen reader says it whenever it is set
  $("problem").dataset.kind = kind;
  $("problem").hidden = false;
}

/** Take away what #problem says; where kinds are given, only one of those. */
function hideProblem(...kinds) {
  if (kinds.length && !kinds.includes($("problem").dataset.kind)) return;
  $("problem").hidden = true;
  $("problem").textContent = $("problem").dataset.kind = "";
}

/** Say in #private where goes what the reader sends: to a program on this computer, or on the one that the page comes from. */
function sayWhereItGoes() {
  const isHere = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);
  $("private").textContent = isHere ? words.private : words.privateElsewhere(location.hostname);
}

// ------------------------------------------------------------------------------------------------ parts of a page
function element(tag, className, text) {
  const one = document.createElement(tag);
  if (className) one.className = className;
  if (text !== undefined) one.textContent = text;  // never as markup, whoever wrote it
  return one;
}

function makeButton(className, text, press) {
  const one = element("button", className, text);
  one.type = "button";
  one.addEventListener("click", press);
  return one;
}

/** A button with a picture of rows of [red, green, blue]; choose(file) gets it as a PNG. */
function makeThumbnail(rows, label, choose) {
  const picture = element("canvas"), button = makeButton("", "", () => picture.toBlob(choose, "image/png"));
  button.setAttribute("aria-label", label);
  showPixels(picture, rows);
  button.append(picture);
  return button;
}

/** Put into a row of #bars the name of a class, a bar, and room for its probability. */
function makeBar(row, name) {
  const track = element("span", "track");
  track.append(element("span", "fill"));
  row.append(element("span", "name", name), track, element("span", "value"));
}

/** Set the bars in #bars to probabilities, or back where these are null, and mark the best one. */
function showBars(probabilities, best) {
  [...$("bars").children].forEach((row, index) => {
    row.classList.toggle("best", index === best);
    row.querySelector(".fill").style.transform = `scaleX(${probabilities?.[index] ?? 0})`;
    row.querySelector(".value").textContent = probabilities ? percent(probabilities[index]) : "";
  });
}

// ---------------------------------------------------------------------------------------------- asking the server
/** Post something and return what is answered: an object, with `error` and `kind` where there is none, or where `signal` ends the wait. */
async function question(address, body, mostBytes, signal) {
  if (body.size > mostBytes) return { error: true, kind: "too_large" };
  try {
    const response = await fetch(address, { method: "POST", body, signal });
    return response.headers.get("content-type")?.includes("json") ? await response.json() : { error: true, kind: "other" };
  } catch {
    return { error: true, kind: "silent" };
  }
}

/** What the server has for trying the page out: a list, empty where it has nothing. */
async function fetchExamples() {
  const response = await fetch("examples");
  return response.ok ? await response.json() : [];
}

// ---------------------------------------------------------------------------------------------- files of the reader's
/** Hand take([file, ...]) what an <input type="file"> has chosen. */
function onChosen(input, take) {
  input.addEventListener("change", () => { take([...input.files]); input.value = ""; });  // "": the same file again is a change too
}

/** Hand take([file, ...]) what is dropped anywhere on the page, [] where that is no file; `frame` shows that it may be dropped. */
function onDropped(frame, take) {
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();  // the browser would leave the page and open the file
      frame.classList.toggle("dropping", kind === "dragenter" || kind === "dragover");
      if (kind === "drop") take([...event.dataTransfer.files]);
    });
  }
}

/** A file of a picture as { content, bitmap }: without content where it cannot be opened, without bitmap where the browser cannot show it. */
async function readPicture(file) {
  let content = null;
  try {
    content = new Blob([await file.arrayBuffer()]);  // a folder, or a file that is gone, fails here
    return { content, bitmap: await createImageBitmap(content) };  // turned as its camera noted
  } catch {
    return { content, bitmap: null };  // the server may know the format; if not, it says so
  }
}

/** Make a picture smaller, so that its longer side has at most so many pixels, and turn it into a PNG. */
async function shrink(bitmap, longest) {
  const scale = Math.min(1, longest / Math.max(bitmap.width, bitmap.height));
  const smaller = new OffscreenCanvas(Math.ceil(bitmap.width * scale), Math.ceil(bitmap.height * scale));
  const context = smaller.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, smaller.width, smaller.height);
  return smaller.convertToBlob({ type: "image/png" });
}

// ------------------------------------------------------------------------------------------- cameras and microphones
/** Why the browser gives none, as the kind of a problem, out of the error of getUserMedia. */
function refusalOf(error) {
  return { NotAllowedError: "refused", SecurityError: "refused", NotFoundError: "none", OverconstrainedError: "none" }[error.name] ?? "taken";
}

/** Offer the cameras, or the microphones, of this computer in a <select> beside the one that a track comes from, where there are several. */
async function offerDevices(select, track) {
  const devices = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === `${track.kind}input`);
  if (track.readyState === "ended") return;  // it was stopped meanwhile
  select.replaceChildren(...devices.map((device, index) => new Option(device.label || words.numbered(index + 1), device.deviceId)));
  select.value = track.getSettings().deviceId;
  select.hidden = devices.length < 2;
}

// -------------------------------------------------------------------------------------------------------- drawing
/** Fill a canvas with rows of [red, green, blue], or of values of which colour(value) makes that. */
function showPixels(target, rows, colour = (value) => value) {
  target.width = rows[0].length;
  target.height = rows.length;
  const image = new ImageData(target.width, target.height);
  rows.flat().forEach((value, index) => image.data.set([...colour(value), 255], 4 * index));
  target.getContext("2d").putImageData(image, 0, 0);
}

const HEAT = [[8, 6, 20], [72, 16, 94], [173, 46, 84], [240, 113, 40], [252, 240, 178]];  // dark over purple and orange to bright
function heatColour(value) {
  const at = (value / 255) * (HEAT.length - 1), low = Math.min(Math.floor(at), HEAT.length - 2);
  return HEAT[low].map((from, channel) => from + (HEAT[low + 1][channel] - from) * (at - low));
}

/** Lay rows of heat in 0..255 over what a canvas shows, from edge to edge, as opaque as 0..255 says. */
function layHeat(target, rows, opacity) {
  const layer = new OffscreenCanvas(rows[0].length, rows.length), image = new ImageData(layer.width, layer.height);
  rows.flat().forEach((value, at) => image.data.set([...heatColour(value), opacity], 4 * at));
  layer.getContext("2d").putImageData(image, 0, 0);
  const context = target.getContext("2d");
  context.imageSmoothingEnabled = true;
  context.drawImage(layer, 0, 0, target.width, target.height);
}
