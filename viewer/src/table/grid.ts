/** The table itself: a real table of which only the rows in view exist, so that 5,000 slides scroll smoothly. */
import { h, onFrame, set } from "../page/dom";
import { type Source, slideKey } from "../source/source";
import { type Column, MOST, widthsOf } from "./columns";
import type { Row } from "./rows";

/** Height of a row in CSS pixels; viewer.css has the same. */
const HEIGHT = 44;
const BEYOND = 8;

interface Handlers {
  open: (row: Row) => void;
  sort: (key: string) => void;
}

export class Grid {
  readonly element: HTMLElement;
  private table = h("table", { role: "grid", tabindex: 0, "aria-label": "Slides", id: "slides" });
  private head = h("tr", { "aria-rowindex": 1 });
  private body = h("tbody");
  private above = h("tr", { class: "space", "aria-hidden": true });
  private below = h("tr", { class: "space", "aria-hidden": true });
  private existing = new Map<number, HTMLTableRowElement>();
  private rows: Row[] = [];
  private columns: Column[] = [];
  private widths = new Map<string, number>();
  private active = 0;
  private opened = "";

  constructor(
    private source: Source,
    private handlers: Handlers,
  ) {
    this.table.append(h("thead", {}, this.head), this.body);
    this.element = h("div", { class: "scroll" }, this.table);
    const draw = onFrame(() => this.draw());
    this.element.addEventListener("scroll", draw, { passive: true });
    const resized = onFrame(() => {
      this.widen();
      this.draw();
    });
    new ResizeObserver(resized).observe(this.element);
    this.table.addEventListener("keydown", (event) => this.key(event));
    this.table.addEventListener("click", (event) => this.click(event));
  }

  /** Set the columns' widths by all rows that there are. */
  fit(columns: Column[], rows: Row[]): void {
    this.widths = widthsOf(columns, rows);
  }

  show(rows: Row[], columns: Column[], sort: string, opened: string): void {
    const kept = this.rows[this.active]?.slide.id;
    Object.assign(this, { rows, columns, opened });
    this.active = Math.max(
      0,
      rows.findIndex(({ slide }) => slide.id === (opened || kept)),
    );
    set(this.table, "aria-rowcount", rows.length + 1);
    this.drawHead(sort);
    this.widen();
    this.existing.clear();
    this.draw();
  }

  /** Mark the open slide; `reveal` scrolls to it. */
  mark(opened: string, reveal: boolean): void {
    this.opened = opened;
    const at = this.rows.findIndex(({ slide }) => slide.id === opened);
    if (at >= 0) this.active = at;
    for (const [index, row] of this.existing) this.state(row, index);
    if (at >= 0 && reveal) this.reveal();
  }

  /** The row `step` further than the open one. */
  neighbour(step: number): Row | undefined {
    const at = this.rows.findIndex(({ slide }) => slide.id === this.opened);
    return this.rows[at < 0 ? 0 : at + step];
  }

  private drawHead(sort: string): void {
    const focused = this.head.contains(document.activeElement)
      ? (document.activeElement as HTMLElement).dataset.key
      : undefined;
    const first = h("th", { scope: "col", class: "picture" }, h("span", { class: "spoken" }, "Picture"));
    this.head.replaceChildren(first, ...this.columns.map((column) => this.headOf(column, sort)));
    if (focused) this.head.querySelector<HTMLElement>(`[data-key="${focused}"]`)?.focus();
  }

  private headOf(column: Column, sort: string): HTMLElement {
    const { key, title, style } = column;
    const order = sort.startsWith("-") ? "descending" : "ascending";
    const sorted = key === sort.replace(/^-/, "") ? order : column.value ? "none" : undefined;
    const press = () => this.handlers.sort(key);
    const button = h("button", { type: "button", title: `Sort by ${title}`, "data-key": key, onclick: press }, title);
    const head = h("th", { scope: "col", class: style, "aria-sort": sorted }, column.value ? button : title);
    const width = this.widths.get(key);
    if (width) head.style.width = `${Math.min(MOST, width)}px`;
    return head;
  }

