/** The slide that is open: its views, and all that belongs to them. */
import type { App } from "../app";
import { compose, type Drawn, type Known } from "../overlays/compose";
import type { Legend } from "../overlays/layer";
import { OverlayPanel } from "../overlays/panel";
import type { AnnotationLayer } from "../overlays/shapes";
import { h } from "../page/dom";
import { whole } from "../page/format";
import type { Info, Slide } from "../source/model";
import { slideKey, SourceError } from "../source/source";
import { failure } from "../table/rows";
import { attentionOfArm, gather } from "./contents";
import { CursorLine } from "./cursor";
import { SlideData } from "./data";
import { Gallery } from "./gallery";
import { headOf } from "./head";
import { Pointer } from "./pointer";
import { Views } from "./views";

const PARTS = { one: ["first"], side: ["first", "second"], difference: ["difference"] } as const;

export class SlidePane {
  readonly element = h("section", { class: "slide", "aria-label": "Slide", id: "slide" });
  readonly panel: OverlayPanel;
  readonly cursor = new CursorLine();
  readonly gallery: Gallery;
  readonly views: Views;
  readonly pointer: Pointer;
  slide: Slide | null = null;
  info: Info | null = null;
  known: Known | null = null;
  private head = h("header", { class: "slide-head" });
  private notes = h("div", { class: "notes", role: "alert" });
  private said = h("div", { class: "said", role: "status" });
  private drawn: Map<string, Drawn>[] = [];
  private data: SlideData;
  private generation = 0;
  private asking = false;

  constructor(
    private app: App,
    toolbar: HTMLElement,
  ) {
    this.data = new SlideData(app.source);
    this.panel = new OverlayPanel(app.store);
    this.gallery = new Gallery(app.source, (tile) => this.goTo(tile));
    this.views = new Views(app.source, app.store);
    this.pointer = new Pointer(this);
    const parts = [
      this.notes,
      h("div", { class: "frame" }, this.views.element, this.said),
      this.gallery.element,
      this.cursor.element,
    ];
    this.element.append(
      this.head,
      toolbar,
      h("div", { class: "middle" }, h("div", { class: "column" }, ...parts), this.panel.element),
    );
    app.store.on(["slide", "task", "arm", "other", "compare"], () => void this.open());
    app.store.on(["attention", "quality"], () => this.compose());
    app.store.on(["overlay"], () => this.views.layer(this.drawn, app.state.overlay));
  }

  /** Show the slide that the state names, under its arms. */
  async open(): Promise<void> {
    const generation = ++this.generation;
    const stale = () => generation !== this.generation;
    const slide = this.app.slide(this.app.state.slide);
    if (slide === null || slide.id !== this.slide?.id) this.clear();
    this.slide = slide;
    if (!slide) return this.unknown(this.app.state.slide);
    try {
      const lost = lostBy(slide);
      if (lost) throw new SourceError(lost, "broken");
      const info = await this.data.info(slide);
      if (stale()) return;
      if (info.error) throw new SourceError(info.error, "broken");
      this.info = info;
      this.views.arrange(
        info,
        this.titles(),
        this.pointer,
        (text) => this.say(text),
        () => void this.tileFailed(slide),
      );
      await this.fill(slide, info, stale);
    } catch (error) {
      if (!stale()) this.fail(slide, error as Error);
    }
  }

  say(text: string): void {
    this.said.textContent = text;
  }

  note(text: string): void {
    if (![...this.notes.children].some((child) => child.textContent === text)) this.notes.append(h("p", {}, text));
  }

  get annotations(): AnnotationLayer | null {
    return (this.drawn[0]?.get("annotations")?.layer as AnnotationLayer | undefined) ?? null;
  }

  /** What each view shows. */
  titles(): string[] {
    const { compare, arm, other } = this.app.state;
    const [mine, its] = [this.app.title(arm), this.app.title(other)];
    return { one: [mine], side: [mine, its], difference: [`${mine} minus ${its}`] }[compare];
  }

  /** The legends of what is shown, with its opacity. */
  legends(): { legend: Legend; opacity: number }[] {
    const { overlay } = this.app.state;
    const shown = [...this.legendsById()].filter(([id]) => overlay[id] !== undefined);
    return shown.flatMap(([id, legends]) => legends.map((legend) => ({ legend, opacity: overlay[id] as number })));
  }

