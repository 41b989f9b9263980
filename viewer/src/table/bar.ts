/** Search and filters above the table, how many slides they leave, and the table as TSV. */
import { choice, h, onFrame } from "../page/dom";
import { whole } from "../page/format";
import type { State, Store } from "../state/state";
import { type Row } from "./rows";
import { valuesOf } from "./filter";

const OUTCOMES: [string, string][] = [
  ["", "all"],
  ["right", "right"],
  ["wrong", "wrong"],
  ["unscored", "not scored"],
  ["failed", "failed"],
];
const CLEAR: Partial<State> = { q: "", label: "", predicted: "", outcome: "", centre: "" };

export class FilterBar {
  readonly element = h("div", { class: "filters", role: "search", "aria-label": "Slides" });
  readonly search: HTMLInputElement;
  private choices = h("div", { class: "choices" });
  private count = h("span", { class: "count", role: "status" });

  constructor(
    private store: Store,
    exportTable: () => void,
  ) {
    const type = onFrame(() => store.set({ q: this.search.value }));
    this.search = h("input", {
      type: "search",
      placeholder: "Search slides",
      "aria-label": "Search slides",
      id: "search",
      value: store.state.q,
      oninput: type,
    });
    const tsv = h(
      "button",
      { type: "button", id: "tsv", title: "These slides as a table (TSV)", onclick: exportTable },
      "TSV",
    );
    this.element.append(h("div", { class: "line" }, this.search, this.count, tsv), this.choices);
  }

  show(rows: Row[], left: number, classes: string[]): void {
    const { state } = this.store;
    if (this.search.value !== state.q) this.search.value = state.q;
    this.count.textContent = left === rows.length ? `${whole(left)} slides` : `${whole(left)} of ${whole(rows.length)}`;
    const labels = [...new Set([...classes, ...valuesOf(rows, (row) => row.label)])];
    const focused = (document.activeElement as HTMLElement | null)?.closest<HTMLElement>("[data-filter]")?.dataset
      .filter;
    const filtered = Object.entries(CLEAR).some(([key, none]) => state[key as keyof State] !== none);
    this.choices.replaceChildren(
      this.choice("Label", "label", all(labels)),
      this.choice("Prediction", "predicted", all(classes)),
      this.choice("Result", "outcome", OUTCOMES),
      this.choice("Centre", "centre", all(valuesOf(rows, (row) => row.slide.centre))),
      h(
        "button",
        { type: "button", class: "clear", disabled: !filtered, onclick: () => this.store.set(CLEAR) },
        "Clear",
      ),
    );
    if (focused) this.choices.querySelector<HTMLElement>(`[data-filter=${focused}] select`)?.focus();
  }

  private choice(
    name: string,
    key: "label" | "predicted" | "outcome" | "centre",
    values: [string, string][],
  ): HTMLElement {
    const label = choice(name, values, this.store.state[key], (value) => this.store.set({ [key]: value }));
    label.dataset.filter = key;
    return label;
  }
}

const all = (values: string[]): [string, string][] => [
  ["", "all"],
  ...values.map((value): [string, string] => [value, value]),
];
