/** The overlays beside the slide: shown or not, how opaque, of what, with their legends. */
import { choice, h } from "../page/dom";
import type { Store } from "../state/state";
import { legendElement } from "./legend";
import type { Legend } from "./layer";
import { MEASURES } from "./tilegrid";

export const OVERLAYS: [id: string, title: string, opacity: number, key: string][] = [
  ["attention", "Attention", 0.55, "a"],
  ["annotations", "Annotations", 0.9, "n"],
  ["top", "Top tiles", 1, "b"],
  ["quality", "Tile quality", 0.6, "q"],
  ["tiles", "Tiles", 0.8, "i"],
  ["mask", "Tissue mask", 0.4, "k"],
];

/** What can be said of an overlay: its legends (one per view), or why it is not there. */
export type Available = Map<string, Legend[]>;

export class OverlayPanel {
  readonly element = h("aside", { class: "overlays", "aria-label": "Overlays", id: "overlays" });
  private available: Available = new Map();
  private measures: string[] = [];

  constructor(private store: Store) {
    store.on(["overlay", "attention", "quality"], (_, changed) => {
      if (changed.has("overlay")) this.update();
    });
  }

  show(available: Available, measures: string[]): void {
    Object.assign(this, { available, measures });
    const focused = document.activeElement?.id;
    this.element.replaceChildren(h("h2", {}, "Overlays"), ...OVERLAYS.map((overlay) => this.section(...overlay)));
    if (focused) this.element.querySelector<HTMLElement>(`#${CSS.escape(focused)}`)?.focus();
  }

  toggle(id: string): void {
    const { overlay } = this.store.state;
    const { [id]: shown, ...others } = overlay;
    const usual = OVERLAYS.find(([found]) => found === id)?.[2] ?? 1;
    this.store.set({ overlay: shown === undefined ? { ...overlay, [id]: usual } : others });
  }

  private section(id: string, title: string, usual: number, key: string): HTMLElement {
    const there = this.available.has(id);
    const shown = this.store.state.overlay[id];
    const box = h("input", { type: "checkbox", id: `show-${id}`, disabled: !there, onchange: () => this.toggle(id) });
    box.checked = there && shown !== undefined;
    const slider = h("input", {
      type: "range",
      min: 0,
      max: 1,
      step: 0.05,
      id: `opacity-${id}`,
      "aria-label": `Opacity of ${title}`,
      disabled: !there,
      oninput: () => this.store.set({ overlay: { ...this.store.state.overlay, [id]: Number(slider.value) } }),
    });
    slider.value = String(shown ?? usual);
    const head = h("div", { class: "line" }, h("label", {}, box, title), h("kbd", { title: "Key" }, key), slider);
    const more =
      there && shown !== undefined ? [...this.options(id), ...(this.available.get(id) ?? []).map(legendElement)] : [];
    const none = there ? null : h("p", { class: "none" }, "none for this slide");
    return h("section", { "data-overlay": id }, head, none, ...more);
  }

  private options(id: string): HTMLElement[] {
    const { state } = this.store;
    if (id === "attention") {
      const values: [string, string][] = [
        ["rank", "percentile"],
        ["weight", "weight"],
      ];
      return [
        choice("Colour", values, state.attention, (value) => this.store.set({ attention: value as "rank" | "weight" })),
      ];
    }
    if (id !== "quality") return [];
    const values = MEASURES.filter(([key]) => this.measures.includes(key)).map(([key, name]): [string, string] => [
      key,
      name,
    ]);
    return [choice("Measure", values, state.quality, (quality) => this.store.set({ quality }))];
  }

  /** Only what is shown changed: sliders that are being moved stay as they are. */
  private update(): void {
    const { overlay } = this.store.state;
    for (const [id, title, usual, key] of OVERLAYS) {
      const section = this.element.querySelector<HTMLElement>(`[data-overlay=${id}]`);
      const box = section?.querySelector<HTMLInputElement>("[type=checkbox]");
      if (!section || !box || box.disabled) continue;
      const shown = overlay[id] !== undefined;
      const slider = section.querySelector<HTMLInputElement>("[type=range]") as HTMLInputElement;
      if (box.checked !== shown || (section.querySelector(".legend") === null) === shown) {
        const focused = section.contains(document.activeElement) ? document.activeElement?.id : undefined;
        const fresh = this.section(id, title, usual, key);
        section.replaceWith(fresh);
        if (focused) fresh.querySelector<HTMLElement>(`#${CSS.escape(focused)}`)?.focus();
      } else if (shown && document.activeElement !== slider) slider.value = String(overlay[id]);
    }
  }
}
