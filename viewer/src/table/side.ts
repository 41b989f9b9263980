/** The left side: filters and the table, fed by the state and the chosen arm. */
import type { App } from "../app";
import { h } from "../page/dom";
import { download } from "../exports/download";
import { tableText } from "../exports/tsv";
import type { Predictions } from "../source/model";
import { FilterBar } from "./bar";
import { columnsOf } from "./columns";
import { shown } from "./filter";
import { Grid } from "./grid";
import { type Row, rowsOf } from "./rows";

export class TableSide {
  readonly element: HTMLElement;
  readonly bar: FilterBar;
  readonly grid: Grid;
  private rows: Row[] = [];
  private left: Row[] = [];
  private generation = 0;

  constructor(private app: App) {
    this.bar = new FilterBar(app.store, () => this.export());
    this.grid = new Grid(app.source, { open: (row) => this.open(row), sort: (key) => this.sort(key) });
    this.element = h("section", { class: "side", "aria-label": "Slides" }, this.bar.element, this.grid.element);
    app.store.on(["task", "arm"], () => void this.load());
    app.store.on(["q", "label", "predicted", "outcome", "centre", "sort"], () => this.show());
    app.store.on(["slide"], () => this.grid.mark(app.state.slide, true));
  }

  /** Read what the chosen arm says, then show it. */
  async load(): Promise<void> {
    const generation = ++this.generation;
    let predictions: Predictions | null = null;
    try {
      predictions = await this.app.predictions(this.app.state.arm);
    } catch (error) {
      this.app.failed(error, () => void this.load());
    }
    if (generation !== this.generation) return;
    this.rows = rowsOf(this.app.slides, this.app.state.task, predictions);
    this.grid.fit(columnsOf(this.app.classes), this.rows);
    this.show();
    this.grid.mark(this.app.state.slide, true);
  }

  /** Open the slide that stands so many rows below the open one. */
  step(rows: number): void {
    const row = this.grid.neighbour(rows);
    if (row) this.open(row);
  }

  private open({ slide }: Row): void {
    if (slide.id === this.app.state.slide) return;
    this.app.store.set({ slide: slide.id, x: null, y: null, zoom: null, rotation: 0 });
  }

  /** The first press sorts up, the second down, the third not at all. */
  private sort(key: string): void {
    const { sort } = this.app.state;
    this.app.store.set({ sort: sort === key ? `-${key}` : sort === `-${key}` ? "" : key });
  }

  private show(): void {
    const { state, classes } = this.app;
    this.left = shown(this.rows, state, classes);
    this.bar.show(this.rows, this.left.length, classes);
    this.grid.show(this.left, columnsOf(classes), state.sort, state.slide);
  }

  private export(): void {
    const name = [this.app.overview.name, this.app.state.task, this.app.state.arm].filter(Boolean).join(".");
    download(
      `${name}.slides.tsv`,
      new Blob([tableText(this.left, this.app.classes)], { type: "text/tab-separated-values" }),
    );
  }
}
