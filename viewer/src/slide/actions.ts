/** What can be done with the open slide, by button or by key. */
import type { App } from "../app";
import { download } from "../exports/download";
import { annotationsForQuPath, attendedForQuPath } from "../exports/geojson";
import type { SlidePane } from "./pane";
import { zoomOf } from "./scale";
import { screenshot } from "./screenshot";
import type { SlideView } from "./view";

/** Of tiles in the exported file, as `wsi-ncmi predict` writes. */
const ATTENDED = 100;
const PAN = 0.15;

export class Actions {
  constructor(
    private app: App,
    private pane: SlidePane,
  ) {}

  fit = (): void => this.first((view) => view.home());
  zoomBy = (factor: number): void => this.first((view) => view.go({ zoom: view.place(false).zoom * factor }));
  rotateBy = (degrees: number): void =>
    this.first((view) => view.go({ rotation: (view.place(false).rotation + degrees + 360) % 360 }));

  /** By a part of the view's width, whatever its rotation. */
  pan(right: number, down: number): void {
    this.first((view) => {
      const { x, y, zoom, rotation } = view.place(false);
      const [step, turn] = [(PAN * this.pane.views.element.clientWidth) / zoom, (-rotation * Math.PI) / 180];
      const [dx, dy] = [right * Math.cos(turn) - down * Math.sin(turn), right * Math.sin(turn) + down * Math.cos(turn)];
      view.go({ x: x + step * dx, y: y + step * dy });
      this.pane.pointer.centre();
    });
  }

  magnify(times: number): void {
    const mpp = this.pane.info?.mpp;
    if (mpp) this.first((view) => view.go({ zoom: zoomOf(times, mpp) }));
    else this.pane.say("This slide states no µm/px, so there is no magnification.");
  }

  measure(): void {
    this.pane.views.measuring.toggle();
  }

  /** The keyboard's click: a point of the measurement. */
  point(): void {
    const at = this.pane.pointer.current();
    if (this.pane.views.measuring.active && at) this.pane.views.measuring.put(at);
  }

  /** End measuring; when it has ended, remove what was measured. */
  escape(): void {
    if (this.pane.views.measuring.active) this.measure();
    else if (this.pane.views.measuring.count) this.pane.views.measuring.clear();
  }

  speak(): void {
    this.pane.pointer.current();
    requestAnimationFrame(() => this.pane.cursor.speak());
  }

  compare(mode: "one" | "side" | "difference"): void {
    const [other] = this.app.others();
    if (mode !== "one" && !other) return this.pane.say("There is no second arm with attention.");
    const chosen = this.app.others().includes(this.app.state.other) ? this.app.state.other : (other ?? "");
    this.app.store.set({ compare: mode, ...(mode === "one" ? {} : { other: chosen }) });
  }

  nextCompare(): void {
    const modes = ["one", "side", "difference"] as const;
    this.compare(modes[(modes.indexOf(this.app.state.compare) + 1) % modes.length] as "one");
  }

  fullScreen(): void {
    if (document.fullscreenElement) void document.exitFullscreen();
    else
      this.pane.element
        .requestFullscreen()
        .catch(() => this.pane.say("The browser does not allow a full screen here."));
  }

  async picture(): Promise<void> {
    const { slide, views } = this.pane;
    if (!slide || !views.first) return;
    if (!this.app.source.readsPictures) {
      return this.pane.note(
        "Browsers do not let a page that was opened from a file save its pictures. Use the system’s screenshot, or `wsi-ncmi view`.",
      );
    }
    const subtitle = [this.app.overview.name, this.app.state.task, this.pane.titles().join(" | ")]
      .filter(Boolean)
      .join(" · ");
    const shot = { title: slide.id, subtitle, views: views.list, legends: this.pane.legends() };
    try {
      download(`${slide.id}.png`, await screenshot(shot));
      this.pane.say("Picture saved.");
    } catch (error) {
      this.pane.note(`The picture cannot be saved: ${(error as Error).message}`);
    }
  }

  annotations(): void {
    const { known, slide } = this.pane;
    if (!known?.annotations || !slide) return this.pane.say("This slide has no annotations.");
    this.save(`${slide.id}.annotations.geojson`, annotationsForQuPath(known.annotations, known.info));
  }

  attended(): void {
    const { known, slide } = this.pane;
    if (!known?.attention || !known.grid || !slide) return this.pane.say("This arm has no attention for this slide.");
    const { weights, order } = known.attention;
    this.save(
      `${slide.id}.attended.geojson`,
      attendedForQuPath(known.grid, weights, order.slice(0, ATTENDED), known.info),
    );
  }

  private save(name: string, value: unknown): void {
    download(name, new Blob([JSON.stringify(value) + "\n"], { type: "application/geo+json" }));
    this.pane.say(`Saved ${name}.`);
  }

  private first(work: (view: SlideView) => void): void {
    const view = this.pane.views.first;
    if (view) work(view);
  }
}
