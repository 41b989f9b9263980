/** Legends on the page, and the same on a picture. */
import { type ColourMap, colourAt, css } from "../colours";
import { h } from "../page/dom";
import type { Legend } from "./layer";

const [WIDTH, HEIGHT] = [260, 12];
const [TITLE, TEXT] = ["600 12px system-ui, sans-serif", "11px system-ui, sans-serif"];

export function legendElement(legend: Legend): HTMLElement {
  const body = legend.kind === "scale" ? scaleElement(legend) : swatches(legend);
  return h("div", { class: "legend" }, h("div", { class: "legend-title" }, legend.title), body);
}

function scaleElement({ map, ticks }: Legend & { kind: "scale" }): HTMLElement {
  const canvas = h("canvas", { width: 256, height: 1, "aria-hidden": true });
  ramp(canvas.getContext("2d") as CanvasRenderingContext2D, map, 0, 0, 256, 1);
  const texts = ticks.map(({ at, text }) => {
    const tick = h("span", { class: at === 0 ? "first" : at === 1 ? "last" : "" }, text);
    tick.style.left = `${100 * at}%`;
    return tick;
  });
  return h("div", { class: "scale" }, canvas, h("div", { class: "ticks" }, ...texts));
}

function swatches({ items }: Legend & { kind: "swatches" }): HTMLElement {
  return h(
    "ul",
    {},
    ...items.map(({ colour, text, outline }) => {
      const box = h("span", { class: outline ? "swatch outline" : "swatch", "aria-hidden": true });
      box.style.color = colour;
      return h("li", {}, box, text);
    }),
  );
}

function ramp(
  context: CanvasRenderingContext2D,
  map: ColourMap,
  x: number,
  y: number,
  width: number,
  height: number,
): void {
  for (let at = 0; at < width; at++) {
    context.fillStyle = css(colourAt(map, at / (width - 1)));
    context.fillRect(x + at, y, 1, height);
  }
}

/** Draw legends one under the other; returns where they end. `width`: of their titles. */
export function drawLegends(
  context: CanvasRenderingContext2D,
  legends: { legend: Legend; opacity: number }[],
  x: number,
  y: number,
  width: number,
): number {
  for (const { legend, opacity } of legends) {
    context.font = TITLE;
    for (const line of wrapped(context, `${legend.title} (opacity ${Math.round(100 * opacity)} %)`, width)) {
      write(context, TITLE, line, x, (y += 15));
    }
    y = legend.kind === "scale" ? drawScale(context, legend, x, y + 7) : drawSwatches(context, legend, x, y + 7);
  }
  return y;
}

function drawScale(
  context: CanvasRenderingContext2D,
  { map, ticks }: Legend & { kind: "scale" },
  x: number,
  y: number,
): number {
  ramp(context, map, x, y, WIDTH, HEIGHT);
  for (const { at, text } of ticks) {
    context.textAlign = at === 0 ? "left" : at === 1 ? "right" : "center";
    write(context, TEXT, text, x + at * WIDTH, y + HEIGHT + 13);
  }
  context.textAlign = "left";
  return y + HEIGHT + 24;
}

function drawSwatches(
  context: CanvasRenderingContext2D,
  { items }: Legend & { kind: "swatches" },
  x: number,
  y: number,
): number {
  items.forEach(({ colour, text }, at) => {
    context.fillStyle = colour;
    context.fillRect(x, y + 18 * at, 12, 12);
    write(context, TEXT, text, x + 18, y + 18 * at + 10);
  });
  return y + 18 * items.length + 6;
}

/** Lines of whole words that fit into a width. */
function wrapped(context: CanvasRenderingContext2D, text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && context.measureText(longer).width <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

function write(context: CanvasRenderingContext2D, font: string, text: string, x: number, y: number): void {
  context.font = font;
  context.fillStyle = "#111";
  context.textBaseline = "alphabetic";
  context.fillText(text, x, y);
}
