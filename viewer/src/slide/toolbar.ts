/** The buttons above the slide. */
import type { App } from "../app";
import { choice, h, icon, onFrame, set } from "../page/dom";
import type { Actions } from "./actions";
import { magnificationText } from "./scale";
import type { SlidePane } from "./pane";

export const MAGNIFICATIONS = [1.25, 2.5, 5, 10, 20, 40];

const ICONS = {
  out: "M3 8h10",
  in: "M3 8h10M8 3v10",
  fit: "M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4",
  left: "M3 3v4h4M3.5 7a5 5 0 1 1 0 3.5",
  right: "M13 3v4H9M12.5 7a5 5 0 1 0 0 3.5",
  measure: "M2 11l9-9 3 3-9 9zM5 8l1.5 1.5M7.5 5.5L9 7",
  camera: "M2 5h3l1-2h4l1 2h3v8H2zM8 6.5a2.2 2.2 0 1 0 .01 0",
  screen: "M2 3h12v10H2zM2 3l4 4M14 13l-4-4",
};

export class Toolbar {
  readonly element = h("div", { class: "toolbar", role: "toolbar", "aria-label": "Slide" });
  private zoom = h("select", { "aria-label": "Magnification", id: "magnification" });
  private measure: HTMLElement | null = null;

  constructor(private app: App) {
    app.store.on(["task", "arm", "other", "compare"], () => this.arms());
  }

  /** Made after the pane, which contains it. */
  fill(pane: SlidePane, actions: Actions): void {
    this.measure = button("measure", "Measure (m)", () => actions.measure());
    this.element.append(
      group(
        button("out", "Zoom out (−)", () => actions.zoomBy(1 / 1.5)),
        this.zoom,
        button("in", "Zoom in (+)", () => actions.zoomBy(1.5)),
        button("fit", "Whole slide (0)", () => actions.fit()),
      ),
      group(
        button("left", "Rotate left (Shift+R)", () => actions.rotateBy(-90)),
        button("right", "Rotate right (r)", () => actions.rotateBy(90)),
        this.measure,
      ),
      h("span", { class: "group", id: "compare" }),
      exports(actions),
      group(
        button("camera", "Picture with legend, PNG (e)", () => void actions.picture()),
        button("screen", "Full screen (f)", () => actions.fullScreen()),
      ),
    );
    this.zoom.addEventListener("change", () =>
      this.zoom.value === "fit" ? actions.fit() : actions.magnify(Number(this.zoom.value)),
    );
    this.compare = (mode) => actions.compare(mode);
    this.arms();
    this.magnification(pane);
    this.app.store.on(["slide"], () => this.magnification(pane));
    pane.views.onMoved = onFrame(() => this.magnification(pane));
    pane.views.onMeasuring = () =>
      set(this.measure as HTMLElement, "aria-pressed", String(pane.views.measuring.active));
  }

  private compare: (mode: "one" | "side" | "difference") => void = () => {};

  private magnification(pane: SlidePane): void {
    const view = pane.views.first;
    const text = view && pane.info ? magnificationText(view.place().zoom, pane.info.mpp) : "–";
    if (this.zoom.options[0]?.textContent === text) return;
    const steps = pane.info?.mpp ? MAGNIFICATIONS.map((times) => h("option", { value: times }, `${times}×`)) : [];
    this.zoom.replaceChildren(
      h("option", { value: "now", selected: true }, text),
      h("option", { value: "fit" }, "whole slide"),
      ...steps,
    );
  }

  private arms(): void {
    const { compare, other } = this.app.state;
    const others = this.app.others();
    const place = this.element.querySelector("#compare");
    if (!place) return;
    const modes: [string, string][] = [
      ["one", "one arm"],
      ["side", "side by side"],
      ["difference", "difference"],
    ];
    const view = choice("View", modes, compare, (mode) => this.compare(mode as "one"));
    const second = choice(
      "with",
      others.map((id) => [id, this.app.title(id)]),
      other,
      (id) => this.app.store.set({ other: id }),
    );
    place.replaceChildren(...(others.length ? [view, ...(compare === "one" ? [] : [second])] : []));
  }
}

const group = (...buttons: HTMLElement[]): HTMLElement => h("span", { class: "group" }, ...buttons);

const button = (name: keyof typeof ICONS, title: string, run: () => void): HTMLElement =>
  h("button", { type: "button", title, "aria-label": title, "data-action": name, onclick: run }, icon(ICONS[name]));

function exports(actions: Actions): HTMLElement {
  const menu = h("details", { class: "menu" }, h("summary", {}, "Export"));
  const item = (text: string, run: () => void) =>
    h(
      "button",
      {
        type: "button",
        onclick: () => {
          menu.open = false;
          run();
        },
      },
      text,
    );
  menu.append(
    h(
      "div",
      { class: "items" },
      item("View with legend (PNG)", () => void actions.picture()),
      item("Annotations (GeoJSON, QuPath)", () => actions.annotations()),
      item("100 most attended tiles (GeoJSON, QuPath)", () => actions.attended()),
    ),
  );
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary")?.focus();
    event.stopPropagation(); // it ends no measuring
  });
  menu.addEventListener("focusout", (event) => {
    if (!menu.contains(event.relatedTarget as Node | null)) menu.open = false;
  });
  return menu;
}