  /** Give ids that are longer than usual the room that the other columns leave. */
  private widen(): void {
    const [head, whole] = [this.head.querySelector<HTMLElement>("th.id"), this.widths.get("slide") ?? 0];
    if (!head || whole <= MOST) return;
    head.style.width = `${MOST}px`;
    this.table.style.minWidth = "0"; // so that it is as wide as its columns ask for
    const free = Math.max(0, this.element.clientWidth - this.table.offsetWidth);
    this.table.style.minWidth = "";
    head.style.width = `${Math.min(whole, MOST + free)}px`;
  }

  /** Put the rows in view, and a few beyond, between two spaces as high as the others would be. */
  private draw(): void {
    const height = this.element.clientHeight;
    const top = Math.min(this.element.scrollTop, Math.max(0, this.rows.length * HEIGHT - height)); // fewer rows than before
    const first = Math.max(0, Math.floor(top / HEIGHT) - BEYOND);
    const last = Math.min(this.rows.length, Math.ceil((top + height) / HEIGHT) + BEYOND);
    for (const index of [...this.existing.keys()]) if (index < first || index >= last) this.existing.delete(index);
    const rows = [];
    for (let index = first; index < last; index++) {
      const row = this.existing.get(index) ?? this.row(index);
      this.existing.set(index, row);
      rows.push(row);
    }
    this.above.style.height = `${first * HEIGHT}px`;
    this.below.style.height = `${Math.max(0, this.rows.length - last) * HEIGHT}px`;
    this.body.replaceChildren(this.above, ...rows, this.below);
    if (this.rows.length) set(this.table, "aria-activedescendant", `row${this.active}`);
    else this.table.removeAttribute("aria-activedescendant");
  }

  private row(index: number): HTMLTableRowElement {
    const row = this.rows[index] as Row;
    const picture = row.slide.thumbnail
      ? h("img", {
          src: this.source.picture(slideKey(row.slide, "thumbnail.jpg")),
          alt: "",
          loading: "lazy",
          height: 36,
        })
      : h("span", { class: "no-picture", "aria-hidden": true });
    picture.addEventListener("error", () => picture.replaceWith(h("span", { class: "no-picture" })));
    const cells = this.columns.map((column) => h("td", { class: column.style }, column.cell(row)));
    const properties = {
      id: `row${index}`,
      "aria-rowindex": index + 2,
      "data-index": index,
      "data-slide": row.slide.id,
    };
    const element = h("tr", properties, h("td", { class: "picture" }, picture), ...cells);
    this.state(element, index);
    return element;
  }

  private state(row: HTMLTableRowElement, index: number): void {
    set(row, "aria-selected", String(this.rows[index]?.slide.id === this.opened));
    row.classList.toggle("active", index === this.active);
  }

  private click(event: MouseEvent): void {
    const row = (event.target as Element).closest<HTMLElement>("tr[data-index]");
    if (row) this.handlers.open(this.rows[Number(row.dataset.index)] as Row);
  }

  private key(event: KeyboardEvent): void {
    if (event.target !== this.table) return; // a head's button
    const page = Math.max(1, Math.floor(this.element.clientHeight / HEIGHT) - 2);
    const steps: Record<string, number> = {
      ArrowDown: 1,
      ArrowUp: -1,
      PageDown: page,
      PageUp: -page,
      Home: -this.rows.length,
      End: this.rows.length,
    };
    const row = this.rows[this.active];
    if (event.key in steps) this.move(steps[event.key] as number);
    else if ((event.key === "Enter" || event.key === " ") && row) this.handlers.open(row);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private move(step: number): void {
    this.active = Math.min(this.rows.length - 1, Math.max(0, this.active + step));
    this.reveal();
    for (const [index, row] of this.existing) this.state(row, index);
  }

  private reveal(): void {
    const [top, head] = [this.active * HEIGHT, HEIGHT];
    const view = this.element.clientHeight - head;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top + HEIGHT > this.element.scrollTop + view) this.element.scrollTop = top + HEIGHT - view;
    this.draw();
  }
}
