"use strict";
// What every page of the course can do.

const language = (new URLSearchParams(location.search).get("lang") || navigator.language || "en").toLowerCase().startsWith("ko") ? "ko" : "en";
const $ = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)}%`;

// What can go wrong on every page, by the `kind` that the server tells.
const PROBLEMS = {
  en: {
    silent: "The server does not answer. Is it still running in the terminal?",
    damaged: "This picture is cut off or damaged.",
    other: "Something went wrong in the server; the terminal says what.",
  },
  ko: {
    silent: "서버가 응답하지 않습니다. 터미널에서 아직 실행 중인가요?",
    damaged: "사진이 잘렸거나 손상되었습니다.",
    other: "서버에 문제가 생겼습니다. 터미널에 이유가 나와 있습니다.",
  },
};

/** Put the page's words { en: {title, ...}, ko: {...} } where data-text="title" asks for them, and return the reader's. */
function translate(all) {
  const words = { ...PROBLEMS[language], ...all[language] };
  document.documentElement.lang = language;
  document.title = words.title;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = words[element.dataset.text];
  return words;
}

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

/** Make a picture smaller, so that its longer side has at most so many pixels, and turn it into a PNG. */
async function shrink(bitmap, longest) {
  const scale = Math.min(1, longest / Math.max(bitmap.width, bitmap.height));
  const smaller = new OffscreenCanvas(Math.ceil(bitmap.width * scale), Math.ceil(bitmap.height * scale));
  const context = smaller.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, smaller.width, smaller.height);
  return smaller.convertToBlob({ type: "image/png" });
}

/** Fill a canvas with rows of values, of which colour(value) makes [red, green, blue]. */
function showPixels(target, rows, colour) {
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