  private goTo(tile: number): void {
    const { grid } = this.known ?? {};
    if (!grid) return;
    this.views.lookAt({ x: grid.x(tile), y: grid.y(tile) }, grid.size);
    const { overlay } = this.app.state;
    this.app.store.set({ overlay: { ...overlay, top: overlay.top ?? 1 } });
    this.say(`Tile ${whole(tile)}`);
  }

  private clear(): void {
    this.views.clear();
    this.drawn = [];
    this.known = this.info = null;
    delete this.element.dataset.ready;
    this.notes.replaceChildren();
    this.head.replaceChildren();
    this.gallery.element.hidden = true;
    this.panel.show(new Map(), []);
    this.cursor.show([]);
    this.say("");
  }

  private unknown(id: string): void {
    if (id) this.views.clear(message(`No slide ${id}`, "It is not among these results. Choose one in the table."));
  }

  private fail(slide: Slide, error: Error): void {
    this.clear();
    this.head.replaceChildren(...headOf(this.app, slide, null, null));
    const again = h("button", { type: "button", onclick: () => void this.open() }, "Try again");
    this.views.clear(message(`${slide.id} cannot be shown`, error.message, again));
    if (error instanceof SourceError && error.kind === "gone") this.app.failed(error, () => void this.open());
  }

  /** Everything that lies over the slide, and what is said of it. */
  private async fill(slide: Slide, info: Info, stale: () => boolean): Promise<void> {
    const { task, arm, other, compare } = this.app.state;
    const second = compare === "one" ? "" : other;
    const [mine, its] = await Promise.all([this.app.prediction(arm, slide), this.app.prediction(second, slide)]);
    if (stale()) return;
    this.head.replaceChildren(...headOf(this.app, slide, info, mine));
    const wanted = {
      arm: attentionOfArm(task, arm, mine),
      other: attentionOfArm(task, second, its),
      titles: { arm: this.app.title(arm), other: this.app.title(second) },
    };
    const { known, problems } = await gather(this.data, slide, info, wanted);
    if (stale()) return;
    this.notes.replaceChildren(...problems.map((problem) => h("p", {}, problem)));
    this.known = known;
    this.compose();
    this.gallery.show(slide, known);
    this.element.dataset.ready = slide.id;
  }

  private compose(): void {
    const { known } = this;
    if (!known) return;
    this.drawn = PARTS[this.app.state.compare].map((part) => compose(known, this.app.state, part));
    this.panel.show(this.legendsById(), Object.keys(known.grid?.measures ?? {}));
    this.views.layer(this.drawn, this.app.state.overlay);
  }

  /** One legend per view where they differ. */
  private legendsById(): Map<string, Legend[]> {
    const legends = new Map<string, Legend[]>();
    for (const [id, { legend }] of this.drawn.flatMap((drawn) => [...drawn])) {
      const there = legends.get(id) ?? [];
      if (!there.some(({ title }) => title === legend.title)) legends.set(id, [...there, legend]);
    }
    return legends;
  }

  /** Why a tile did not come: the slide vanished, the server is gone, or the tile alone is damaged. */
  private async tileFailed(slide: Slide): Promise<void> {
    if (this.asking) return; // tiles fail by the dozen
    this.asking = true;
    try {
      await this.app.source.bytes(slideKey(slide, "info.json"));
      this.note("Some pixels of this slide cannot be read; they stay white.");
    } catch (error) {
      if (error instanceof SourceError && error.kind === "gone") this.app.failed(error, () => void this.open());
      else this.note((error as Error).message);
    } finally {
      this.asking = false;
    }
  }
}

/** Why there is nothing to ask the server for. */
function lostBy(slide: Slide): string | null {
  if (slide.status === "unreadable") return failure(slide);
  return slide.has_pictures
    ? null
    : "The slide itself is not here, only its features are: what was found is in the table.";
}

const message = (title: string, text: string, ...more: Node[]): HTMLElement =>
  h("div", { class: "failure", role: "alert" }, h("h2", {}, title), h("p", {}, text), ...more);
