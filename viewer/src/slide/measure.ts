/** Measuring: two points, and the length between them. */
import { lengthOf } from "../page/format";
import type { Point, SlideView } from "./view";

export class Measuring {
  active = false;
  private lines: [Point, Point][] = [];
  private begun: Point | null = null;
  private pointer: Point | null = null;

  constructor(
    private mpp: number | null,
    private changed: (said: string) => void,
  ) {}

  toggle(): void {
    this.active = !this.active;
    this.begun = null;
    this.changed(this.active ? "Measuring: click two points, or press Enter at the centre twice. Escape ends it." : "");
  }

  clear(): void {
    this.lines = [];
    this.begun = null;
    this.changed("Measurements removed.");
  }

  get count(): number {
    return this.lines.length;
  }

  put(point: Point): void {
    if (this.begun) {
      this.lines.push([this.begun, point]);
      this.begun = null;
      this.changed(`Length ${this.text(this.lines.at(-1) as [Point, Point])}`);
    } else {
      this.begun = point;
      this.changed("First point set.");
    }
  }

  move(point: Point | null): void {
    this.pointer = point;
  }

  /** Draw in CSS pixels of a view. */
  draw(context: CanvasRenderingContext2D, view: SlideView): void {
    const open: [Point, Point][] = this.begun ? [[this.begun, this.pointer ?? this.begun]] : [];
    for (const line of [...this.lines, ...open]) this.line(context, line, view);
  }

  private line(context: CanvasRenderingContext2D, line: [Point, Point], view: SlideView): void {
    const [from, to] = line.map((point) => view.toScreen(point)) as [Point, Point];
    for (const [colour, width] of [
      ["#fff", 5],
      ["#111", 2],
    ] as const) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      context.moveTo(from.x, from.y);
      context.lineTo(to.x, to.y);
      context.stroke();
      for (const end of [from, to]) {
        context.beginPath();
        context.arc(end.x, end.y, 4, 0, 2 * Math.PI);
        context.stroke();
      }
    }
    label(context, this.text(line), (from.x + to.x) / 2, (from.y + to.y) / 2);
  }

  private text([a, b]: [Point, Point]): string {
    return lengthOf(Math.hypot(a.x - b.x, a.y - b.y), this.mpp);
  }
}

function label(context: CanvasRenderingContext2D, text: string, x: number, y: number): void {
  context.font = "600 12px system-ui, sans-serif";
  const width = context.measureText(text).width;
  context.fillStyle = "rgb(255 255 255 / 0.92)";
  context.fillRect(x + 8, y - 22, width + 10, 18);
  context.fillStyle = "#111";
  context.textBaseline = "middle";
  context.fillText(text, x + 13, y - 13);
}
