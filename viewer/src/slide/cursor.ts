/** What lies under the cursor: position, tile, attention, quality, annotations. */
import type { Known } from "../overlays/compose";
import type { AnnotationLayer } from "../overlays/shapes";
import { MEASURES } from "../overlays/tilegrid";
import { h } from "../page/dom";
import { significant, whole } from "../page/format";
import type { Point } from "./view";

export interface Reading {
  name: string;
  text: string;
}

/** The readings at a point of level 0. */
export function readingsAt(point: Point, known: Known, annotations: AnnotationLayer | null): Reading[] {
  const readings = [{ name: "position", text: position(point, known) }];
  const tile = known.grid?.at(point.x, point.y) ?? -1;
  if (tile >= 0) readings.push(...ofTile(tile, known));
  const names = annotations?.at(point.x, point.y) ?? [];
  if (names.length) readings.push({ name: "annotation", text: names.join(", ") });
  return readings;
}

/** From the corner of what was scanned, as QuPath counts. */
function position({ x, y }: Point, { info }: Known): string {
  const [left, top] = info.bounds;
  const unit = info.mpp ?? 1;
  const text = (at: number) => whole(at * unit);
  return `x ${text(x - left)}, y ${text(y - top)} ${info.mpp === null ? "px" : "µm"}`;
}

function ofTile(tile: number, { grid, attention, other }: Known): Reading[] {
  const readings = [{ name: "tile", text: `tile ${whole(tile)}` }];
  const arms = [attention, other].filter((found) => found !== null && !Number.isNaN(found.weights[tile]));
  if (arms.length) {
    const weights = arms.map((found) => significant(found!.weights[tile] as number)).join(" | ");
    const ranks = arms.map((found) => Math.round(100 * (found!.ranks[tile] as number))).join(" | ");
    readings.push({ name: "attention", text: `attention ${weights}, percentile ${ranks}` });
  }
  const qualities = MEASURES.filter(([key]) => grid?.measures[key]).map(
    ([key, title]) => `${title} ${significant(grid!.measures[key]![tile] as number, 2)}`,
  );
  if (qualities.length) readings.push({ name: "quality", text: qualities.join(", ") });
  return readings;
}

/** The line below the slide; a screen reader hears it on demand only. */
export class CursorLine {
  readonly element = h("div", { class: "cursor", id: "cursor" });
  private spoken = h("div", { class: "spoken", "aria-live": "assertive", id: "cursor-spoken" });
  private text = "";

  constructor() {
    this.element.append(this.spoken);
  }

  show(readings: Reading[]): void {
    const spans = readings.map(({ name, text }) => h("span", { class: "reading", "data-reading": name }, text));
    this.text = readings.map(({ text }) => text).join("; ");
    this.element.replaceChildren(
      ...(spans.length
        ? spans
        : [
            h(
              "span",
              { class: "muted" },
              "Move over the slide to read its values (key v speaks those at the cursor or the centre).",
            ),
          ]),
      this.spoken,
    );
  }

  speak(): void {
    this.spoken.textContent = "";
    requestAnimationFrame(() => (this.spoken.textContent = this.text || "Nothing under the cursor"));
  }
}
