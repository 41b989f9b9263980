/** The views of the open slide, one or two that are coupled, and what is drawn in them. */
import type { Drawn } from "../overlays/compose";
import { h } from "../page/dom";
import type { Info } from "../source/model";
import type { Source } from "../source/source";
import type { State, Store } from "../state/state";
import { couple } from "./couple";
import { Measuring } from "./measure";
import { Placing } from "./placing";
import { drawScale } from "./scale";
import { type Point, SlideView } from "./view";

interface Watcher {
  /** A view was added. */
  watch(view: SlideView): void;
  /** Draw what the pointer marks. */
  draw(context: CanvasRenderingContext2D, view: SlideView): void;
}

export class Views {
  readonly element = h("div", { class: "views" });
  list: SlideView[] = [];
  measuring = new Measuring(null, () => {});
  /** Called while a view moves. */
  onMoved: () => void = () => {};
  /** Called when measuring begins or ends. */
  onMeasuring: () => void = () => {};
  private placing: Placing;

  constructor(
    private source: Source,
    store: Store,
  ) {
    this.placing = new Placing(store, () => this.list);
  }

  get first(): SlideView | null {
    const [view] = this.list;
    return view?.ready ? view : null;
  }

  clear(...instead: Node[]): void {
    for (const view of this.list) view.destroy();
    this.list = [];
    this.measuring = new Measuring(null, () => {});
    this.measured();
    this.element.replaceChildren(...instead);
  }

  /** As many views as there are titles, at the state's place. */
  arrange(info: Info, titles: string[], watcher: Watcher, say: (text: string) => void, failed: () => void): void {
    if (!this.list.length) this.measuring = new Measuring(info.mpp, (text) => (say(text), this.measured()));
    while (this.list.length > titles.length) this.list.pop()?.destroy();
    this.element.classList.toggle("two", titles.length === 2);
    while (this.list.length < titles.length) this.add(info, watcher, failed);
    this.list.forEach((view, at) => (view.title = titles[at] as string));
    this.lead();
  }

  /** What the views show, each its own. */
  layer(drawn: Map<string, Drawn>[], overlay: State["overlay"]): void {
    this.list.forEach((view, at) => {
      const shown = [...(drawn[at]?.values() ?? [])].filter(({ layer }) => overlay[layer.id] !== undefined);
      view.layers = shown.map(({ layer }) => ({ layer, opacity: overlay[layer.id] as number }));
      view.redraw();
    });
  }

  redraw(): void {
    for (const view of this.list) view.redraw();
  }

  /** Look closely at a square of level 0. */
  lookAt(corner: Point, size: number): void {
    const zoom = Math.min(this.element.clientHeight / (4 * size), 2);
    this.first?.go({ x: corner.x + size / 2, y: corner.y + size / 2, zoom });
  }

  private measured(): void {
    this.element.classList.toggle("measuring", this.measuring.active);
    this.onMeasuring();
    this.redraw();
  }

  private lead(): void {
    const moved = () => {
      this.placing.moved();
      this.onMoved();
    };
    const [first, second] = this.list as [SlideView, SlideView | undefined];
    if (second) couple(first, second, moved);
    else first.onMove = moved;
  }

  private add(info: Info, watcher: Watcher, failed: () => void): void {
    const view = new SlideView(info, this.source, this.element, failed);
    this.list.push(view);
    watcher.watch(view);
    view.above.push((context) => {
      drawScale(context, view.osd.viewport.getContainerSize().y, view.place().zoom, info.mpp);
      this.measuring.draw(context, view);
      watcher.draw(context, view);
    });
    view.onResized = () => this.placing.resized(view);
    view.whenReady(() => {
      this.placing.restore(view);
      view.redraw();
    });
  }
}
