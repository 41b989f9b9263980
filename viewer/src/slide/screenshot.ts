/** The views as one picture, with their scale bars, legends and what they show. */
import type { Legend } from "../overlays/layer";
import { drawLegends } from "../overlays/legend";
import type { SlideView } from "./view";

const [MARGIN, HEAD, LEGEND] = [16, 44, 310];

export interface Shot {
  title: string;
  subtitle: string;
  views: SlideView[];
  legends: { legend: Legend; opacity: number }[];
}

/** @throws Error where the browser does not let the page read its pictures */
export function screenshot(shot: Shot): Promise<Blob> {
  const density = devicePixelRatio;
  const sizes = shot.views.map((view) => view.osd.viewport.getContainerSize());
  const height = Math.max(...sizes.map(({ y }) => y)) + HEAD + MARGIN;
  const width = sizes.reduce((sum, { x }) => sum + x + MARGIN, MARGIN) + (shot.legends.length ? LEGEND : 0);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.round(width * density), Math.round(height * density)];
  const context = canvas.getContext("2d") as CanvasRenderingContext2D;
  context.scale(density, density);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  heading(context, shot);
  let left = MARGIN;
  shot.views.forEach((view, at) => {
    paste(context, view, left, sizes[at]!.x, sizes[at]!.y, density);
    left += sizes[at]!.x + MARGIN;
  });
  drawLegends(context, shot.legends, left, HEAD, LEGEND - 2 * MARGIN);
  return blob(canvas);
}

function heading(context: CanvasRenderingContext2D, { title, subtitle }: Shot): void {
  context.fillStyle = "#111";
  context.font = "600 15px system-ui, sans-serif";
  context.fillText(title, MARGIN, 20);
  context.font = "12px system-ui, sans-serif";
  context.fillText(subtitle, MARGIN, 37);
}

function paste(
  context: CanvasRenderingContext2D,
  view: SlideView,
  left: number,
  width: number,
  height: number,
  density: number,
): void {
  const overlay = document.createElement("canvas");
  [overlay.width, overlay.height] = [Math.round(width * density), Math.round(height * density)];
  view.paint(overlay.getContext("2d") as CanvasRenderingContext2D, density);
  context.save();
  context.translate(left, HEAD);
  context.drawImage(view.osd.drawer.canvas as HTMLCanvasElement, 0, 0, width, height);
  context.drawImage(overlay, 0, 0, width, height);
  context.restore();
}

function blob(canvas: HTMLCanvasElement): Promise<Blob> {
  return new Promise((resolve, reject) => {
    canvas.toBlob((found) => (found ? resolve(found) : reject(new Error("the picture is too large for this browser"))));
  });
}
