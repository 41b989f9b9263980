/** Legends on the page, and the same on a picture. */
import { type ColourMap, colourAt, css } from "../colours";
import { h } from "../page/dom";
import type { Legend } from "./layer";

const [WIDTH, HEIGHT] = [208, 12];

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
  return h("ul", {}, ...items.map(({ colour, text, outline }) => {
    const box = h("span", { class: outline ? "swatch outline" : "swatch", "aria-hidden": true });
    box.style.color = colour;
    return h("li", {}, box, text);
  }));
}

function ramp(context: CanvasRenderingContext2D, map: ColourMap, x: number, y: number, width: number, height: number): void {
  for (let at = 0; at < width; at++) {
    context.fillStyle = css(colourAt(map, at / (width - 1)));
    context.fillRect(x + at, y, 1, height);
  }
}

/** Draw legends one under the other; returns the height that they take. */
export function drawLegends(context: CanvasRenderingContext2D, legends: { legend: Legend; opacity: number }[], x: number, y: number): number {
  let down = y;
  for (const { legend, opacity } of legends) {
    write(context, `600 12px system-ui, sans-serif`, `${legend.title} (opacity ${Math.round(100 * opacity)} %)`, x, down + 12);
    down += 20;
    if (legend.kind === "scale") {
      ramp(context, legend.map, x, down, WIDTH, HEIGHT);
      for (const { at, text } of legend.ticks) {
        context.textAlign = at === 0 ? "left" : at === 1 ? "right" : "center";
        write(context, "11px system-ui, sans-serif", text, x + at * WIDTH, down + HEIGHT + 13);
      }
      context.textAlign = "left";
      down += HEIGHT + 26;
    } else {
      for (const { colour, text } of legend.items) {
        context.fillStyle = colour;
        context.fillRect(x, down, 12, 12);
        write(context, "11px system-ui, sans-serif", text, x + 18, down + 10);
        down += 18;
      }
      down += 8;
    }
  }
  return down - y;
}

function write(context: CanvasRenderingContext2D, font: string, text: string, x: number, y: number): void {
  context.font = font;
  context.fillStyle = "#111";
  context.textBaseline = "alphabetic";
  context.fillText(text, x, y);
}
