/** How large things are: a scale bar, and the magnification of a microscope that shows as much. */
import { roundDown } from "../page/format";

/** µm per pixel at which a microscope's picture counts as 1×: 0.25 µm/px are 40×. */
const UM_AT_1X = 10;
/** Longest scale bar in CSS pixels. */
const LONGEST = 140;

/** @param zoom CSS pixels per level-0 pixel */
export function scaleBar(zoom: number, mpp: number | null): { width: number; text: string } {
  const unit = mpp ?? 1;
  const length = roundDown((LONGEST / zoom) * unit);
  return { width: (length / unit) * zoom, text: mpp === null ? `${length} px` : barText(length) };
}

const barText = (um: number): string =>
  um >= 1000 ? `${um / 1000} mm` : um < 1 ? `${Math.round(um * 1000)} nm` : `${um} µm`;

export const magnification = (zoom: number, mpp: number | null): number | null =>
  mpp === null ? null : (UM_AT_1X * zoom) / mpp;

/** The zoom of a magnification. */
export const zoomOf = (times: number, mpp: number): number => (times * mpp) / UM_AT_1X;

export function magnificationText(zoom: number, mpp: number | null): string {
  const times = magnification(zoom, mpp);
  if (times === null) return `${(100 * zoom).toPrecision(3)} % of level 0`;
  return `${times >= 10 ? times.toFixed(0) : times.toPrecision(2)}×`;
}

/** Draw the bar with its length at the lower left of a view. */
export function drawScale(context: CanvasRenderingContext2D, height: number, zoom: number, mpp: number | null): void {
  const { width, text } = scaleBar(zoom, mpp);
  const [left, bottom] = [14, height - 14];
  context.font = "600 12px system-ui, sans-serif";
  const box = Math.max(width, context.measureText(text).width) + 16;
  context.fillStyle = "rgb(255 255 255 / 0.85)";
  context.fillRect(left - 8, bottom - 26, box, 34);
  context.fillStyle = "#111";
  context.textBaseline = "alphabetic";
  context.fillText(text, left, bottom - 8);
  context.fillRect(left, bottom - 2, width, 4);
}
