/** The point that values are read at: under the mouse, or the centre for those who use the keyboard. */
import { onFrame } from "../page/dom";
import { readingsAt } from "./cursor";
import type { SlidePane } from "./pane";
import type { Point, SlideView } from "./view";

export class Pointer {
  /** In level-0 pixels; null: not over the slide. */
  point: Point | null = null;
  private over: SlideView | null = null;
  private cross = false;
  private update = onFrame(() => this.read());

  constructor(private pane: SlidePane) {}

  watch(view: SlideView): void {
    view.element.addEventListener("pointermove", (event) => {
      const box = view.osd.canvas.getBoundingClientRect();
      this.cross = false;
      this.put(view.toSlide({ x: event.clientX - box.left, y: event.clientY - box.top }), view);
    });
    view.element.addEventListener("pointerleave", () => this.put(null, null));
    view.osd.addHandler("canvas-click", (event) => {
      const { quick, position } = event as unknown as { quick: boolean; position: Point };
      if (!quick || !this.pane.views.measuring.active) return;
      this.pane.views.measuring.put(view.toSlide(position));
    });
  }

  /** Read at the centre, and show a cross there. */
  centre(): Point | null {
    const view = this.pane.views.first;
    if (!view) return null;
    this.cross = true;
    const { x, y } = view.place();
    this.put({ x, y }, null);
    return { x, y };
  }

  /** Where the keyboard acts: the mouse's point if it is over the slide, else the centre. */
  current(): Point | null {
    return this.over ? this.point : this.centre();
  }

  /** The same point in the other view, or the cross of the keyboard. */
  draw(context: CanvasRenderingContext2D, view: SlideView): void {
    if (!this.point || view === this.over || (!this.cross && this.pane.views.list.length < 2)) return;
    const { x, y } = view.toScreen(this.point);
    for (const [colour, width] of [
      ["#fff", 4],
      ["#d4006a", 1.5],
    ] as const) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      for (const [dx, dy] of [
        [1, 0],
        [-1, 0],
        [0, 1],
        [0, -1],
      ] as const) {
        context.moveTo(x + 4 * dx, y + 4 * dy);
        context.lineTo(x + 14 * dx, y + 14 * dy);
      }
      context.stroke();
    }
  }

  private put(point: Point | null, over: SlideView | null): void {
    this.point = point;
    this.over = over;
    this.pane.views.measuring.move(point);
    this.update();
  }

  private read(): void {
    const { known, info } = this.pane;
    const inside =
      this.point &&
      info &&
      this.point.x >= 0 &&
      this.point.y >= 0 &&
      this.point.x < info.width &&
      this.point.y < info.height;
    this.pane.cursor.show(inside && known ? readingsAt(this.point as Point, known, this.pane.annotations) : []);
    if (this.pane.views.list.length > 1 || this.cross || this.pane.views.measuring.active) this.pane.views.redraw();
  }
}
